"""Uniform access to a folder, zip or tar: a list of names and a function that reads one file."""

import os
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rsa.data.sources.tarred import COMPRESSED, open_tar
from rsa.data.sources.zipped import open_zip

Reader = Callable[[str], bytes]


def open_files(path: Path) -> tuple[list[str], Reader]:
    """Return the sorted names below `path`, separated by "/", folders ending in "/", and a picklable reader."""
    if path.is_dir():
        return sorted(_walk(path)), partial(read_below, path)
    if not path.exists():
        raise ValueError(f"{path} does not exist: put the images there (a folder, zip or tar), or change `raw` of the dataset")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(tuple(COMPRESSED)) or (not start.startswith(b"PK") and tarfile.is_tarfile(path)):
        return open_tar(path)  # asked first: a tar whose last member is a zip ends as a zip does
    if zipfile.is_zipfile(path):
        return open_zip(path)
    raise ValueError(f"{path} must be a folder, a zip or a tar, got something else, or one cut short")


def read_below(folder: Path, name: str) -> bytes:
    """Return the content of a file in `folder`."""
    return (folder / name).read_bytes()


def _walk(folder: Path) -> list[str]:
    """List every name below `folder`, following links; ValueError for an unreadable folder or a cyclic link.

    A dangling link is listed as a file, so that reading it fails with its name.
    """
    names = []
    todo: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", (_identity(folder),))]
    while todo:
        here, above = todo.pop()
        try:
            entries = list(os.scandir(folder / here))
        except OSError as why:
            raise ValueError(f"{folder / here} must be a readable folder: {why.strerror}") from None
        for entry in entries:
            name = here + entry.name
            if not entry.is_dir():
                names.append(name)
                continue
            names.append(f"{name}/")
            identity = _identity(folder / name)
            if identity in above:
                raise ValueError(f"{folder / name} must not link to a folder that it is in")
            todo.append((f"{name}/", (*above, identity)))
    return names


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino
