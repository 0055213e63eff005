"""Writing of shards: samples of a source -> WebDataset tars, an index and a manifest, byte for byte deterministic.

    <folder>/manifest.json                classes, and of every shard its bytes, sha256 and samples: all that later stages watch
    <folder>/source.json                  where the images came from, and those that could not be decoded
    <folder>/<split>/000000.tar           members KEY.jpg|png|... and KEY.cls (the label in ASCII)
    <folder>/<split>/index.npy            one row per sample, memory-mapped by `rsa.data.index`

The samples of a split are shuffled once by seed and distributed over shards, which are then written independently. The bytes
therefore do not depend on the number of workers, and an interrupted run resumes with the missing shards. Every image is fully
decoded here, and undecodable ones are left out, so that later stages never see one.
"""

import io
import json
import math
import multiprocessing
import os
import re
import shutil
import tarfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from rich.progress import track

from rsa.data.files import INDEX, MANIFEST, SOURCE, sha256
from rsa.data.index import index_dtype
from rsa.data.sources import Sample, Source
from rsa.params.shards import Resize, Shards

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # address of a Python object in Pillow's messages, different in each run
PROBED = 1000  # samples read to convert bytes per shard to samples per shard


def write_shards(
    source: Source, p: Shards, described: dict[str, Any], folder: Path, work: Path, workers: int | None = None
) -> None:
    """Write every split of `source` into `folder`; `described` is copied into source.json.

    Finished shards are kept in `work` until all are written, and reused by the next call. ValueError names every undecodable
    image if there are more than `p.max_bad_samples`.
    """
    manifest: dict[str, Any] = {"classes": source.classes, "splits": {}}
    finished = {split: _write_split(source, split, samples, p, work / split, workers) for split, samples in source.splits.items()}
    bad = [line for shards in finished.values() for shard in shards for line in shard.pop("bad")]
    if len(bad) > p.max_bad_samples:
        raise ValueError(
            f"{len(bad)} images cannot be decoded, and shards.max_bad_samples allows {p.max_bad_samples}: "
            "mend or remove them at the source\n" + "\n".join(f"  {line}" for line in bad)
        )
    for split, shards in finished.items():
        (folder / split).mkdir(parents=True)
        index = np.concatenate([np.load(_rows(work / split / shard["name"])) for shard in shards])
        if not len(index):
            raise ValueError(f"split {split!r} must have images that can be decoded, got none:\n" + "\n".join(bad[:20]))
        np.save(folder / split / INDEX, index)
        for shard in shards:
            shutil.move(work / split / shard["name"], folder / split / shard["name"])  # works across disks
        manifest["splits"][split] = {
            "samples": len(index),
            "index_sha256": sha256(folder / split / INDEX),
            "shards": shards,
        }
    (folder / SOURCE).write_text(json.dumps({**described, "shards": p.model_dump(mode="json"), "bad": bad}, indent=1) + "\n")
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _write_split(
    source: Source, split: str, samples: list[Sample], p: Shards, work: Path, workers: int | None
) -> list[dict[str, Any]]:
    """Write the shards of a split into `work`; return their manifest records in order."""
    if not samples:
        raise ValueError(f"split {split!r} must have images, got none")
    work.mkdir(parents=True, exist_ok=True)
    order = np.random.Generator(np.random.Philox(key=[p.seed, 1])).permutation(len(samples))
    shuffled = [samples[i] for i in order]
    size = _samples_per_shard(source, shuffled, p)
    name_length = max(len(_member(sample, p.resize)) for sample in samples)
    starts = range(0, len(samples), size)
    tasks = [
        (work / f"{number:06d}.tar", number, shuffled[start : start + size], p.resize, name_length)
        for number, start in enumerate(starts)
    ]
    # fork: the workers share the list of samples, which may have millions of entries
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _use_source, (source,)) as pool:
        written = pool.map(_write_shard, *zip(*tasks, strict=True))
        return list(track(written, f"shards of {split}", len(tasks), disable=not os.isatty(2)))


def _samples_per_shard(source: Source, shuffled: list[Sample], p: Shards) -> int:
    if p.samples_per_shard is not None:
        return p.samples_per_shard
    assert p.bytes_per_shard is not None  # checked by the params schema
    probed = shuffled[:PROBED]
    mean = sum(len(_encoded(source, sample, p.resize)[0]) + 4 * tarfile.BLOCKSIZE for sample in probed) / len(probed)
    return max(1, math.floor(p.bytes_per_shard / mean))


_source: Source  # of a worker


def _use_source(source: Source) -> None:
    global _source
    _source = source


def _write_shard(path: Path, number: int, samples: list[Sample], resize: Resize | None, name_length: int) -> dict[str, Any]:
    """Write one tar and its rows of the index, or reuse those of an interrupted run."""
    done = path.with_suffix(".json")
    if done.exists() and path.exists() and _rows(path).exists():
        recorded: dict[str, Any] = json.loads(done.read_text())
        if recorded["sha256"] == sha256(path):
            return recorded
    rows, bad = [], []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            try:
                data, height, width = _encoded(_source, sample, resize)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as why:  # what Pillow raises for broken files
                bad.append(f"{sample.origin}: {ADDRESS.sub('', str(why))}")
                continue
            name = _member(sample, resize)
            _add(tar, name, data)
            offset = tar.offset - (len(data) + tarfile.BLOCKSIZE - 1) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            _add(tar, f"{sample.key}.cls", str(sample.label).encode())
            rows.append((number, offset, len(data), zlib.crc32(data), sample.label, height, width, name.encode()))
    np.save(_rows(path), np.array(rows, index_dtype(name_length)))
    record = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path), "samples": len(rows), "bad": bad}
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.rename(done)  # last: this file marks the shard as finished
    return record


def _rows(shard: Path) -> Path:
    return shard.with_suffix(".npy")


def _encoded(source: Source, sample: Sample, resize: Resize | None) -> tuple[bytes, int, int]:
    """Return the bytes to store and the upright height and width in px, after decoding the image in full."""
    data = source.read(sample)
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        upright = ImageOps.exif_transpose(opened)
    width, height = upright.size
    if resize is None or (min(width, height) <= resize.short_side and sample.extension in ("jpg", "png")):
        return data, height, width
    factor = min(1.0, resize.short_side / min(width, height))
    width, height = round(width * factor), round(height * factor)
    buffer = io.BytesIO()
    small = upright.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    if sample.extension == "jpg":
        small.save(buffer, "JPEG", quality=resize.jpeg_quality)
    else:
        small.save(buffer, "PNG")
    return buffer.getvalue(), height, width


def _member(sample: Sample, resize: Resize | None) -> str:
    """Return the name of a sample's image in the tar; resized images are written as JPEG or PNG."""
    return f"{sample.key}.{sample.extension if resize is None or sample.extension == 'jpg' else 'png'}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # time 0, owner 0, mode 0644
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
