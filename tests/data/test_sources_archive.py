"""Archives that are not what they seem are refused, naming the member; damage is found where it is read."""

import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from rsa.data.sources import open_source
from rsa.data.sources.archive import MAX_BYTES, check_size, check_total
from rsa.data.sources.folder import Folder

GOOD = {f"train/{name}/{i}.jpg": f"{name} {i}".encode() * 100 for name in ("cat", "dog") for i in range(3)}


def opened(raw: Path):
    values = {"source": "folder", "raw": str(raw), "train": "train", "test": None, "test_fraction": 0.4}
    return open_source(Folder.model_validate({**values, "train_samples": None, "test_samples": None, "classes": None}), 0)


def zip_of(path: Path, *extra: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path / "raw.zip", "w", method) as archive:
        for name, content in (*GOOD.items(), *extra):
            archive.writestr(name, content)
    return path / "raw.zip"


def tar_of(path: Path, *extra: tarfile.TarInfo, mode: str = "w", **options: object) -> Path:
    with tarfile.open(path / "raw.tar", mode, **options) as archive:
        for name, content in GOOD.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path / "raw.tar"


def zip_info(name: str, kind: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    return info


def tar_info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "name", ["/etc/cat/1.jpg", "../cat/1.jpg", "train/../../1.jpg", "C:/cat/1.jpg", "..\\cat\\1.jpg", "\\1.jpg"]
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str):
    for raw in (zip_of(tmp_path, (name, b"x")), tar_of(tmp_path, tar_info(name))):
        with pytest.raises(ValueError, match="must have a relative name without") as error:
            opened(raw)
        assert f"{raw}: member {name!r}" in str(error.value)


def test_links_and_devices_are_refused(tmp_path: Path):
    link = "train/cat/link.jpg"
    with pytest.raises(ValueError, match=f"raw.zip: member '{link}' must not be a link; the archive is not used"):
        opened(zip_of(tmp_path, (zip_info(link, stat.S_IFLNK), b"/etc/passwd")))
    with pytest.raises(ValueError, match=f"raw.zip: member '{link}' must be a file or a folder"):
        opened(zip_of(tmp_path, (zip_info(link, stat.S_IFIFO), b"")))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with pytest.raises(ValueError, match=f"raw.tar: member '{link}' must not be a link; the archive is not used"):
            opened(tar_of(tmp_path, tar_info(link, kind, "train/cat/0.jpg")))
    for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE):
        with pytest.raises(ValueError, match=f"raw.tar: member '{link}' must be a plain file or a folder"):
            opened(tar_of(tmp_path, tar_info(link, kind)))


def test_absurd_expansion_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"member 'train/cat/bomb\.bmp' must expand at most 200 times, got [\d,]+ to 4,000,000"):
        opened(zip_of(tmp_path, ("train/cat/bomb.bmp", bytes(4_000_000))))
    random = np.random.default_rng(0)
    many = [(f"train/cat/x{i:03d}.bmp", bytes(999_000) + random.bytes(1000)) for i in range(70)]
    with pytest.raises(ValueError, match=r"member 'train/cat/x\d+\.bmp' is the largest of 70,0\d\d,\d+ bytes in [\d,]+"):
        opened(zip_of(tmp_path, *many))


def test_limits_leave_room_for_real_images():
    check_size("a", "b.png", MAX_BYTES, MAX_BYTES)
    check_size("a", "features.npy", 2 * MAX_BYTES, 1024)  # not read
    check_size("a", "flat.bmp", 2**20, 1024)  # small ones may be flat
    check_total("a", "b", 2**40, 2**40)
    for size in (MAX_BYTES + 1, -1):
        with pytest.raises(ValueError, match=r"must have at most 536,870,912 bytes, got"):
            check_size("a", "b.png", size, MAX_BYTES)


def test_a_zip_that_declares_other_sizes_than_it_holds_is_found_out(tmp_path: Path):
    raw = zip_of(tmp_path, ("train/cat/liar.jpg", bytes(100_000)))
    content = bytearray(raw.read_bytes())
    entry = content.rindex(b"train/cat/liar.jpg") - 46  # in the central directory
    struct.pack_into("<I", content, entry + 24, 50)  # bytes, of 100,000
    raw.write_bytes(content)
    source = opened(raw)
    liar = next(s for split in source.splits.values() for s in split if "liar" in s.key)
    with pytest.raises(ValueError, match=r"member 'train/cat/liar\.jpg' is damaged: its size or CRC"):
        source.read(liar)


def test_zip_members_that_share_their_bytes_are_refused(tmp_path: Path):
    raw = zip_of(tmp_path, method=zipfile.ZIP_STORED)
    content = bytearray(raw.read_bytes())
    second = content.rindex(b"train/cat/1.jpg") - 46
    struct.pack_into("<I", content, second + 42, 0)  # its data are said to be where the first's are
    raw.write_bytes(content)
    with pytest.raises(ValueError, match=r"member 'train/cat/[01]\.jpg' must not overlap"):
        opened(raw)


