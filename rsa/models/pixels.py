"""An encoder without weights: images (B, 3, H, W) -> their pixels, in [0, 1]."""

import torch.nn.functional as F
from torch import Tensor, nn, tensor

NAME = "pixels"  # backbone name in the encoder file
MOST = 32  # px; larger images are downscaled: 224 px would be 150,528 features


class Pixels(nn.Module):
    """An encoder that undoes the normalisation of its input by `mean` and `std` and flattens the pixels."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...] = (0.0,) * 3, std: tuple[float, ...] = (1.0,) * 3) -> None:
        super().__init__()
        self.register_buffer("mean", tensor(mean).view(3, 1, 1))
        self.register_buffer("std", tensor(std).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the pixels as features: (B, 3, H, W) -> (B, D)."""
        x = x * self.std + self.mean
        if max(x.shape[2:]) > MOST:
            x = F.adaptive_avg_pool2d(x, MOST)
        return x.flatten(1)
