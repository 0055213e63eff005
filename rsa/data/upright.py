"""Decoding of an image as everybody sees it: turned as its metadata say, in 8-bit RGB."""

import io

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

WHITE_16_BIT = 65535

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(data: bytes) -> Image.Image:
    """Decode an image in full and turn it as its metadata say: 8-bit RGB. 16 bits and floats in [0, 1] are scaled."""
    with _opened(data) as image:
        image.load()
        rgb, turn = _rgb(image), TURNS.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _opened(data: bytes) -> Image.Image:
    """Open an encoded image. ValueError, with the first bytes, which tell a web page or a pointer of Git LFS, if it is none."""
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        content = f"{len(data):,} bytes" + (f" that begin with {data[:16]!r}" if data else "")
        raise ValueError(f"{content}, which are no image that Pillow reads") from None


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # anything at all for a damaged block, without which the image is shown as it lies
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion cuts off at 255
        return _scaled(image, WHITE_16_BIT)
    if image.mode == "F":
        return _scaled(image, 1)
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(image: Image.Image, white: int) -> Image.Image:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # also for NaN
        raise ValueError(f"grey values must be in [0, {white}], got {low} to {high}: convert it to 8 bits")
    return Image.fromarray(np.round(values * (255 / white)).astype(np.uint8)).convert("RGB")
