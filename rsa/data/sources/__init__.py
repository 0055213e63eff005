"""Where images come from. A source lists its samples by split and reads their encoded bytes.

A new source is its file here, one line in `open_source`, and one section of the params schema.
"""

from rsa.data.sources.embedded import digits, photo_tiles
from rsa.data.sources.folder import folder
from rsa.data.sources.source import Sample, Source
from rsa.params import Dataset, Digits, Folder, PhotoTiles

__all__ = ["Sample", "Source", "open_source"]


def open_source(dataset: Dataset, seed: int) -> Source:
    """The source that a `datasets` section of params.yaml describes; `seed` draws its splits and subsets."""
    match dataset:
        case Digits():
            return digits(dataset, seed)
        case PhotoTiles():
            return photo_tiles(dataset)
        case Folder():
            return folder(dataset, seed)
