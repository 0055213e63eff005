"""Image sources. A source lists its samples by split and reads their encoded bytes.

To add a source, write a file here with the class of its section, and add that to `Dataset` and to `_open` (docs/data.md).
"""

from typing import Annotated

from pydantic import Field

from rsa.data.cache import RemoteShards
from rsa.data.sources.embedded import Digits, PhotoTiles, TranslatedDigits, digits, photo_tiles, translated_digits
from rsa.data.sources.folder import Folder, folder
from rsa.data.sources.source import PRETRAIN, Sample, Source, checked
from rsa.data.sources.tiny_imagenet import TinyImageNet, tiny_imagenet
from rsa.data.sources.torchvision import Torchvision, torchvision
from rsa.data.sources.webdataset import WebDataset, webdataset

__all__ = ["PRETRAIN", "Dataset", "Sample", "Source", "open_source"]

Dataset = Annotated[
    Digits | TranslatedDigits | PhotoTiles | Folder | Torchvision | TinyImageNet | WebDataset | RemoteShards,
    Field(discriminator="source"),
]


def open_source(dataset: Dataset, seed: int) -> Source:
    """Open the source that a `datasets` section of params.yaml describes; `seed` draws its splits and subsets.

    Its splits are `train`, `test`, and `pretrain` if params.yaml asks for one. ValueError describes a fault and its location.
    """
    return checked(dataset.root if isinstance(dataset, Torchvision) else dataset.raw, _open(dataset, seed))


def _open(dataset: Dataset, seed: int) -> Source:
    match dataset:
        case RemoteShards():
            raise ValueError(f"{dataset.url} holds shards, not images to be sharded")
        case Digits():
            return digits(dataset, seed)
        case TranslatedDigits():
            return translated_digits(dataset, seed)
        case PhotoTiles():
            return photo_tiles(dataset)
        case Folder():
            return folder(dataset, seed)
        case Torchvision():
            return torchvision(dataset, seed)
        case TinyImageNet():
            return tiny_imagenet(dataset)
        case WebDataset():
            return webdataset(dataset, seed)
