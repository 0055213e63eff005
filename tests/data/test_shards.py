"""Shards: the same bytes for any number of workers, readable by others, continued after a kill, checked in full."""

import gc
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import webdataset
from nvidia.dali import fn, types
from PIL import Image, ImageOps

from rsa.data import decoding
from rsa.data.evaluation_images import evaluation_images
from rsa.data.files import sha256
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.shards import write_shards
from rsa.data.sources import Sample, Source
from rsa.data.verify import verify
from rsa.data.views import candidates
from rsa.fingerprint import fingerprint
from rsa.params.evaluation import Geometry
from tests.data.photos import encoded, photographs, shard_params, source_of


def tree(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def write(images: dict[str, bytes], folder: Path, workers: int | None = 1, **changes: object) -> Path:
    folder.mkdir()
    work = folder.parent / f"{folder.name}.work"
    write_shards(source_of(images), shard_params(**changes), {"dataset": "photos"}, folder, work, workers)
    return folder


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_same_bytes_for_any_number_of_workers(images, shards, tmp_path, workers):
    assert tree(write(images, tmp_path / "again", workers)) == tree(shards)


def test_bytes_are_kept_and_labels_belong_to_them(images, shards):
    for name in ("train", "test"):
        split = Split(shards, name)
        keys = [row["name"].decode().removesuffix(".jpg") for row in split.rows]
        assert sorted(keys) == sorted(sample.key for sample in source_of(images).splits[name])
        for id, key in enumerate(keys):
            assert split.read(id).tobytes() == images[key]
            assert split.labels[id] == int(key[-3:]) % 2
            image = Image.open(io.BytesIO(images[key]))
            assert (split.rows[id]["width"], split.rows[id]["height"]) == image.size


def test_the_shuffle_is_by_seed(images, shards, tmp_path):
    other = write(images, tmp_path / "other", seed=1)
    order = [[row["name"] for row in Split(folder, "train").rows] for folder in (shards, other)]
    assert order[0] != order[1] != sorted(order[1])
    assert sorted(order[0]) == sorted(order[1])


def test_shards_of_about_so_many_bytes(images, tmp_path):
    folder = write(images, tmp_path / "bytes", samples_per_shard=None, bytes_per_shard=60_000)
    sizes = [shard["bytes"] for shard in Split(folder, "train").shards]
    assert len(sizes) > 2
    assert 30_000 < np.mean(sizes[:-1]) < 90_000


def test_bad_images_do_not_count_for_the_size_of_a_shard(images, tmp_path):
    broken = {**images, "photo_007": b"junk", "photo_008": b""}
    folder = write(broken, tmp_path / "bytes", samples_per_shard=None, bytes_per_shard=60_000, max_bad_samples=2)
    assert len(Split(folder, "train").shards) > 2
    assert len(Split(folder, "train")) == 48


def test_what_training_cannot_decode_is_stored_as_png_and_other_pixels_are_found(images, tmp_path):
    gif = encoded(photographs(1)[0], "GIF")
    folder = write({**images, "photo_007": gif}, tmp_path / "gif")
    split = Split(folder, "train")
    id = split.keys.index("photo_007")
    assert split.rows[id]["name"] == b"photo_007.png"
    want = np.asarray(Image.open(io.BytesIO(gif)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(split.read(id).tobytes()))), want)
    assert verify(folder) == []


def test_resized_on_request_and_recorded(images, tmp_path):
    folder = write(images, tmp_path / "small", resize={"short_side": 48, "jpeg_quality": 95})
    split = Split(folder, "train")
    for id, row in enumerate(split.rows):
        image = Image.open(io.BytesIO(split.read(id).tobytes()))
        original = images[row["name"].decode().removesuffix(".jpg")]
        assert image.size == (row["width"], row["height"])
        assert min(image.size) == min(48, *Image.open(io.BytesIO(original)).size)
        if min(Image.open(io.BytesIO(original)).size) <= 48:
            assert split.read(id).tobytes() == original
    described = json.loads((folder / "source.json").read_text())
    assert (described["dataset"], described["bad"]) == ("photos", [])
    assert described["shards"]["resize"] == {"short_side": 48, "jpeg_quality": 95}
    assert json.loads((folder / "manifest.json").read_text()).keys() == {"classes", "splits"}  # what later stages depend on


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_them(images, shards):
    urls = [str(path) for path in sorted((shards / "train").glob("*.tar"))]
    read = {sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False)}
    gc.collect()  # webdataset leaves its files to the collector
    assert len(read) == 50
    for key, sample in read.items():
        assert sample["jpg"] == images[key]
        assert int(sample["cls"]) == int(key[-3:]) % 2


def test_dalis_own_reader_reads_them(images, shards):
    urls = [str(path) for path in sorted((shards / "train").glob("*.tar"))]

    def read():
        data, label = fn.readers.webdataset(paths=urls, ext=["jpg", "cls"], dtypes=[types.UINT8, types.UINT8])
        return data, label

    pipeline = decoding.build(read, batch_size=50, threads=1, gpu=None)
    data, labels = pipeline.run()
    found = {data.at(i).tobytes(): int(labels.at(i).tobytes()) for i in range(50)}
    assert found == {images[key]: int(key[-3:]) % 2 for key in list(images)[:50]}


FORMATS = {
    "gray.jpg": lambda image: encoded(image.convert("L")),
    "cmyk.jpg": lambda image: encoded(image.convert("CMYK")),
    "progressive.jpg": lambda image: encoded(image, progressive=True),
    "palette.png": lambda image: encoded(image.quantize(64), "PNG"),
    "transparent_palette.png": lambda image: encoded(image.quantize(64), "PNG", transparency=3),
    "rgba.png": lambda image: encoded(image.convert("RGBA"), "PNG"),
    "gray_alpha.png": lambda image: encoded(image.convert("LA"), "PNG"),
    "bilevel.png": lambda image: encoded(image.convert("1"), "PNG"),
    "lossless.webp": lambda image: encoded(image, "WEBP", lossless=True),
    "plain.bmp": lambda image: encoded(image, "BMP"),
    "plain.tiff": lambda image: encoded(image, "TIFF"),
    **{f"exif{turn}.jpg": partial(lambda image, turn: encoded(image, exif=_exif(turn)), turn=turn) for turn in range(1, 9)},
}


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_image_comes_out_as_pillow_shows_it(name, tmp_path):
    data = FORMATS[name](photographs(1)[0].resize((61, 40)))
    source = Source(["any"], {"train": [Sample("one", name.split(".")[1], 0, name)]}, lambda sample: data)
    folder = tmp_path / "one"
    folder.mkdir()
    write_shards(source, shard_params(), {}, folder, tmp_path / "work", 1)
    want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    split = Split(folder, "train")
    assert (split.rows[0]["height"], split.rows[0]["width"]) == want.shape[:2]
    (got,) = evaluation_images(split, Geometry(resize=40, crop=40, interpolation="linear"), batch_size=1, threads=1)
    top, left = (round((size - 40) / 2) for size in want.shape[:2])
    np.testing.assert_array_equal(got[0].numpy(), want[top : top + 40, left : left + 40])


