"""Images that Pillow and DALI read differently, or one of them not at all: stored as Pillow shows them, or refused by name."""

import io
import struct
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

from rsa.data.decoding import Decoder
from rsa.data.stored_image import shows, stored
from rsa.data.upright import upright
from rsa.params.shards import Resize
from tests.data.photos import encoded, photographs

PHOTO = photographs(1)[0].resize((64, 48))
GRAY = np.asarray(PHOTO.convert("L"))
ORIENTATION = 0x0112
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></x:xmpmeta>"""


def ifd(*entries: tuple[int, int, int, bytes], data: bytes = b"") -> bytes:
    """A little-endian TIFF directory of (tag, type, count, 4 bytes), as EXIF has it."""
    rows = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", 0) + data


def short(value: int) -> bytes:
    return struct.pack("<HH", value, 0)


def turned(turn: int) -> tuple[int, int, int, bytes]:
    return (ORIENTATION, 3, 1, short(turn))


def with_segments(jpeg: bytes, *payloads: bytes) -> bytes:
    return jpeg[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(each) + 2) + each for each in payloads) + jpeg[2:]


def with_exif(*blocks: bytes, image: Image.Image = PHOTO) -> bytes:
    return with_segments(encoded(image, quality=95), *(b"Exif\0\0" + block for block in blocks))


def with_xmp(turn: int, image: Image.Image = PHOTO) -> bytes:
    return with_segments(encoded(image, quality=95), b"http://ns.adobe.com/xap/1.0/\0" + XMP % turn)


def png_with_xmp() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", (XMP % 6).decode())
    return encoded(PHOTO, "PNG", pnginfo=info)


def odd_webp() -> bytes:
    """Lossless, with EXIF behind a chunk of odd size, whose padding DALI's parser overlooks."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 300
    found = (encoded(image, "WEBP", lossless=True, exif=exif.tobytes()) for image in photographs(20))
    return next(data for data in found if struct.unpack("<I", data[(at := data.index(b"VP8L") + 4) : at + 4])[0] % 2)


@pytest.fixture(scope="module")
def decode() -> Decoder:
    return Decoder()


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


SQUARE = PHOTO.resize((48, 48))
SHOWN_BY_PILLOW = {
    "a GIF": partial(encoded, PHOTO, "GIF"),
    "WebP with EXIF behind an odd chunk": odd_webp,
    "PNG without its last bytes": lambda: encoded(PHOTO, "PNG")[:-12],
    "an animated GIF": lambda: encoded(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(180)]),
    "PPM in ASCII": lambda: b"P3 2 2 255\n" + b" ".join(b"%d" % (20 * value) for value in range(12)),
    "PPM up to 100": lambda: b"P6 4 4 100\n" + bytes(range(48)),
    "TIFF of one bit": lambda: encoded(PHOTO.convert("1"), "TIFF"),
    "TIFF of grey and alpha": lambda: encoded(PHOTO.convert("LA"), "TIFF"),
    "TIFF in Lab": lambda: encoded(PHOTO.convert("LAB"), "TIFF"),
    "AVIF": partial(encoded, PHOTO, "AVIF"),
    "ICO": partial(encoded, PHOTO, "ICO", sizes=[(48, 48)]),
    "XMP's orientation in JPEG": lambda: with_xmp(6),
    "XMP's orientation of a square image": lambda: with_xmp(6, SQUARE),
    "XMP's mirror image": lambda: with_xmp(2),
    "XMP's orientation in PNG": png_with_xmp,
    "two EXIF blocks": lambda: with_exif(ifd(turned(6)), ifd(turned(1))),
    "two orientations in one block": lambda: with_exif(ifd(turned(6), turned(1))),
    "orientation as a long": lambda: with_exif(ifd((ORIENTATION, 4, 1, struct.pack("<I", 6)))),
}


@pytest.mark.parametrize("kind", SHOWN_BY_PILLOW)
def test_what_the_decoder_of_training_shows_otherwise_becomes_png(kind: str, decode: Decoder) -> None:
    data = SHOWN_BY_PILLOW[kind]()
    want = pixels(data)
    kept = stored(data, "jpg", None, decode)
    assert (kept.height, kept.width) == want.shape[:2]
    np.testing.assert_array_equal(decode(np.frombuffer(kept.data, np.uint8)), want)
    before = decode(np.frombuffer(data, np.uint8))
    alike = before is not None and before.shape == want.shape and np.abs(before.astype(int) - want).max() <= 1
    assert (kept.data == data) == alike
    assert kept.extension == ("jpg" if alike else "png")


