from pathlib import Path

import numpy as np
import pytest

from rsa.evaluation import features
from rsa.evaluation.features import Features, read_features, write_features

LABELS = np.array([2, 0, 1, 1, 0])
X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_what_is_written_in_batches_is_read_as_one_memory_mapped_array(tmp_path: Path):
    write_features(tmp_path, "train", LABELS, iter([X[:2], X[2:4], X[4:]]))
    got = read_features(tmp_path, "train")
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
        read_features(tmp_path, "train")


@pytest.mark.parametrize("name", ["train.npy", "train_labels.npy"])
@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes | None):
    write_features(tmp_path, "train", LABELS, iter([X]))
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:-9] if content is None else content)
    with pytest.raises(ValueError, match=rf"^\S+/{name} is cut off or damaged \(.+\): run the `extract` stage again$"):
        read_features(tmp_path, "train")


@pytest.mark.parametrize("limit", [0, 2**30])
def test_a_part_is_in_memory_or_on_disk_and_the_same(limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features, "IN_MEMORY_BYTES", limit)
    monkeypatch.setattr(features, "COPIED_BYTES", 24)  # two samples at a time
    indices = np.array([4, 0, 1])
    part = Features(X, LABELS).part(indices)
    np.testing.assert_array_equal(part.x, X[indices])
    np.testing.assert_array_equal(part.y, LABELS[indices])
    assert isinstance(part.x, np.memmap) == (limit == 0)