def test_encrypted_and_unknown_compression_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"member 'train/.*' must be stored or deflated, got compression method 12"):
        opened(zip_of(tmp_path, method=zipfile.ZIP_BZIP2))
    raw = zip_of(tmp_path)
    content = bytearray(raw.read_bytes())
    content[content.rindex(b"train/dog/2.jpg") - 46 + 8] |= 1
    raw.write_bytes(content)
    with pytest.raises(ValueError, match=r"member 'train/dog/2\.jpg' must not be encrypted"):
        opened(raw)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_backslashes_folders_twice_and_other_large_members_are_read_past(tmp_path: Path):
    expected = [sample[:3] for sample in opened(tar_of(tmp_path)).splits["train"]]
    large = b"0" * (MAX_BYTES // 8)  # packed a thousandfold
    path = zip_of(tmp_path, ("train/cat/", b""), ("train/cat/", b""), ("features.npy", large))
    assert [sample[:3] for sample in opened(path).splits["train"]] == expected
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in GOOD.items():
            info = zipfile.ZipInfo("x")
            info.filename = name.replace("/", "\\")
            archive.writestr(info, content)
    source = opened(path)
    assert [sample[:3] for sample in source.splits["train"]] == expected
    assert [source.read(sample) for sample in source.splits["train"]] == [GOOD[s.origin] for s in source.splits["train"]]


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path: Path):
    inner = zip_of(tmp_path, ("train/eel/0.jpg", b"x")).read_bytes()
    raw = tar_of(tmp_path)
    with tarfile.open(raw, "a") as archive:
        member = tar_info("others.zip")
        member.size = len(inner)
        archive.addfile(member, io.BytesIO(inner))
    source = opened(raw)
    assert source.classes == ["cat", "dog"]
    assert source.left_out == {"zip": 1}


def test_zips_of_other_programs_are_read(tmp_path: Path):
    """Streamed, with sizes behind the data; with 64-bit sizes; with a program before it."""
    expected = [sample[:3] for sample in opened(tar_of(tmp_path)).splits["train"]]
    streamed, large, extracting = (tmp_path / f"{name}.zip" for name in ("streamed", "large", "extracting"))
    with streamed.open("wb") as file, zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
    with zipfile.ZipFile(large, "w") as archive:
        for name, content in GOOD.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(content)
    extracting.write_bytes(b"MZ" + bytes(5000) + zip_of(tmp_path).read_bytes())
    for path in (streamed, large, extracting):
        source = opened(path)
        assert [sample[:3] for sample in source.splits["train"]] == expected
        assert all(source.read(sample) == GOOD[sample.origin] for sample in source.splits["train"])


class Pipe(io.RawIOBase):
    """A file that cannot be sought in."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, part: object) -> int:
        return self.file.write(part)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path: Path):
    for raw in (zip_of(tmp_path, ("train/cat/1.jpg", b"x")), tar_of(tmp_path, tar_info("train/cat/1.jpg"))):
        with pytest.raises(ValueError, match=r"member 'train/cat/1\.jpg' must be in the archive once, got twice"):
            opened(raw)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_tar_says_how_to_decompress_it(tmp_path: Path, kind: str):
    with pytest.raises(ValueError, match=r"raw\.tar must be an uncompressed tar, to be read at random: decompress it \(`\w+`\)"):
        opened(tar_of(tmp_path, mode=f"w:{kind}"))


def test_a_tar_cut_anywhere_is_refused(tmp_path: Path):
    raw = tar_of(tmp_path)
    whole = raw.read_bytes()
    end = 6 * 1024  # of the last member
    for size in (end, end - 1, end - 200, end - 512, end - 600, end - 1024, 1024, 700, 512):
        raw.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"raw\.tar is cut short"):
            opened(raw)
    raw.write_bytes(whole[: end - 1024] + os.urandom(512) + whole[end - 512 :])
    with pytest.raises(ValueError, match=r"raw\.tar is cut short or damaged after 'train/dog/1\.jpg'"):
        opened(raw)


def test_a_zip_cut_short_is_refused(tmp_path: Path):
    raw = zip_of(tmp_path)
    raw.write_bytes(raw.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"raw\.zip must be a folder, a zip or a tar, got something else, or one cut short"):
        opened(raw)


def test_damaged_members_and_replaced_archives_are_found_on_reading(tmp_path: Path):
    for raw in (zip_of(tmp_path), tar_of(tmp_path)):
        source = opened(raw)
        sample = source.splits["train"][0]
        assert source.read(sample) == GOOD[sample.origin]
        raw.write_bytes(raw.read_bytes() + b"more")
        with pytest.raises(ValueError, match=f"{raw.name} has changed since it was listed"):
            source.read(sample)
    raw = zip_of(tmp_path)
    content = bytearray(raw.read_bytes())
    content[40 + len("train/cat/0.jpg")] ^= 0xFF
    raw.write_bytes(content)
    source = opened(raw)
    with pytest.raises(ValueError, match=r"member 'train/cat/0\.jpg' is damaged"):
        source.read(next(s for split in source.splits.values() for s in split if s.key == "cat/0"))


def test_names_in_other_scripts_and_long_names_are_read(tmp_path: Path):
    name = f"train/cat/{'long' * 20}/naïve_猫.jpg"
    member = tarfile.TarInfo(name)
    for raw in (zip_of(tmp_path, (name, b"")), tar_of(tmp_path, member, format=tarfile.PAX_FORMAT)):
        source = opened(raw)
        sample = next(s for split in source.splits.values() for s in split if "long" in s.key)
        assert sample.key == f"cat/{'long' * 20}/na_ve__"
        assert source.read(sample) == b""


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_random_damage_is_an_error_or_harmless(tmp_path: Path, pack: Callable[[Path], Path]):
    raw = pack(tmp_path)
    whole = raw.read_bytes()
    random = np.random.default_rng(0)
    headers = np.arange(len(whole) - 1000, len(whole)) if pack is zip_of else np.flatnonzero(np.arange(len(whole)) % 1024 < 512)
    for _ in range(200):
        content = bytearray(whole)
        for place in random.choice(headers, 3):
            content[place] = random.integers(256)
        raw.write_bytes(content)
        read, message = {}, str(raw)
        try:
            source = opened(raw)
            read = {sample.origin: source.read(sample) for split in source.splits.values() for sample in split}
        except ValueError as why:
            message = str(why)
        assert str(raw) in message
        assert set(read.values()) <= set(GOOD.values())
