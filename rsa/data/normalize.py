"""uint8 images -> the float input of a network."""

import torch
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pixels in [0, 1]


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) in channels_last order on `device`, normalised."""
    images = images.to(device, non_blocking=True)
    mean, std = (255 * torch.tensor(values, device=device) for values in (MEAN, STD))
    return ((images - mean) / std).permute(0, 3, 1, 2)