def test_a_failure_leaves_no_trace_in_the_decoder(decode: Decoder) -> None:
    sound = [encoded(image) for image in photographs(6)]
    for data in sound:
        assert decode(np.frombuffer(b"junk" * 9, np.uint8)) is None
        np.testing.assert_array_equal(decode(np.frombuffer(data, np.uint8)), pixels(data))


UNWRITABLE = {  # tags of the wrong type, which Pillow cannot write again
    "length as text": ifd((0x0101, 2, 4, b"abc\0"), turned(6)),
    "resolution as bytes": ifd(turned(6), (0x011A, 7, 1, b"\0\0\0\0")),
    "maker as a ratio": ifd((0x010F, 5, 1, struct.pack("<I", 38)), turned(6), data=struct.pack("<II", 1, 3)),
}


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_only_the_orientation_is_read_of_exif(kind: str, decode: Decoder) -> None:
    data = with_exif(UNWRITABLE[kind])
    want = np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1)
    kept = stored(data, "jpg", None, decode)
    assert kept.data == data  # both show it alike
    np.testing.assert_array_equal(decode(np.frombuffer(kept.data, np.uint8)), want)


BROKEN = {
    "not TIFF": b"notatiffheader",
    "cut short": ifd(turned(6))[:12],
    "empty": b"",
    "offset beyond its end": b"II*\0" + struct.pack("<I", 2**31),
    "orientation as text": ifd((ORIENTATION, 2, 4, b"six\0")),
    "orientation of 77": ifd(turned(77)),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF|Truncated File Read")
def test_an_image_with_a_broken_exif_block_is_shown_as_it_lies(kind: str, decode: Decoder) -> None:
    for data in (with_exif(BROKEN[kind]), encoded(PHOTO, "PNG", exif=b"Exif\0\0" + BROKEN[kind])):
        kept = stored(data, "jpg", None, decode)
        want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode(np.frombuffer(kept.data, np.uint8)), want)


def deep(white: int, dtype: str) -> NDArray[np.generic]:
    return (GRAY / 255 * white).round().astype(dtype) if white > 1 else (GRAY / 255).astype(dtype)


DEEP = {
    "PNG": encoded(Image.fromarray(deep(65535, "u2")), "PNG"),
    "TIFF": encoded(Image.fromarray(deep(65535, "u2")), "TIFF"),
    "big-endian TIFF": encoded(Image.fromarray(deep(65535, "u2")), "TIFF", big_endian=True),
    "PGM": b"P5 64 48 65535\n" + deep(65535, ">u2").tobytes(),
    "float TIFF": encoded(Image.fromarray(deep(1, "f4")), "TIFF"),
    "TIFF of 32 bits": encoded(Image.fromarray(deep(65535, "i4")), "TIFF"),
}


@pytest.mark.parametrize("resize", [None, Resize(short_side=24, jpeg_quality=95)], ids=["as it is", "made smaller"])
@pytest.mark.parametrize("kind", DEEP)
def test_deep_grey_keeps_its_brightness(kind: str, resize: Resize | None, decode: Decoder) -> None:
    kept = stored(DEEP[kind], "tiff", resize, decode)
    shown = decode(np.frombuffer(kept.data, np.uint8))
    want = np.asarray(Image.fromarray(GRAY).resize((32, 24), Image.Resampling.BICUBIC) if resize else Image.fromarray(GRAY))
    assert shown is not None
    assert np.abs(shown.astype(int) - want[..., None]).max() <= 1


@pytest.mark.parametrize(
    "values", [GRAY.astype("f4"), np.full((8, 8), np.nan, "f4"), GRAY.astype("i4") - 300, GRAY.astype("i4") * 1000]
)
def test_grey_of_an_unknown_range_is_refused(values: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"grey values must be in \[0, (1|65535)\], got .* to .*: convert it to 8 bits"):
        upright(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "0 bytes"),
        (b"<!DOCTYPE html><html>404", "24 bytes that begin with b'<!DOCTYPE html><'"),
        (b"version https://git-lfs.github.com/spec/v1", "42 bytes that begin with b'version https://'"),
        (b"\0\0\0\x18ftypheic" + bytes(999), r"1,011 bytes that begin with b'.*ftypheic.*'"),
    ],
)
def test_what_is_no_image_is_told_by_its_first_bytes(data: bytes, found: str) -> None:
    with pytest.raises(ValueError, match=f"^{found}, which are no image that Pillow reads"):
        upright(data)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (129, 65), (640, 200)])
def test_the_same_places_are_compared(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert shows(noise, Image.fromarray(noise))
    assert not shows(noise.swapaxes(0, 1), Image.fromarray(noise)) or size == (1, 1)
    assert not shows(255 - noise, Image.fromarray(noise))
