"""Choose what to store of an image: its own bytes if Pillow and DALI show the same pixels, else a PNG of what Pillow shows."""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsa.data.decoding import Decoder
from rsa.data.upright import upright
from rsa.params.shards import Resize

TOLERANCE = 2.0  # mean difference of 255: roundings of CMYK reach 1
SAMPLED = 64  # rows and columns compared, at least where the image has so many


class Stored(NamedTuple):
    """Encoded bytes, and the upright image's size in px."""

    data: bytes
    extension: str
    height: int
    width: int


def stored(data: bytes, extension: str, resize: Resize | None, decode: Decoder) -> Stored:
    """Return what to store of an encoded image. Whatever Pillow raises for a damaged image is raised."""
    shown = upright(data)
    if resize is not None and (min(shown.size) > resize.short_side or extension not in ("jpg", "png")):
        extension = "jpg" if extension == "jpg" else "png"
        data = _encoded(_smaller(shown, resize.short_side), extension, quality=resize.jpeg_quality)
        shown = upright(data)
    if not shows(decode(np.frombuffer(data, np.uint8)), shown):
        data, extension = _encoded(shown, "png"), "png"
    return Stored(data, extension, shown.height, shown.width)


def shows(decoded: NDArray[np.uint8] | None, shown: Image.Image) -> bool:
    """Return True if decoded pixels (H, W, 3) are those of `shown`, by size and by a regular sample of them."""
    if decoded is None or decoded.shape[:2] != (shown.height, shown.width):
        return False
    columns, rows = (max(1, side // SAMPLED) for side in shown.size)  # one of so many is compared
    size = shown.width // columns, shown.height // rows
    sample = shown.resize(size, Image.Resampling.NEAREST, box=(0, 0, size[0] * columns, size[1] * rows))
    same = decoded[rows // 2 :: rows, columns // 2 :: columns][: size[1], : size[0]]
    return bool(np.abs(same.astype(np.int16) - np.asarray(sample)).mean() <= TOLERANCE)


def _smaller(image: Image.Image, short_side: int) -> Image.Image:
    factor = min(1.0, short_side / min(image.size))
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, extension: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "png": "PNG"}[extension], **options)
    return buffer.getvalue()
