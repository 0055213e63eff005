"""Tiny-ImageNet's own layout."""

import zipfile
from pathlib import Path

import pytest

from rsa.data.sources import Source, open_source
from rsa.data.sources.tiny_imagenet import TinyImageNet

TOP = "tiny-imagenet-200"
WNIDS = ("n01443537", "n01629819")


def layout() -> dict[str, bytes]:
    files = {f"train/{wnid}/images/{wnid}_{i}.JPEG": f"{wnid} {i}".encode() for wnid in WNIDS for i in range(3)}
    files |= {f"train/{wnid}/{wnid}_boxes.txt": b"" for wnid in WNIDS}
    files |= {f"val/images/val_{i}.JPEG": f"val {i}".encode() for i in range(4)}
    files["val/val_annotations.txt"] = "".join(f"val_{i}.JPEG\t{WNIDS[i % 2]}\t0\t0\t9\t9\n" for i in (3, 1, 2, 0)).encode()
    files |= {f"test/images/test_{i}.JPEG": b"unlabelled" for i in range(2)}
    return files | {"wnids.txt": b"", "words.txt": b""}


def as_zip(path: Path, files: dict[str, bytes], top: str = f"{TOP}/") -> Path:
    with zipfile.ZipFile(path / "tiny.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path / "tiny.zip"


def opened(raw: Path) -> Source:
    return open_source(TinyImageNet(source="tiny_imagenet", raw=str(raw)), 0)


def test_a_folder_and_its_zip_hold_the_same(tmp_path: Path):
    for name, content in layout().items():
        (tmp_path / TOP / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / TOP / name).write_bytes(content)
    sources = [opened(raw) for raw in (tmp_path / TOP, tmp_path, as_zip(tmp_path, layout()), as_zip(tmp_path, layout(), ""))]
    for source in sources:
        assert source.classes == list(WNIDS)
        assert [s[:3] for s in source.splits["train"]] == [
            (f"train/{w}/{w}_{i}", "jpg", WNIDS.index(w)) for w in WNIDS for i in range(3)
        ]
        assert [s[:3] for s in source.splits["test"]] == [(f"val/val_{i}", "jpg", i % 2) for i in range(4)]
        assert [source.read(s) for s in source.splits["test"]] == [f"val {i}".encode() for i in range(4)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val/val_annotations.txt": None}, "must hold Tiny-ImageNet: .* got 0 of the last"),
        ({"val/images/val_9.JPEG": b""}, r"must name each image of val/images, got 1 without the other: val_9\.JPEG"),
        ({"val/images/val_2.JPEG": None}, r"must name each image of val/images, got 1 without the other: val_2\.JPEG"),
        (
            {"val/val_annotations.txt": b"val_0.JPEG n1\n"},
            r"line 1 must be a new file name, a tab and a WNID, got 'val_0\.JPEG n1'",
        ),
        (
            {f"train/n01629819/images/n01629819_{i}.JPEG": None for i in range(3)},
            "gives val_3.JPEG the class 'n01629819', which",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, bytes | None], message: str):
    files = {name: content for name, content in {**layout(), **changes}.items() if content is not None}
    with pytest.raises(ValueError, match=message):
        opened(as_zip(tmp_path, files))


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="must hold Tiny-ImageNet"):
        opened(tmp_path)
