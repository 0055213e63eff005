"""python benchmarks/scale.py: start-up, memory and time per batch for a split of 1.3 million and of 100 million samples.

The index is synthetic (the rows of 1,000-sample shards, written sparsely); no tars are there, so reading is not measured.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rsa.data.files import INDEX, MANIFEST, REMOTE, sha256
from rsa.data.index import Split, index_dtype
from rsa.data.loader import TrainingViews
from rsa.data.views import candidate_view_pairs
from rsa.recipes import load_recipe

SIZES = (1_300_000, 100_000_000)
PER_SHARD = 1000
BATCH = 2048
BATCHES = 50  # of the first epoch


def write_index(folder: Path, samples: int) -> None:
    """Write an index of `samples` rows of 500x375 px images, and a manifest of shards that a cache would fetch."""
    (folder / "train").mkdir(parents=True)
    rows = np.lib.format.open_memmap(folder / "train" / INDEX, "w+", index_dtype(24), (samples,))
    for start in range(0, samples, 1_000_000):
        part = rows[start : start + 1_000_000]
        part["shard"] = np.arange(start, start + len(part)) // PER_SHARD
        part["height"], part["width"], part["size"] = 375, 500, 110_000
    rows.flush()
    count = -(-samples // PER_SHARD)
    shards = [{"name": f"{i:06d}.tar", "bytes": 115_000_000, "sha256": "0" * 64, "samples": PER_SHARD} for i in range(count)]
    split = {"samples": samples, "index_sha256": sha256(folder / "train" / INDEX), "shards": shards}
    remote = {"url": "memory://none", "cache": str(folder / "cache"), "cache_bytes": 10**12}
    (folder / MANIFEST).write_text(json.dumps({"classes": [], "splits": {"train": split}}))
    (folder / REMOTE).write_text(json.dumps(remote))


def measure(folder: Path) -> None:
    """Open the split and draw the ids, boxes and flips of some batches; prints seconds, MiB and milliseconds."""
    before = private_memory()
    recipe = candidate_view_pairs(load_recipe("quickstart").views)
    started = time.perf_counter()
    loader = TrainingViews(Split(folder, "train"), recipe, batch_size=BATCH, seed=0, threads=1)
    loader._samples(0)
    start_up = time.perf_counter() - started
    started = time.perf_counter()
    for i in range(BATCHES):
        loader.order.batch(i * 12)
    order = (time.perf_counter() - started) / BATCHES
    started = time.perf_counter()
    for i in range(BATCHES):
        loader._samples(i * 12 + 1)
    samples = (time.perf_counter() - started) / BATCHES
    memory = (private_memory() - before) / 2**20
    print(f"| {len(loader.split):,} | {start_up:.2f} | {memory:.0f} | {1000 * order:.1f} | {1000 * samples:.1f} |")


def private_memory() -> int:
    """Return the bytes that this process holds for itself; the system takes pages of mapped files back on demand."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def main() -> None:
    timed = f"ids of {BATCH} (ms) | with rows and boxes (ms)"
    print(f"| samples | start-up to the first batch's ids (s) | private memory (MiB) | {timed} |")
    print("| ---: | ---: | ---: | ---: | ---: |", flush=True)
    for samples in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            write_index(Path(folder), samples)
            subprocess.run([sys.executable, __file__, folder], check=True)


if __name__ == "__main__":
    measure(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
