"""Real images that scikit-learn ships: handwritten digits, and tiles of its two photographs."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

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


class PhotoTiles(Section):
    """Section of tiles of scikit-learn's photographs."""

    source: Literal["photo_tiles"]
    raw: FilePath
    tile: Annotated[int, Field(ge=8, le=128)]
    stride: Count


def digits(params: Digits, seed: int) -> Source:
    """Return the 1,797 handwritten digits (8 px, 17 grey levels), upscaled to `size` px, with `test_fraction` held out."""
    from sklearn.datasets import load_digits  # seconds to import

    data = load_digits()
    images = np.round(data.images * 255 / 16).astype(np.uint8)  # (N, 8, 8)
    labels = data.target.astype(np.int64)
    classes = [str(name) for name in data.target_names]
    samples = [Sample(f"digit_{i:04d}", "png", int(label), f"digits[{i}]") for i, label in enumerate(labels)]
    encoded = {
        sample.key: png(Image.fromarray(image).resize((params.size, params.size), Image.Resampling.BICUBIC))
        for sample, image in zip(samples, images, strict=True)
    }
    train, test = held_out(labels, classes, params.test_fraction, seed)
    splits = {"train": [samples[i] for i in train], "test": [samples[i] for i in test]}
    return Source(classes, splits, ReadKey(encoded))


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
