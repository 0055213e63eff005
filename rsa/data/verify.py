"""Full check of a sharded dataset: files against the manifest and the index, and every image decoded as training will."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from rsa.data.decoding import Decoder
from rsa.data.files import INDEX, REMOTE, sha256
from rsa.data.index import Split, read_manifest
from rsa.data.stored_image import shows
from rsa.data.upright import upright
from rsa.processes import start_worker


def verify(folder: Path) -> list[str]:
    """Return a message for every fault, with split, shard and sample; empty if there is none."""
    faults: list[str] = []
    manifest = read_manifest(folder)
    for name, recorded in manifest["splits"].items():
        shards = [(folder / name / shard["name"], shard["bytes"], shard["sha256"]) for shard in recorded["shards"]]
        files = [(folder / name / INDEX, None, recorded["index_sha256"]), *([] if (folder / REMOTE).is_file() else shards)]
        damaged = [fault for file in files for fault in _file_faults(*file)]
        faults += damaged
        if not damaged:  # samples of a damaged shard are not where the index says
            with ProcessPoolExecutor(initializer=start_worker) as pool:
                numbers = range(len(shards))
                faults += [
                    fault
                    for shard_faults in pool.map(_sample_faults, *zip(*((folder, name, n) for n in numbers), strict=True))
                    for fault in shard_faults
                ]
    return faults


def _file_faults(path: Path, size: int | None, digest: str) -> Iterator[str]:
    if not path.is_file():
        yield f"{path}: missing"
    elif size is not None and path.stat().st_size != size:
        yield f"{path}: must have {size} bytes, got {path.stat().st_size}"
    elif (actual := sha256(path)) != digest:
        yield f"{path}: must have sha256 {digest}, got {actual}"


@cache
def _opened(folder: Path, name: str) -> Split:
    """Open a split once in each worker: opening hashes the whole index."""
    return Split(folder, name)


def _sample_faults(folder: Path, name: str, shard: int) -> list[str]:
    """Return the faults among the samples of one shard."""
    split = _opened(folder, name)
    try:
        split.open_shard(shard, check=True).close()  # fetches and checks a remote shard
    except OSError as why:
        return [str(why)]
    faults, decode = [], Decoder()
    for id in np.flatnonzero(split.rows["shard"] == shard):
        row = split.rows[id]
        try:
            encoded = split.read(int(id))
            image = upright(encoded.tobytes())
        except Exception as why:  # whatever Pillow raises for a damaged file, and that is anything
            faults.append(f"{split.describe(int(id))}: {why}")
            continue
        if image.size != (row["width"], row["height"]):
            faults.append(
                f"{split.describe(int(id))}: must be {row['width']}x{row['height']} px, got {image.width}x{image.height}"
            )
        elif not shows(decode(encoded), image):
            faults.append(f"{split.describe(int(id))}: Pillow and the decoder of training must show the same, got other pixels")
    return faults
