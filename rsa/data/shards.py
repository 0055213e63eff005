"""Writing of shards: samples of a source -> WebDataset tars, an index and a manifest, byte for byte deterministic.

    <folder>/manifest.json                classes, and of every shard its bytes, sha256 and samples: all that later stages watch
    <folder>/source.json                  where the images came from, what else was there, and those that could not be decoded
    <folder>/<split>/000000.tar           members KEY.jpg|png|... and KEY.cls (the label in ASCII)
    <folder>/<split>/index.npy            one row per sample, memory-mapped by `rsa.data.index`

The samples of a split are shuffled once by seed and distributed over shards, which are then written independently. The bytes
therefore do not depend on the number of workers, and an interrupted run resumes with the missing shards. Every image is fully
decoded here, by Pillow and by the decoder that later stages use (rsa.data.stored_image); undecodable ones are left out.
"""

import hashlib
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
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from rsa.data.decoding import Decoder
from rsa.data.files import INDEX, MANIFEST, SOURCE, sha256
from rsa.data.index import index_dtype
from rsa.data.sources import PRETRAIN, Sample, Source
from rsa.data.stored_image import Stored, stored
from rsa.params.shards import Resize, Shards
from rsa.processes import start_worker

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # address of a Python object in Pillow's messages, different in each run
PROBED = 1000  # samples read to convert bytes per shard to samples per shard


def write_shards(source: Source, p: Shards, origin: dict[str, Any], folder: Path, work: Path, workers: int | None = None) -> None:
    """Write every split of `source` into `folder`; `origin` says where the images come from, and is copied into source.json.

    Finished shards are kept in `work` until all are written, and reused by the next call. Every undecodable image is printed;
    if there are more than `p.max_bad_samples`, ValueError names them.
    """
    manifest: dict[str, Any] = {"classes": source.classes, "splits": {}}
    finished = {split: _write_split(source, split, samples, p, work / split, workers) for split, samples in source.splits.items()}
    bad = [line for shards in finished.values() for shard in shards for line in shard.pop("bad")]
    listed = "".join(f"\n  {line}" for line in bad)
    if len(bad) > p.max_bad_samples:
        raise ValueError(
            f"{len(bad)} images cannot be decoded, and shards.max_bad_samples allows {p.max_bad_samples}: "
            f"mend or remove them at the source{listed}"
        )
    if bad:
        print(
            f"shard: {len(bad)} images cannot be decoded and are left out, as shards.max_bad_samples allows:{listed}", flush=True
        )
    indexes = {
        split: np.concatenate([np.load(_rows(work / split / shard["name"])) for shard in shards])
        for split, shards in finished.items()
    }
    _require_classes(source, {split: index["label"] for split, index in indexes.items()}, bad)
    for split, shards in finished.items():
        (folder / split).mkdir(parents=True)
        index = indexes[split]
        np.save(folder / split / INDEX, index)
        for shard in shards:
            _put(work / split / shard["name"], folder / split / shard["name"])
        manifest["splits"][split] = {
            "samples": len(index),
            "index_sha256": sha256(folder / split / INDEX),
            "shards": shards,
        }
    document = {**origin, "shards": p.model_dump(mode="json"), "left_out": source.left_out, "bad": bad}
    (folder / SOURCE).write_text(json.dumps(document, indent=1) + "\n")
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _require_classes(source: Source, labels: dict[str, NDArray[np.int32]], bad: list[str]) -> None:
    """Raise ValueError, before days of pretraining, if a split or a class has lost all its training images."""
    for split in labels:
        if not len(labels[split]):
            raise ValueError(f"split {split!r} must have images that can be decoded, got none:\n" + "\n".join(bad[:20]))
    written = set(labels["train"].tolist())
    listed = {sample.label for split, samples in source.splits.items() if split != PRETRAIN for sample in samples}
    if lost := [f"class {source.classes[label]!r}" for label in sorted(listed - written)]:
        raise ValueError(
            f"split 'train' must have an image that can be decoded of every class, got none of {', '.join(lost)}: add some, or "
            "remove the class" + "".join(f"\n  {line}" for line in bad[:20])
        )


