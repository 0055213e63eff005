"""Class folders: on disk, in a zip, in a tar."""

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsa.data.sources import Source, open_source
from rsa.data.sources.folder import Folder

FILES = {  # no pixels: a source doesn't decode
    f"{split}/{name}/{i}.{extension}": f"{split} {name} {i}".encode()
    for split in ("train", "test")
    for name in ("cat", "dog", "eel")
    for i, extension in enumerate(("jpg", "JPEG", "png", "tif"))
}


def folder(raw: Path, **changes: Any) -> Folder:
    values = {
        "source": "folder",
        "raw": str(raw),
        "train": "train",
        "test": "test",
        "test_fraction": None,
        "train_samples": None,
        "test_samples": None,
        "classes": None,
    }
    return Folder.model_validate({**values, **changes})


def opened(raw: Path, seed: int = 0, **changes: Any) -> Source:
    return open_source(folder(raw, **changes), seed)


def write(top: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    return write(path / "raw", files)


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path / "raw.zip", "w") as archive:
        for i, (name, content) in enumerate(sorted(files.items(), reverse=True)):
            archive.writestr(name, content, (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)[i % 2])
    return path / "raw.zip"


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    write(path / "in_tar", files)
    with tarfile.open(path / "raw.tar", "w") as archive:
        archive.add(path / "in_tar", ".")  # members begin with ./
    return path / "raw.tar"


Pack = Callable[[Path, dict[str, bytes]], Path]
packed = pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar])


@packed
def test_every_packing_gives_the_same_samples_and_bytes(tmp_path: Path, pack: Pack):
    source = opened(pack(tmp_path, FILES))
    assert source.classes == ["cat", "dog", "eel"]
    assert list(source.splits) == ["train", "test"]
    for split, samples in source.splits.items():
        assert [(s.key, s.extension, s.label) for s in samples] == [
            (f"{name}/{i}", extension, label)
            for label, name in enumerate(("cat", "dog", "eel"))
            for i, extension in enumerate(("jpg", "jpg", "png", "tiff"))
        ]
        assert [source.read(s) for s in samples] == [f"{split} {s.key.replace('/', ' ')}".encode() for s in samples]


@packed
def test_the_top_may_hold_the_classes_and_a_share_of_each_is_held_out(tmp_path: Path, pack: Pack):
    files = {name.removeprefix("train/"): content for name, content in FILES.items() if name.startswith("train")}
    source = opened(pack(tmp_path, files), train=".", test=None, test_fraction=0.25)
    assert [sample.label for sample in source.splits["test"]] == [0, 1, 2]
    assert len({sample.key for split in source.splits.values() for sample in split}) == len(files)


@packed
def test_what_archivers_and_editors_leave_is_not_data(tmp_path: Path, pack: Pack):
    junk = [
        "__MACOSX/train/cat/._0.jpg",
        "train/cat/._0.jpg",
        "train/.ipynb_checkpoints/0.jpg",
        "train/cat/notes.txt",
        "train/a.jpg",
        "train/cat/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "train/$RECYCLE.BIN/0.jpg",
    ]
    source = opened(pack(tmp_path, {**FILES, **dict.fromkeys(junk, b"")}))
    assert source.classes == ["cat", "dog", "eel"]
    assert len(source.splits["train"]) == 12


@pytest.mark.parametrize("pack", [as_zip, as_tar])
@pytest.mark.parametrize("written", ["{0}//{1}", "{0}/./{1}", ".//{0}/{1}"])
def test_paths_may_be_written_in_other_ways(tmp_path: Path, pack: Pack, written: str):
    source = opened(pack(tmp_path, {written.format(*name.split("/", 1)): content for name, content in FILES.items()}))
    assert [(sample.key, sample.label) for sample in source.splits["train"]] == [
        (f"{name}/{i}", label) for label, name in enumerate(("cat", "dog", "eel")) for i in range(4)
    ]


