from pathlib import Path

import numpy as np
import pytest

from rsa.evaluation import features
from rsa.evaluation.features import Features, read_features, write_features, write_origin

LABELS = np.array([2, 0, 1, 1, 0])
X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder with the features of both splits."""
    write_features(tmp_path, "train", LABELS, iter([X[:2], X[2:4], X[4:]]))
    write_features(tmp_path, "test", LABELS[:4], iter([X[:4]]))
    write_origin(tmp_path, {"encoder": "1234"})
    return tmp_path


def test_what_is_written_in_batches_is_read_as_one_memory_mapped_array(written: Path):
    got, test, origin = read_features(written)
    assert (len(test.x), origin["encoder"]) == (4, "1234")
    np.testing.assert_array_equal(got.x, X)
    np.testing.assert_array_equal(got.y, LABELS)
    assert got.x.dtype == np.float32
    assert isinstance(got.x, np.memmap)
    assert not got.x.flags.writeable  # nobody changes the features on disk by accident


def test_batches_are_taken_one_at_a_time(tmp_path: Path):
    """Bounded memory: what has been yielded is in the file before the next batch is made."""

    def batches():
        for i in range(5):
            if i:
                np.testing.assert_array_equal(np.load(tmp_path / "train.npy", mmap_mode="r")[:i], X[:i])
            yield X[i : i + 1]

    write_features(tmp_path, "train", LABELS, batches())


def test_a_full_disk_is_an_error_and_no_signal(full_disk: Path):
    with pytest.raises(OSError, match="No space left"):
        write_features(full_disk, "train", np.zeros(20000, np.int64), iter([np.ones((20000, 3), np.float32)]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_with_their_place(tmp_path: Path, value: float):
    bad = X.copy()
    bad[3, 1] = value
    with pytest.raises(FloatingPointError, match="features of test must be finite, got others among samples 2 to 3"):
        write_features(tmp_path, "test", LABELS, iter([bad[:2], bad[2:4], bad[4:]]))


def test_missing_features_name_the_stage_to_run(tmp_path: Path):
    with pytest.raises(ValueError, match=r"train\.npy does not exist: run the `extract` stage first"):
        read_features(tmp_path)


@pytest.mark.parametrize("name", ["train.npy", "test_labels.npy", "origin.json"])
@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_damaged_file_is_named(written: Path, name: str, content: bytes | None):
    file = written / name
    file.write_bytes(file.read_bytes()[:-9] if content is None else content)
    with pytest.raises(ValueError, match=rf"^\S+/{name} is cut off or damaged \(.+\): run the `extract` stage again$"):
        read_features(written)


@pytest.mark.parametrize("name", ["train.npy", "train_labels.npy", "test.npy", "test_labels.npy"])
def test_a_flipped_bit_is_noticed(written: Path, name: str):
    content = bytearray((written / name).read_bytes())
    content[-4] ^= 1
    (written / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{written} has other bytes than when it was made: run the `extract` stage again"):
        read_features(written)


@pytest.mark.parametrize("limit", [0, 2**30])
def test_a_part_is_in_memory_or_on_disk_and_the_same(limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features, "IN_MEMORY_BYTES", limit)
    monkeypatch.setattr(features, "COPIED_BYTES", 24)  # two samples at a time
    indices = np.array([4, 0, 1])
    part = Features(X, LABELS).part(indices)
    np.testing.assert_array_equal(part.x, X[indices])
    np.testing.assert_array_equal(part.y, LABELS[indices])
    assert isinstance(part.x, np.memmap) == (limit == 0)
