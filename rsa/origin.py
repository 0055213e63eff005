"""The origin of a result: SHA-256 digests of all that it was made from, by which the report recognises what is stale.

Keys are the dotted names of the sections of params.yaml that the stages read, and

encoder                    the encoder's file
pretraining                the sections that the encoder was trained with; a control has none
pretraining_images         the index of the images that it was trained on
features                   the files of the features
train_images, test_images  the index of each split, or its annotations
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rsa.data.files import sha256 as of_file
from rsa.params.sections import sha256 as of_values

Origin = dict[str, str]

__all__ = ["Origin", "of_file", "of_files", "of_sections", "of_values"]


def of_sections(sections: Mapping[str, Any]) -> Origin:
    """Return the digest of every section, by dotted name."""
    return {dotted: of_values(section) for dotted, section in sections.items()}


def of_files(paths: Iterable[Path]) -> str:
    """Return one digest of several files."""
    return hashlib.sha256("".join(of_file(path) for path in paths).encode()).hexdigest()
