"""Existing WebDataset shards, local or on whatever fsspec reaches (s3://, memory://, ...), read without unpacking.

`train` (and `test`) are paths or URLs with braces (`{000..146}`) and wildcards. A sample is a `KEY.EXTENSION` for one of the
extensions in `image`, and its label: `KEY.cls` in ASCII, or a number or class name at a key of `KEY.json`.

    my_shards:
      source: webdataset
      raw: data/raw/shards.txt      # what DVC watches: the folder of local shards; of remote ones a file that changes with them
      train: s3://bucket/train-{000..146}.tar  # or a list
      test: null
      test_fraction: 0.1            # or, with `test` given, null
      image: [jpg, png]
      label: cls                    # or json.KEY; a dotted KEY goes deeper

Each shard is scanned once, which reads a remote shard entirely; then one range is read per sample.
"""

import bisect
import json
import re
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple

import numpy as np
from braceexpand import braceexpand
from pydantic import Field

from rsa.data.remote import URL, filesystem_of, retried
from rsa.data.sources.source import EXTENSIONS, ReadOrigin, Sample, Source, WithTest, key_of, kinds, without_test
from rsa.data.sources.tarred import walk_tar
from rsa.params.section import FilePath

DIGITS = 18  # of a class number at most; Python refuses to read thousands
MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")  # key, extension: webdataset ends a key at the file name's first dot


class WebDataset(WithTest):
    """Section of existing WebDataset shards."""

    source: Literal["webdataset"]
    raw: FilePath
    train: URL | list[URL]
    test: URL | list[URL] | None
    image: Annotated[
        list[Literal["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm", "pgm", "jpe", "jfif"]], Field(min_length=1)
    ]
    label: Annotated[str, Field(pattern=r"^(cls|json\..+)$")]


class ShardRow(NamedTuple):
    """A sample of a shard, with the label as written there."""

    origin: str  # SHARD::MEMBER
    key: str
    extension: str
    label: int | str
    url: str
    offset: int
    size: int


def webdataset(params: WebDataset, seed: int) -> Source:
    """Build the source, sorted by shard and member; ValueError names a missing, truncated or incomplete shard."""
    unused: list[str] = []
    rows = {"train": _rows(params, params.train, unused)}
    rows["test"] = _rows(params, params.test, unused) if params.test is not None else []
    classes, label_of = _classes(rows["train"])
    samples: dict[str, list[Sample]] = {}
    for split, split_rows in rows.items():
        samples[split] = []
        for row in split_rows:
            if row.label not in label_of:
                raise ValueError(f"{row.origin} has the label {row.label!r}, which no training sample has")
            samples[split].append(Sample(row.key, row.extension, label_of[row.label], row.origin))
    read = RangeReader([*rows["train"], *rows["test"]])
    if params.test_fraction is not None:
        where, fraction = str(params.train), params.test_fraction
        samples["train"], samples["test"] = without_test(where, samples["train"], classes, fraction, seed)
    return Source(classes, samples, ReadOrigin(read), kinds(unused))


class RangeReader:
    """A reader of samples by byte range; each process opens the file system itself (fsspec is not fork-safe)."""

    def __init__(self, rows: list[ShardRow]) -> None:
        rows = sorted(rows)
        self.urls = sorted({row.url for row in rows})
        number = {url: i for i, url in enumerate(self.urls)}
        self.origins = [row.origin for row in rows]
        self.ranges = np.array([(number[row.url], row.offset, row.size) for row in rows], np.int64).reshape(-1, 3)

    def __call__(self, origin: str) -> bytes:
        """Return the content of a member."""
        shard, offset, size = map(int, self.ranges[bisect.bisect_left(self.origins, origin)])
        url = self.urls[shard]
        filesystem, path = filesystem_of(url)
        data: bytes = retried(url, lambda: filesystem.cat_file(path, start=offset, end=offset + size))
        if len(data) != size:
            raise ValueError(f"{origin} must have {size} bytes, got {len(data)}: the shard has changed, run the stage again")
        return data


def _rows(params: WebDataset, patterns: str | list[str], unused: list[str]) -> list[ShardRow]:
    """Return the samples of all shards, sorted; names of members that belong to no sample are added to `unused`."""
    urls = _urls([patterns] if isinstance(patterns, str) else patterns)
    rows = sorted(row for url in urls for row in _shard_rows(params, url, unused))
    if not rows:
        raise ValueError(f"{patterns} must hold images ({', '.join(params.image)}), got {len(urls)} empty shards")
    return rows