BAD = {"truncated": lambda data: data[: len(data) // 2], "empty": lambda data: b"", "garbage": lambda data: b"not an image" * 9}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_named_and_left_out_only_if_params_allow(images, tmp_path, kind, capsys):
    broken = {**images, "photo_007": BAD[kind](images["photo_007"])}
    with pytest.raises(ValueError, match=r"1 images cannot be decoded(.|\n)*made/photo_007\.jpg: "):
        write(broken, tmp_path / "strict")
    folder = write(broken, tmp_path / "lenient", max_bad_samples=1)
    assert "max_bad_samples allows:\n  made/photo_007.jpg: " in capsys.readouterr().out
    split = Split(folder, "train")
    assert len(split) == 49
    assert b"photo_007.jpg" not in split.rows["name"]
    (bad,) = json.loads((folder / "source.json").read_text())["bad"]
    assert bad.startswith("made/photo_007.jpg: ")
    assert verify(folder) == []


def test_an_interrupted_run_goes_on_without_redoing_finished_shards(images, shards, tmp_path, monkeypatch):
    source, work = source_of(images), tmp_path / "work"
    out = tmp_path / "out"
    out.mkdir()

    def cut_off(sample: Sample) -> bytes:
        if sample.key == "photo_020":
            raise KeyboardInterrupt
        return images[sample.key]

    with pytest.raises(KeyboardInterrupt):
        write_shards(replace(source, read=cut_off), shard_params(), {}, out, work, 1)
    finished = {path: path.stat().st_mtime_ns for path in work.rglob("*.tar") if path.with_suffix(".json").exists()}
    assert finished
    write_shards(source, shard_params(), {"dataset": "photos"}, out, work, 1)
    assert tree(out) == tree(shards)
    for path, when in finished.items():  # not written again; and still there, should the run be killed before its end
        assert path.stat().st_mtime_ns == (out / path.relative_to(work)).stat().st_mtime_ns == when


def test_workers_leave_the_signals_of_their_group_to_the_run(images, shards, tmp_path):
    """An exception in the middle of DALI's run would give every later image the pixels of the one before."""

    def read(sample: Sample) -> bytes:
        os.kill(os.getpid(), signal.SIGINT if sample.label else signal.SIGTERM)
        return images[sample.key]

    write_shards(replace(source_of(images), read=read), shard_params(), {"dataset": "photos"}, tmp_path, tmp_path / "work", 1)
    shutil.rmtree(tmp_path / "work")
    assert tree(tmp_path) == tree(shards)


@pytest.mark.parametrize("suffix", [".tar", ".npy", ".json"])
@pytest.mark.parametrize("place", ["cut off", "first byte", "last byte"])
def test_a_finished_shard_that_was_damaged_is_written_again(suffix, place, images, shards, tmp_path):
    source, work = source_of(images), tmp_path / "work"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    write_shards(source, shard_params(), {"dataset": "photos"}, tmp_path / "first", work, 1)
    file = (work / "train/000000.tar").with_suffix(suffix)
    content = bytearray(file.read_bytes())
    file.unlink()  # its content is that of a result, too
    if place == "cut off":
        del content[len(content) // 2 :]
    else:
        content[0 if place == "first byte" else -1] ^= 1
    file.write_bytes(content)
    write_shards(source, shard_params(), {"dataset": "photos"}, tmp_path / "second", work, 1)
    assert tree(tmp_path / "second") == tree(shards)


def test_workers_end_with_a_killed_run(images, tmp_path):
    """Else they would keep its lock, and every later run would be refused."""
    source = replace(source_of(images), read=lambda sample: time.sleep(60))
    run = multiprocessing.get_context("fork").Process(
        target=write_shards, args=(source, shard_params(), {}, tmp_path, tmp_path, 2)
    )
    run.start()
    while len(workers := psutil.Process(run.pid).children()) < 2:
        time.sleep(0.01)
    run.kill()
    run.join()
    assert psutil.wait_procs(workers, timeout=10)[1] == []


def damage(shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards to spoil."""
    return Path(shutil.copytree(shards, tmp_path / "damaged"))


@pytest.mark.parametrize("name", ["manifest.json", "train/index.npy"])
@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_damaged_manifest_or_index_is_named(name, content, shards, tmp_path):
    folder = damage(shards, tmp_path)
    file = folder / name
    file.write_bytes(file.read_bytes()[:-9] if content is None else content)
    with pytest.raises(ValueError, match=rf"^{file} is cut off or damaged \(.+\): run the `shard` stage again$"):
        Split(folder, "train")


def first_tar(folder: Path) -> Path:
    return folder / "train" / "000000.tar"


def test_verify_finds_nothing_in_whole_shards(shards):
    assert verify(shards) == []


FAULTS = {
    "truncated": (lambda tar: tar.write_bytes(tar.read_bytes()[:-512]), r"000000\.tar must have \d+ bytes, got \d+"),
    "missing": (lambda tar: tar.unlink(), r"000000\.tar must have \d+ bytes, got no such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_tar_stops_the_loader_at_its_start(shards, tmp_path, fault):
    folder = damage(shards, tmp_path)
    spoil, message = FAULTS[fault]
    spoil(first_tar(folder))
    with pytest.raises(ValueError, match=message + r".*run the `shard` stage again"):
        Split(folder, "train")
    assert len(verify(folder)) == 1
    assert "000000.tar" in verify(folder)[0]


def test_a_stale_index_never_yields_another_image(images, shards, tmp_path, tiny):
    """The tars are of another shuffle with the same sizes: every read finds another name."""
    folder = damage(shards, tmp_path)
    split = Split(folder, "train")
    rows = split.rows.copy()
    rows[["name", "label"]] = rows[["name", "label"]][::-1]
    np.save(folder / "train" / "index.npy", rows)
    with pytest.raises(ValueError, match=r"train/index\.npy has other bytes than when it was sharded"):
        Split(folder, "train")
    split.rows = rows
    with pytest.raises(ValueError, match=r"000000\.tar: sample 'photo_\d+\.jpg' \(id 0\) is not where the index says"):
        split.read(0)
    views = TrainingViews(split, candidates(tiny.views), batch_size=8, seed=0, threads=1)
    with pytest.raises((ValueError, RuntimeError), match="not where the index says"):
        next(iter(views))
    assert any("index.npy: must have sha256" in fault for fault in verify(folder))


def test_a_shard_changed_after_indexing_is_found(shards, tmp_path, tiny):
    """Same size, same member name, other bytes: the loader says which; verify knows by the shard's sha256."""
    folder = damage(shards, tmp_path)
    split = Split(folder, "train")
    row = split.rows[3]
    with first_tar(folder).open("r+b") as tar:
        tar.seek(int(row["offset"]))
        tar.write(b"\0" * int(row["size"]))
    name = row["name"].decode()
    views = TrainingViews(Split(folder, "train"), candidates(tiny.views), batch_size=50, seed=0, threads=1)
    with pytest.raises(ValueError, match=rf"000000\.tar: sample '{name}' \(id 3\) has other bytes than when it was sharded"):
        next(iter(views))
    assert any("000000.tar: must have sha256" in fault for fault in verify(folder))


def test_members_of_the_tar_are_plain(shards):
    with tarfile.open(first_tar(shards)) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}
    assert [Path(m.name).suffix for m in members] == [".jpg", ".cls"] * 16


ROOT = Path(__file__).parents[2]
WITH_ROOT = {**os.environ, "PYTHONPATH": str(ROOT)}
RAW = str(ROOT / "requirements.lock")


def shard_stage(out: Path, params: Path) -> list[str]:
    """Its command, which wants `write_code_file` in its folder first."""
    stage = [sys.executable, "-m", "pipeline.shard", "--dataset", "digits", "--raw", RAW]
    return [*stage, "--params", str(params), "--out", str(out)]


def test_another_raw_than_the_params_have_is_refused(tmp_path, write_params):
    """The stage reads what params.yaml names, and DVC watches what the command names."""
    write_code_file(tmp_path)
    run = subprocess.run(
        shard_stage(tmp_path / "digits", write_params({})), cwd=tmp_path, env=WITH_ROOT, capture_output=True, text=True
    )
    assert run.stderr == f"shard: error: raw must be datasets.digits.raw (requirements.lock), got {RAW}\n"


def test_a_fault_in_a_dataset_is_one_line(tmp_path, write_params):
    """Of the source that it names, not of all others."""
    write_code_file(tmp_path)
    params = write_params({"datasets.digits.raw": "~/digits"})
    run = subprocess.run(shard_stage(tmp_path / "digits", params), cwd=tmp_path, env=WITH_ROOT, capture_output=True, text=True)
    assert run.stderr.startswith(f"shard: error: {params}: datasets.digits.raw: a path must be written out, without '~'")
    assert len(run.stderr.splitlines()) == 1


def write_code_file(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code/shard").write_text(fingerprint("pipeline.shard"))


def test_two_runs_into_one_folder_at_once(tmp_path, write_params):
    write_code_file(tmp_path)
    params = write_params({"shards.samples_per_shard": 20, "datasets.digits.raw": RAW})
    out = tmp_path / "digits"
    with subprocess.Popen(
        shard_stage(out, params), cwd=tmp_path, env=WITH_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        while not (tmp_path / ".digits.partial").exists():
            time.sleep(0.01)
            assert first.poll() is None
        os.kill(first.pid, signal.SIGSTOP)  # hold it in the middle
        second = subprocess.run(shard_stage(out, params), cwd=tmp_path, env=WITH_ROOT, capture_output=True, text=True)
        os.kill(first.pid, signal.SIGCONT)
        errors = first.communicate()[1]
    assert second.returncode == 1
    assert "another run is writing" in second.stderr
    assert first.returncode == 0, errors
    assert verify(out) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small tmpfs")
def test_a_full_disk(tmp_path, write_params):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        write_code_file(disk)
        params = write_params({"datasets.digits.raw": RAW})
        run = subprocess.run(shard_stage(Path("digits"), params), cwd=disk, env=WITH_ROOT, capture_output=True, text=True)
        assert run.returncode == 1
        assert "no space left" in run.stderr
        assert not (disk / "digits").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_classes_that_no_classifier_can_learn_are_named_before_pretraining(images, tmp_path):
    source = source_of(images)
    second = source.classes[1]

    def refused(name: str, splits: dict[str, list[Sample]], broken: set[str] = frozenset()) -> str:
        def read(sample: Sample) -> bytes:
            return b"junk" if sample.key in broken else images[sample.key]

        (tmp_path / name).mkdir()
        changed = replace(source, splits=splits, read=read)
        with pytest.raises(ValueError, match="split 'train' must have") as why:
            write_shards(changed, shard_params(max_bad_samples=99), {}, tmp_path / name, tmp_path / f"{name}.work", 1)
        assert not list((tmp_path / name).iterdir())
        return str(why.value)

    train, test = source.splits["train"], source.splits["test"]
    of_second = {sample.key for sample in train if sample.label == 1}
    assert f"got none of class {second!r}" in (text := refused("emptied", source.splits, of_second))
    assert f"{sorted(of_second)[0]}.jpg: " in text
    only_first = [sample for sample in train if sample.label == 0]
    assert f"got none of class {second!r}" in refused("tested only", {"train": only_first, "test": test})
