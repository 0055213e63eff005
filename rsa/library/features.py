"""Features of a folder of images or of a tensor, and kNN on them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rsa.data.sources.source import EXTENSIONS, is_hidden
from rsa.data.upright import upright
from rsa.evaluation.weighted_knn import weighted_knn
from rsa.library.encoder import Encoder

Paths = Sequence[str | Path]


def list_images(folder: str | Path) -> list[Path]:
    """Return the images in `folder` and the folders in it, sorted, without hidden ones. ValueError if there are none."""
    top = Path(folder)
    below = sorted(path for path in top.rglob("*") if path.suffix[1:].lower() in EXTENSIONS)
    images = [path for path in below if not is_hidden(path.relative_to(top).as_posix())]
    if not images:
        what = "got none" if top.is_dir() else "got no folder of this name"
        raise ValueError(f"{top} must hold images ({', '.join(sorted(EXTENSIONS))}), {what}")
    return images


def features(
    encoder: Encoder, images: str | Path | Paths | Tensor, *, batch_size: int = 64, workers: int = 0
) -> NDArray[np.float32]:
    """Return the features (N, D) of N images, which `encoder.transform` is applied to.

    `images` is a folder (see `list_images` for the order), a list of files, or a uint8 tensor (N, 3, H, W). They are encoded on
    the encoder's device, without gradients; `workers` processes decode files. Raises ValueError for an image that cannot be
    decoded, with its path, and for a tensor of another type or shape.
    """
    batches: Iterable[Tensor]
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be uint8 (N, 3, H, W), got {images.dtype} {tuple(images.shape)}")
        batches = map(encoder.transform, torch.split(images, batch_size))
    else:
        paths = list_images(images) if isinstance(images, str | Path) else [Path(path) for path in images]
        batches = DataLoader(Files(paths, encoder.transform), batch_size, num_workers=workers)
    with torch.no_grad():
        return np.concatenate([encoder(batch.to(encoder.device)).cpu().numpy() for batch in batches])


class Files(Dataset[Tensor]):
    """Image files, decoded as the pipeline decodes them, and transformed."""

    def __init__(self, paths: list[Path], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self.paths[index]
        try:
            image = upright(path.read_bytes())
        except Exception as why:  # Pillow raises anything at all for a damaged image
            raise ValueError(f"{path} must be an image that Pillow can decode, got {str(why) or type(why).__name__}") from None
        pixels: Tensor = self.transform(image)
        return pixels


def knn(x: NDArray[Any], y: ArrayLike, queries: NDArray[Any], *, k: int = 20, temperature: float = 0.07) -> NDArray[Any]:
    """Return the class (M,) of each query (M, D) by the weighted votes of its k nearest of x (N, D), by cosine.

    `y` are the N classes, numbers or names. k and the temperature are DINO's (Caron et al. 2021; Wu et al. 2018, section 3.4);
    rsa.evaluation.weighted_knn has the formula. ValueError where x and y differ in length, or x and queries in D.
    """
    labels = np.asarray(y)
    if len(labels) != len(x) or x.shape[1:] != queries.shape[1:]:
        raise ValueError(
            f"x (N, D), y (N,) and queries (M, D) must agree in N and D, got {x.shape}, {labels.shape} and {queries.shape}"
        )
    return weighted_knn(x, labels, queries, [k], temperature)[k]