def _urls(patterns: list[str]) -> list[str]:
    """Return all shards, sorted; ValueError for a pattern without matches or a duplicate shard."""
    urls: list[str] = []
    for pattern in (expanded for each in patterns for expanded in braceexpand(each)):
        if not re.search(r"[*?\[]", pattern):
            urls.append(pattern)
            continue
        filesystem, path = filesystem_of(pattern)
        names = retried(pattern, partial(filesystem.glob, path))
        matches = [filesystem.unstrip_protocol(name) if "://" in pattern else name for name in names]
        if not matches:
            raise ValueError(f"{pattern} must match at least one shard, got none")
        urls += matches
    urls.sort()
    for before, url in pairwise(urls):
        if before == url:
            raise ValueError(f"{url} must be named once, got more")
    return urls


def _shard_rows(params: WebDataset, url: str, unused: list[str]) -> list[ShardRow]:
    try:
        images, labels, unused_here = retried(url, lambda: _members(params, url))
    except OSError as why:
        raise ValueError(f"shard {why}") from None
    unused += unused_here
    for key, (name, *_) in images.items():
        if key not in labels:
            extension = params.label.partition(".")[0]
            raise ValueError(f"{url}: {name} must have its label in {key}.{extension}, got no such member")
    return [
        ShardRow(f"{url}::{name}", key_of(f"{key}."), EXTENSIONS[extension], labels[key], url, offset, size)
        for key, (name, extension, offset, size) in images.items()
    ]


def _members(params: WebDataset, url: str) -> tuple[dict[str, tuple[str, str, int, int]], dict[str, int | str], list[str]]:
    """Return ({key: member, extension, offset and size of its image}, {key: label}, unused members) of a shard.

    All are empty for a shard without members.
    """
    label_extension, _, json_key = params.label.partition(".")
    images: dict[str, tuple[str, str, int, int]] = {}
    labels: dict[str, int | str] = {}
    unused: list[str] = []
    filesystem, path = filesystem_of(url)
    empty = True
    with filesystem.open(path, "rb") as file:
        for member in walk_tar(file, url):
            empty = False
            match = MEMBER.fullmatch(member.name)
            if match is None or not member.isreg():
                unused += [member.name] * member.isreg()
                continue
            key, extension = match[1], match[2].lower()
            if extension in params.image:
                if key in images:
                    raise ValueError(f"{url}: {key!r} must have one image, got {images[key][0]} and {member.name}")
                images[key] = (member.name, extension, member.offset_data, member.size)
            elif extension == label_extension:
                labels[key] = _label(f"{url}::{member.name}", _content(file, member), json_key)
            else:
                unused.append(member.name)
    if not (empty or images):
        raise ValueError(f"{url} must hold images ({', '.join(params.image)}), got none")
    return images, labels, unused


def _content(file: BinaryIO, member: Any) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _label(where: str, content: bytes, json_key: str) -> int | str:
    """Parse a class number in ASCII digits, or the number or name at a dotted key of a JSON document."""
    value: Any
    if not json_key:
        text = content.strip()
        if not re.fullmatch(rb"[0-9]{1,%d}" % DIGITS, text):
            raise ValueError(f"{where} must be a class number in ASCII, of at most {DIGITS} digits, got {content[:30]!r}")
        return int(text)
    try:
        value = json.loads(content)
        for key in json_key.split("."):
            value = value[key]
    except (ValueError, KeyError, TypeError, RecursionError) as why:
        raise ValueError(f"{where} must be JSON with {json_key!r}, got {type(why).__name__}: {why}") from None
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and not 0 <= value < 10**DIGITS):
        raise ValueError(f"{where} must have a class number or name at {json_key!r}, got {str(value)[:30]!r}")
    return value


def _classes(train: list[ShardRow]) -> tuple[list[str], dict[int | str, int]]:
    """Return class names (sorted names, or numbers from 0 to the largest in training) and each label's class number."""
    numbers = [row.label for row in train if isinstance(row.label, int)]
    if not numbers:
        names = sorted({row.label for row in train if isinstance(row.label, str)})
        return names, {name: label for label, name in enumerate(names)}
    if len(numbers) < len(train):
        odd = next(row for row in train if isinstance(row.label, str))
        raise ValueError(f"{odd.origin} must have a class number, as other samples have, got {odd.label!r}")
    present = set(numbers)
    largest = max(present)
    if lacking := largest + 1 - len(present):  # counted, as the largest number may be an id or a hash
        first = next(number for number in range(largest) if number not in present)
        raise ValueError(f"class {first} of 0 to {largest} must have training images, got none ({lacking} such classes)")
    return [str(label) for label in range(largest + 1)], {label: label for label in range(largest + 1)}