def _write_split(
    source: Source, split: str, samples: list[Sample], p: Shards, work: Path, workers: int | None
) -> list[dict[str, Any]]:
    """Write the shards of a split into `work`; return their manifest records in order."""
    if not samples:
        raise ValueError(f"split {split!r} must have images, got none")
    work.mkdir(parents=True, exist_ok=True)
    order = np.random.Generator(np.random.Philox(key=[p.seed, 1])).permutation(len(samples))
    shuffled = [samples[i] for i in order]
    name_length = max(len(_member(sample.key, sample.extension)) for sample in samples)
    # fork: the workers share the list of samples, which may have millions of entries
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start_worker, (source,)) as pool:
        size = _samples_per_shard(pool, shuffled, p)
        starts = range(0, len(samples), size)
        tasks = [
            (work / f"{number:06d}.tar", number, shuffled[start : start + size], p.resize, name_length)
            for number, start in enumerate(starts)
        ]
        written = pool.map(_write_shard, *zip(*tasks, strict=True))
        return list(track(written, f"shards of {split}", len(tasks), disable=not os.isatty(2)))


def _samples_per_shard(pool: ProcessPoolExecutor, shuffled: list[Sample], p: Shards) -> int:
    if p.samples_per_shard is not None:
        return p.samples_per_shard
    assert p.bytes_per_shard is not None  # checked by the params schema
    probed = pool.map(_stored, shuffled[:PROBED], repeat(p.resize), chunksize=20)
    sizes = [len(image.data) + 4 * tarfile.BLOCKSIZE for image in probed if isinstance(image, Stored)]
    return max(1, math.floor(p.bytes_per_shard / np.mean(sizes))) if sizes else PROBED  # without any, all are listed as bad


_source: Source  # of a worker
_decode: Decoder


def _start_worker(source: Source) -> None:
    global _source, _decode
    start_worker()
    _source, _decode = source, Decoder()


def _stored(sample: Sample, resize: Resize | None) -> Stored | str:
    """Return what to store of a sample, or its origin and why it cannot be decoded."""
    try:
        return stored(_source.read(sample), sample.extension, resize, _decode)
    except Exception as why:  # whatever Pillow raises for a damaged file, and that is anything
        reason = " ".join(ADDRESS.sub("", str(why)).split()) or type(why).__name__
        return f"{sample.origin}: {reason}"


def _write_shard(path: Path, number: int, samples: list[Sample], resize: Resize | None, name_length: int) -> dict[str, Any]:
    """Write one tar and its rows of the index, or reuse those of an interrupted run."""
    if (recorded := _finished(path)) is not None:
        return recorded
    rows, bad = [], []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            image = _stored(sample, resize)
            if isinstance(image, str):
                bad.append(image)
                continue
            name, data = _member(sample.key, image.extension), image.data
            _add(tar, name, data)
            offset = tar.offset - (len(data) + tarfile.BLOCKSIZE - 1) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            _add(tar, f"{sample.key}.cls", str(sample.label).encode())
            rows.append((number, offset, len(data), zlib.crc32(data), sample.label, image.height, image.width, name.encode()))
    np.save(_rows(path), np.array(rows, index_dtype(name_length)))
    record = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path), "samples": len(rows), "bad": bad}
    text = json.dumps(record | {"rows_sha256": sha256(_rows(path))})
    partial = path.with_suffix(".partial")
    partial.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    partial.rename(_done(path))  # last: this file marks the shard as finished
    return record


def _finished(shard: Path) -> dict[str, Any] | None:
    """Return the record of a shard that an interrupted run has finished; None if there is none, or a file of it is damaged."""
    try:
        digest, _, text = _done(shard).read_text().partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            return None
        record: dict[str, Any] = json.loads(text)
        return record if record.pop("rows_sha256") == sha256(_rows(shard)) and record["sha256"] == sha256(shard) else None
    except (OSError, ValueError):  # bytes that are no text, too
        return None


def _put(shard: Path, place: Path) -> None:
    """Hard-link a shard into the results, so that it also stays in `work` until all are there; move it to another disk."""
    try:
        os.link(shard, place)
    except OSError:  # another disk
        shutil.move(shard, place)


def _done(shard: Path) -> Path:
    return shard.with_suffix(".json")


def _rows(shard: Path) -> Path:
    return shard.with_suffix(".npy")


def _member(key: str, extension: str) -> str:
    return f"{key}.{extension}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # time 0, owner 0, mode 0644
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
