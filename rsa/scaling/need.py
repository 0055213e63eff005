"""A job's need of memory and minutes, as a function of its dataset's images. It imports nothing heavy: every job evaluates it."""

import json
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path


@dataclass(frozen=True)
class Need:
    """The bytes and seconds of a job: fixed ones, and those for each image; rsa.scaling.jobs makes them.

    A `train` image is one of split `pretrain` where the dataset has that and `pretrains` is set.
    """

    dataset: str
    bytes: float
    seconds: float
    bytes_train: float = 0.0
    bytes_test: float = 0.0
    most_bytes: float = inf  # of all images
    seconds_train: float = 0.0
    seconds_test: float = 0.0
    seconds_class: float = 0.0  # for each `train` image and each class
    seconds_pair: float = 0.0  # for each `train` and each `test` image
    pretrains: bool = False

    def of(self, images: dict[str, int], classes: int) -> tuple[int, int]:
        """Return megabytes and minutes for the numbers of images of each split, and of classes."""
        train, test = images["pretrain" if self.pretrains and "pretrain" in images else "train"], images["test"]
        total = self.bytes + min(self.most_bytes, self.bytes_train * train + self.bytes_test * test)
        each = self.seconds_train + self.seconds_class * classes + self.seconds_pair * test
        return ceil(total / 1e6), ceil((self.seconds + each * train + self.seconds_test * test) / 60)


def memory_and_minutes(meta: dict[str, int], need: Need | None, shards: Path = Path("data/shards")) -> dict[str, int]:
    """Return what a job asks for, as `mem_mb` and `minutes`: what it needs, but at most the minutes of its `meta`.

    Before its dataset is sharded, and without a need, that is what its `meta` has.
    """
    manifest = shards / need.dataset / "manifest.json" if need else shards
    if need is None or not manifest.is_file():
        return {key: meta[key] for key in ("mem_mb", "minutes")}
    dataset = json.loads(manifest.read_text())
    images = {name: split["samples"] for name, split in dataset["splits"].items()}
    megabytes, minutes = need.of(images, len(dataset["classes"]))
    return {"mem_mb": megabytes, "minutes": min(minutes, meta["minutes"])}
