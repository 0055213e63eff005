"""Writing shards: samples of a source -> WebDataset tars, an index and a manifest, deterministic to the byte.

    <folder>/manifest.json                classes, params, and of every shard its bytes, sha256 and samples
    <folder>/<split>/000000.tar           members KEY.jpg|png|... and KEY.cls (the label in ASCII)
    <folder>/<split>/index.npy            one row per sample, memory-mapped by `rsa.data.index`

The samples of a split are shuffled once by seed. Every image is fully decoded here, so that nothing later meets a bad one.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from rsa.data.index import INDEX, MANIFEST, index_dtype
from rsa.data.sources import Sample, Source
from rsa.params import Shards

BLOCK = tarfile.BLOCKSIZE


class Row(NamedTuple):
    """One sample's line of the index."""

    shard: int
    offset: int
    size: int
    label: int
    height: int
    width: int
    name: bytes


def write_shards(source: Source, params: Shards, described: dict[str, Any], folder: Path) -> None:
    """Write every split of `source` into `folder`; `described` goes into the manifest as it is.

    ValueError names each undecodable image when there are more than `params.max_bad_samples`.
    """
    manifest: dict[str, Any] = {**described, "classes": source.classes, "splits": {}}
    bad: list[str] = []
    for split, samples in source.splits.items():
        (folder / split).mkdir(parents=True)
        good = list(_decodable(source, samples, bad))
        if not good:
            raise ValueError(f"split {split!r} must have images, got none of {len(samples)} decodable:\n" + "\n".join(bad[:20]))
        order = np.random.Generator(np.random.Philox(key=[params.seed, 1])).permutation(len(good))
        shuffled = [good[i] for i in order]
        rows: list[Row] = []
        shards = []
        for number, start in enumerate(range(0, len(shuffled), params.samples_per_shard)):
            path = folder / split / f"{number:06d}.tar"
            written = list(_write_tar(path, number, source, shuffled[start : start + params.samples_per_shard]))
            rows += written
            shards.append({"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path), "samples": len(written)})
        index = folder / split / INDEX
        np.save(index, np.array(rows, index_dtype(max(len(row.name) for row in rows))))
        manifest["splits"][split] = {"samples": len(rows), "index_sha256": sha256(index), "shards": shards}
    if len(bad) > params.max_bad_samples:
        raise ValueError(
            f"{len(bad)} images cannot be decoded, and shards.max_bad_samples allows {params.max_bad_samples}:\n" + "\n".join(bad)
        )
    manifest["bad"] = bad
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _decodable(source: Source, samples: list[Sample], bad: list[str]) -> Iterator[tuple[Sample, int, int]]:
    """The samples that decode, with height and width; the others are appended to `bad` by name and reason."""
    for sample in samples:
        try:
            with Image.open(io.BytesIO(source.read(sample))) as image:
                image.load()
                width, height = ImageOps.exif_transpose(image).size
            yield sample, height, width
        except (OSError, ValueError, SyntaxError) as why:  # what Pillow raises for broken files
            bad.append(f"  {sample.origin}: {why}")


def _write_tar(path: Path, number: int, source: Source, samples: list[tuple[Sample, int, int]]) -> Iterator[Row]:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, height, width in samples:
            data = source.read(sample)
            name = f"{sample.key}.{sample.extension}"
            _add(tar, name, data)
            offset = tar.offset - (len(data) + BLOCK - 1) // BLOCK * BLOCK
            _add(tar, f"{sample.key}.cls", str(sample.label).encode())
            yield Row(number, offset, len(data), sample.label, height, width, name.encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # time 0, owner 0, mode 0644
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
