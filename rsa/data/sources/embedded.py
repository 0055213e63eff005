"""Real images that scikit-learn ships: handwritten digits, and tiles of its two photographs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from rsa.data.sources.source import ReadKey, Sample, Source, png
from rsa.data.splits import held_out
from rsa.params.section import Count, FilePath, Inside, Section

STRIP = 3  # every third strip of a photograph is for testing
STRIP_TILES = 2  # a strip is two tiles wide


class Digits(Section):
    """Section of scikit-learn's handwritten digits."""

    source: Literal["digits"]
    raw: FilePath
    size: Annotated[int, Field(ge=8)]
    test_fraction: Inside


class TranslatedDigits(Section):
    """Section of the handwritten digits at random places and sizes."""

    source: Literal["translated_digits"]
    raw: FilePath
    canvas: Annotated[int, Field(ge=8)]
    size: Annotated[list[Annotated[int, Field(ge=8)]], Field(min_length=2, max_length=2)]
    test_fraction: Inside

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.size[0] <= self.size[1] <= self.canvas:
            raise ValueError(
                f"size must be the smallest and the largest size of a digit, at most canvas ({self.canvas}), got {self.size}"
            )
        return self


class PhotoTiles(Section):
    """Section of tiles of scikit-learn's photographs."""

    source: Literal["photo_tiles"]
    raw: FilePath
    tile: Annotated[int, Field(ge=8, le=128)]
    stride: Count


def digits(params: Digits, seed: int) -> Source:
    """Return the 1,797 handwritten digits (8 px, 17 grey levels), upscaled to `size` px, with `test_fraction` held out."""
    return _digits(lambda image, _: _upscaled(image, params.size), params.test_fraction, seed)


def translated_digits(params: TranslatedDigits, seed: int) -> Source:
    """Return the handwritten digits, each upscaled to a random size and put at a random place of a black canvas.

    Size and place depend on `seed` and the digit's number alone, and the held-out digits are those of `digits`. The images follow
    the translated digits of Jaderberg et al. 2015 (spatial transformer networks, section 4.1).
    """

    def translated(image: NDArray[np.uint8], number: int) -> Image.Image:
        random = np.random.Generator(np.random.Philox(key=[seed, number]))
        size = int(random.integers(params.size[0], params.size[1], endpoint=True))
        left, top = (int(x) for x in random.integers(0, params.canvas - size, 2, endpoint=True))
        canvas = Image.new("L", (params.canvas, params.canvas))
        canvas.paste(_upscaled(image, size), (left, top))
        return canvas

    return _digits(translated, params.test_fraction, seed)


def _digits(drawn: Callable[[NDArray[np.uint8], int], Image.Image], test_fraction: float, seed: int) -> Source:
    """Return the 1,797 digits; `drawn` makes an image of each from its 8 px original and its number."""
    from sklearn.datasets import load_digits  # seconds to import

    data = load_digits()
    images = np.round(data.images * 255 / 16).astype(np.uint8)  # (N, 8, 8)
    labels = data.target.astype(np.int64)
    classes = [str(name) for name in data.target_names]
    samples = [Sample(f"digit_{i:04d}", "png", int(label), f"digits[{i}]") for i, label in enumerate(labels)]
    encoded = {sample.key: png(drawn(image, i)) for i, (sample, image) in enumerate(zip(samples, images, strict=True))}
    train, test = held_out(labels, classes, test_fraction, seed)
    splits = {"train": [samples[i] for i in train], "test": [samples[i] for i in test]}
    return Source(classes, splits, ReadKey(encoded))


def _upscaled(image: NDArray[np.uint8], size: int) -> Image.Image:
    return Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)


def photo_tiles(params: PhotoTiles) -> Source:
    """Return square tiles of two photographs; a class is a photograph and the third of its height with the tile.

    The photographs are cut into vertical strips. Every third strip is for testing, and no tile crosses a strip's border,
    so training and test tiles share no pixel.
    """
    from sklearn.datasets import load_sample_images  # seconds to import

    photographs = load_sample_images()
    names = [Path(name).stem for name in photographs.filenames]
    classes = [f"{name}_{third}" for name in names for third in ("top", "middle", "bottom")]
    splits: dict[str, list[Sample]] = {"train": [], "test": []}
    encoded = {}
    tile, strip = params.tile, STRIP_TILES * params.tile
    for photo, (name, image) in enumerate(zip(names, photographs.images, strict=True)):
        height, width, _ = image.shape
        for third in range(3):
            for top in range(third * height // 3, (third + 1) * height // 3 - tile + 1, params.stride):
                for left in range(0, width - tile + 1, params.stride):
                    if left // strip != (left + tile - 1) // strip:
                        continue
                    key = f"{name}_{top:04d}_{left:04d}"
                    split = "test" if left // strip % STRIP == STRIP - 1 else "train"
                    origin = f"{name}.jpg at ({top}, {left})"
                    splits[split].append(Sample(key, "png", 3 * photo + third, origin))
                    encoded[key] = png(Image.fromarray(_cut(image, top, left, tile)))
    return Source(classes, splits, ReadKey(encoded))


def _cut(image: NDArray[np.uint8], top: int, left: int, tile: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[top : top + tile, left : left + tile])
