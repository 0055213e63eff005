"""File names of a sharded dataset, and the digest that identifies a file."""

import hashlib
from pathlib import Path

INDEX, MANIFEST, SOURCE, REMOTE = "index.npy", "manifest.json", "source.json", "remote.json"


def sha256(path: Path) -> str:
    """Return the hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