def test_accents_of_a_mac_are_those_of_others(tmp_path: Path):
    """A Mac writes é as e and an accent."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    files = {name.replace("cat", composed if name.startswith("train") else decomposed): data for name, data in FILES.items()}
    raw = as_folder(tmp_path, files | {f"train/dog/{name}.jpg": b"twin" for name in (composed, decomposed)})
    source = opened(raw, classes=[decomposed, "dog"])
    assert source.classes == [composed, "dog"]
    assert [len(samples) for samples in source.splits.values()] == [10, 8]
    assert source.read(source.splits["test"][0]) == b"test cat 0"


@packed
def test_a_class_list_chooses_classes_for_both_splits(tmp_path: Path, pack: Pack):
    source = opened(pack(tmp_path, FILES), classes=["eel", "cat"])
    assert source.classes == ["cat", "eel"]
    assert [[s.label for s in samples] for samples in source.splits.values()] == [[0] * 4 + [1] * 4] * 2


def test_a_class_list_can_be_a_file_that_dvc_watches(tmp_path: Path):
    raw = as_folder(tmp_path, FILES)
    (raw / "classes.txt").write_text("eel\n\ndog\n")
    assert opened(raw, classes=str(raw / "classes.txt")).classes == ["dog", "eel"]
    with pytest.raises(ValueError, match=r"inside `raw` .* which is all that DVC watches; got 'elsewhere.txt'"):
        folder(raw, classes="elsewhere.txt")
    with pytest.raises(ValueError, match=r"readable text file, got '.*none\.txt': No such file"):
        opened(raw, classes=str(raw / "none.txt"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "dug"], r"has no class folder 'dug' under 'train' \(did you mean dog\?\)"),
        (["cat", "dog", "cat"], "each once, got cat twice"),
        ([], "at least one class, each once, got none"),
    ],
)
def test_a_wrong_class_list_is_refused_by_name(tmp_path: Path, classes: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        opened(as_folder(tmp_path, FILES), classes=classes)


def test_balanced_subsets_are_drawn_by_seed(tmp_path: Path):
    raw = as_folder(tmp_path, FILES)
    first, again, other = (opened(raw, seed, train_samples=6, test_samples=4).splits for seed in (1, 1, 2))
    assert first == again != other
    assert [sample.label for sample in first["train"]] == [0, 0, 1, 1, 2, 2]
    assert [sample.label for sample in first["test"]] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({"train/cat/a.gif": b""}, {}, "must hold images in class folders under 'train'.* got none among 3 "),
        ({**FILES, "test/fox/1.jpg": b""}, {}, "test/fox/1.jpg is of class 'fox', which has no training images"),
        (
            {f"mine/{name}": data for name, data in FILES.items()},
            {},
            "got none .*; there are some under 'mine/train': write it so",
        ),
        ({f"mine/{name}": data for name, data in FILES.items()}, {"train": "Mine/Train"}, "some under 'mine/train': write it so"),
        (FILES, {"train": "Train"}, "some under 'train': write it so"),
        (FILES, {"test": "./train/"}, "no image may be of both splits, train and test, got 12"),
        (FILES, {"test": "val"}, "must hold images in class folders under 'val'"),
        (FILES, {"train": "trains"}, r"got none .*\(did you mean train\?\)"),
        ({"1.jpg": b"", "2.jpg": b""}, {"train": "."}, "got none among 2 .*; there are some without a class: put those of each"),
        (FILES, {"train_samples": 15}, "class 'cat' must have at least 5 images for a balanced subset of 15, got 4: "),
        ({**FILES, "train/fox/1.jpg": b""}, {"test_samples": 8}, "class 'fox' must have at least 2 images for .* of 8, got 0"),
        (
            {"train/fox/1.jpg": b""},
            {"test": None, "test_fraction": 0.5},
            "class 'fox' must have at least 2 images for a split, got 1",
        ),
        ({**FILES, "train/fox/readme": b""}, {}, "class 'fox' must have images under 'train', got none: add some or remove"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, files: dict[str, bytes], changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        opened(as_folder(tmp_path, files), **{"test": "test", **changes})


def test_a_missing_source_says_what_to_do(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere does not exist: put the images there .* or change `raw`"):
        opened(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty must hold images .* got none among 0"):
        opened(tmp_path / "empty")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(ValueError, match=r"text\.zip must be a folder, a zip or a tar"):
        opened(tmp_path / "text.zip")


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    raw = as_folder(tmp_path, FILES)
    scandir = os.scandir

    def refusing(path: Path) -> Any:  # root reads everything, so permissions alone would not do
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ValueError, match=r"\w/dog must be a readable folder: Permission denied"):
        opened(raw)


def test_links_on_disk_are_followed_but_not_in_circles(tmp_path: Path):
    raw = as_folder(tmp_path, FILES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").write_bytes(b"linked")
    (raw / "train" / "fox").symlink_to(tmp_path / "elsewhere")
    (raw / "train" / "fox" / "2.jpg").symlink_to("nowhere")  # listed, so that the shard stage names it
    source = opened(raw)
    linked, broken = [sample for sample in source.splits["train"] if sample.label == source.classes.index("fox")]
    assert source.read(linked) == b"linked"
    with pytest.raises(FileNotFoundError, match=r"train/fox/2\.jpg"):
        source.read(broken)
    (raw / "train" / "fox" / "again").symlink_to(raw / "train")
    with pytest.raises(ValueError, match="again must not link to a folder that it is in"):
        opened(raw)


@packed
def test_files_that_no_split_has_are_counted_by_kind(tmp_path: Path, pack: Pack):
    others = ["train/cat/a.gif", "train/cat/b.GIF", "train/loose.jpg", "test/cat/readme", "elsewhere/1.avif", ".hidden/1.gif"]
    more = ["train/cat/c.jpe", "train/cat/d.jfif", "train/dog/e.PGM"]
    files = {**FILES, **dict.fromkeys([*others, *more], b"")}
    source = opened(pack(tmp_path, files), train_samples=3)  # those that a subset leaves out are meant
    assert source.left_out == {"gif": 2, "jpg": 1, "no extension": 1, "avif": 1}
    source = opened(pack(tmp_path, files))
    extensions = {sample.origin.rpartition("/")[2]: sample.extension for sample in source.splits["train"]}
    assert [extensions[name.rpartition("/")[2]] for name in more] == ["jpg", "jpg", "pgm"]


@packed
def test_images_without_labels_are_for_pretraining(tmp_path: Path, pack: Pack):
    flat = {f"unlabelled/{name}": name.encode() for name in ("1.jpg", "2.png", "deep/er/1.webp")}
    source = opened(pack(tmp_path, FILES | flat | {"unlabelled/notes.txt": b""}), pretrain="unlabelled")
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 12, "test": 12, "pretrain": 3}
    assert {sample.label for sample in source.splits["pretrain"]} == {-1}
    assert sorted(source.read(sample) for sample in source.splits["pretrain"]) == [b"1.jpg", b"2.png", b"deep/er/1.webp"]
    assert source.left_out == {"txt": 1}


@pytest.mark.parametrize(
    ("pretrain", "message"),
    [("nowhere", "must hold images under 'nowhere', which `pretrain` names"), (".", "no image .* may be a test image, got 12")],
)
def test_a_folder_for_pretraining_has_images_and_none_of_the_test_split(tmp_path: Path, pretrain: str, message: str):
    with pytest.raises(ValueError, match=message):
        opened(as_folder(tmp_path, FILES), pretrain=pretrain)
