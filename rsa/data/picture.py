"""Images of views for visual inspection."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def save_views(views: list[Tensor], count: int, path: Path) -> None:
    """Save a grid with a column per sample (the first `count`) and a row per view, each uint8 (B, size, size, 3).

    Local views are enlarged to the others' size.
    """
    side = max(view.shape[1] for view in views)
    rows = [np.concatenate([_enlarged(tile, side) for tile in view[:count].cpu().numpy()], axis=1) for view in views]
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)


def _enlarged(tile: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return tile if len(tile) == side else np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST))
