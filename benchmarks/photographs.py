"""Made-up photographs in shards: cuts of scikit-learn's two sample photographs."""

import io
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from rsa.data.index import Split
from rsa.data.shards import write_shards
from rsa.data.sources import Sample, Source
from rsa.params.shards import Shards


def photographs(count: int, width: int = 500, height: int = 375, zoom: int = 1) -> Source:
    """Make `count` JPEGs of `width` x `height` px, by default ImageNet's median size, from cuts `zoom` times as large."""
    originals = load_sample_images().images
    samples = [Sample(f"photo_{i:06d}", "jpg", i % 2, str(i)) for i in range(count)]

    def encoded(sample: Sample) -> bytes:
        random, original = np.random.default_rng(int(sample.origin)), originals[int(sample.origin) % 2]
        limits = original.shape[0] - zoom * height, original.shape[1] - zoom * width
        top, left = (random.integers(0, limit) for limit in limits)
        cut = Image.fromarray(original[top : top + zoom * height, left : left + zoom * width])
        buffer = io.BytesIO()
        (cut if zoom == 1 else cut.reduce(zoom)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    return Source(["a", "b"], {"train": samples}, encoded)


def sharded(source: Source, folder: Path, per_shard: int) -> tuple[Split, float]:
    """Write a source's shards to `folder`; return its split for training and the seconds that it took."""
    shards = Shards(seed=0, samples_per_shard=per_shard, bytes_per_shard=None, resize=None, max_bad_samples=0)
    started = time.perf_counter()
    folder.mkdir()
    write_shards(source, shards, {}, folder, folder.with_name(folder.name + ".work"))
    return Split(folder, "train"), time.perf_counter() - started
