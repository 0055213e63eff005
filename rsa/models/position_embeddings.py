"""Resizing of a ViT's position embeddings by a matrix product, for views that are smaller than the size it was built for.

Bicubic interpolation with antialiasing, which timm uses, has no deterministic backward pass on GPUs. It is linear in the
embeddings: the matrix is what it does to one-hot embeddings, and the results are equal to rounding.
"""

from functools import cache

import torch
import torch.nn.functional as F
from timm.models import vision_transformer
from torch import Tensor

Size = tuple[int, int]  # rows and columns of patches


def resize_position_embeddings(posemb: Tensor, new_size: list[int], old_size: list[int], num_prefix_tokens: int) -> Tensor:
    """Resize (1, prefix + old patches, D) -> (1, prefix + new patches, D); prefix tokens have no position and stay.

    It replaces timm's `resample_abs_pos_embed` and takes the arguments with which timm's ViTs call it.
    """
    if tuple(new_size) == tuple(old_size):
        return posemb
    prefix, patches = posemb[:, :num_prefix_tokens], posemb[:, num_prefix_tokens:]
    matrix = interpolation((old_size[0], old_size[1]), (new_size[0], new_size[1]), posemb.dtype, posemb.device)
    with torch.autocast("cuda" if posemb.is_cuda else "cpu", enabled=False):  # not in bf16; device `meta` has no autocast
        return torch.cat([prefix, matrix @ patches], dim=1)


@cache
def interpolation(old: Size, new: Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (new patches, old patches) of a bicubic interpolation with antialiasing."""
    count = old[0] * old[1]
    one_hot = torch.eye(count, dtype=torch.float64, device="cpu").view(count, 1, *old)
    return F.interpolate(one_hot, new, mode="bicubic", antialias=True).view(count, -1).T.to(device, dtype)


def use_matrices() -> None:
    """Make timm's ViTs resize position embeddings by matrix products, in this process."""
    vision_transformer.resample_abs_pos_embed = resize_position_embeddings
