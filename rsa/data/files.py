"""File names of a sharded dataset, the digest that identifies a file, and arrays whose damage is told by the file's name."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

INDEX, MANIFEST, SOURCE, REMOTE = "index.npy", "manifest.json", "source.json", "remote.json"


def load_array(path: Path, stage: str, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """Load a .npy file; ValueError names it, and the stage that makes it, if it does not exist or cannot be read."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mmap_mode)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: run the `{stage}` stage first") from None
    except OSError:  # of the disk, or of a permission: it names the file, and another run of the stage would not help
        raise
    except Exception as why:  # NumPy evaluates the header: a damaged one raises anything from SyntaxError to UnicodeDecodeError
        raise ValueError(f"{path} is cut off or damaged ({_line(why)}): run the `{stage}` stage again") from None
    return array


def _line(why: Exception) -> str:
    return " ".join(str(why).split()) or type(why).__name__


def sha256(path: Path) -> str:
    """Return the hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
