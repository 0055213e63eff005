"""Frozen features of a split, written as arrays that can be memory-mapped.

<folder>/<split>.npy           (N, D) float32, in the order of the shards' index
<folder>/<split>_labels.npy    (N,) int64
<folder>/origin.json           what they were made from (rsa.origin)
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsa.data.files import load_array
from rsa.origin import Origin, of_files

ORIGIN = "origin.json"
IN_MEMORY_BYTES = 2**30  # of features, beyond which they stay on disk
COPIED_BYTES = 2**26  # at a time


@dataclass(frozen=True)
class Features:
    """Features x (N, D) and class numbers y (N,) of one split."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]

    def part(self, indices: NDArray[np.int64]) -> "Features":
        """Copy the samples with these indices, into an unnamed temporary file if they take more than `IN_MEMORY_BYTES`."""
        shape = (len(indices), self.x.shape[1])
        if self.x.itemsize * shape[0] * shape[1] <= IN_MEMORY_BYTES:
            return Features(self.x[indices], self.y[indices])
        with tempfile.TemporaryFile() as file:  # stays until the array goes
            os.posix_fallocate(file.fileno(), 0, self.x.itemsize * shape[0] * shape[1])
            x: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=shape)
        rows = max(1, COPIED_BYTES // self.x[0].nbytes)
        for start in range(0, len(indices), rows):
            x[start : start + rows] = self.x[indices[start : start + rows]]
        return Features(x, self.y[indices])


def write_features(folder: Path, split: str, labels: NDArray[np.int64], batches: Iterator[NDArray[np.float32]]) -> None:
    """Write the features of a split, a batch (B, D) at a time, in bounded memory; all must be finite."""
    done = 0
    out: Any = None
    for batch in batches:
        if out is None:
            path = folder / f"{split}.npy"
            out = np.lib.format.open_memmap(path, "w+", np.float32, (len(labels), batch.shape[1]))
            with path.open("r+b") as file:  # on a full disk an OSError now, not a SIGBUS later
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        if not np.isfinite(batch).all():
            raise FloatingPointError(
                f"features of {split} must be finite, got others among samples {done} to {done + len(batch) - 1}"
            )
        out[done : done + len(batch)] = batch
        done += len(batch)
    assert done == len(labels)
    out.flush()
    np.save(folder / f"{split}_labels.npy", labels)


def write_origin(folder: Path, origin: Origin) -> None:
    """Write `origin` and the digest of the features and labels beside them."""
    (folder / ORIGIN).write_text(json.dumps({**origin, "features": _digest(folder)}, indent=1) + "\n")


def read_features(folder: Path) -> tuple[Features, Features, Origin]:
    """Return the memory-mapped features of the training and the test split, and what they were made from.

    ValueError if a file is missing, or not as it was written.
    """
    train, test = _read_split(folder, "train"), _read_split(folder, "test")
    path = folder / ORIGIN
    if not path.is_file():
        raise ValueError(f"{path} does not exist: an older version made the features, run the `extract` stage again")
    try:
        origin: Origin = json.loads(path.read_text())
    except ValueError as why:
        raise ValueError(f"{path} is cut off or damaged ({why}): run the `extract` stage again") from None
    if origin.get("features") != _digest(folder):
        raise ValueError(
            f"{folder} has other bytes than when it was made: run the `extract` stage again, or `dvc repro`, which restores it"
        )
    return train, test, origin


def _digest(folder: Path) -> str:
    return of_files(folder / f"{split}{kind}.npy" for split in ("train", "test") for kind in ("", "_labels"))


def _read_split(folder: Path, split: str) -> Features:
    features = Features(
        load_array(folder / f"{split}.npy", "extract", "r"), load_array(folder / f"{split}_labels.npy", "extract")
    )
    if len(features.x) != len(features.y):
        raise ValueError(f"{folder} must have a label for each of {len(features.x)} features of {split}, got {len(features.y)}")
    return features
