"""Small real photographs for tests, encoded, and as a source."""

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from rsa.data.sources import Sample, Source
from rsa.params.shards import Shards


def photographs(count: int, seed: int = 0) -> list[Image.Image]:
    """Cuts of scikit-learn's two photographs, of many sizes between 40 and 160 px."""
    random = np.random.default_rng(seed)
    whole = load_sample_images().images
    cuts = []
    for i in range(count):
        image = whole[i % 2]
        height, width = random.integers(40, 160, 2)
        top, left = random.integers(0, image.shape[0] - height), random.integers(0, image.shape[1] - width)
        cuts.append(Image.fromarray(np.ascontiguousarray(image[top : top + height, left : left + width])))
    return cuts


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def source_of(images: dict[str, bytes], classes: int = 2, test: int = 4) -> Source:
    """A source of encoded images, the last `test` of which are the test split."""
    samples = [Sample(key, "jpg", i % classes, f"made/{key}.jpg") for i, key in enumerate(images)]
    splits = {"train": samples[:-test], "test": samples[-test:]}
    return Source([f"class_{i}" for i in range(classes)], splits, lambda sample: images[sample.key])


def shard_params(**changes: object) -> Shards:
    values: dict[str, object] = {
        "seed": 0,
        "samples_per_shard": 16,
        "bytes_per_shard": None,
        "resize": None,
        "max_bad_samples": 0,
    }
    return Shards.model_validate({**values, **changes})
