"""A backbone small enough to follow by hand, and images for it."""

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """A convolution, a batch norm, the mean over pixels: h is (B, 5)."""

    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))


def images(count: int, views: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 3, 6, 6, generator=generator) for _ in range(views)]
