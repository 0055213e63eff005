"""Normalisation of uint8 images to the float input of a network."""

import torch
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pixels in [0, 1]


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """Normalise uint8 (B, H, W, 3) to float (B, 3, H, W) in channels_last order on `device`."""
    batch, height, width, _ = images.shape
    # Entire rows of pixels at a time; broadcasting over the three channels is several times slower.
    mean, std = (255 * torch.tensor(values, device=device).repeat(width) for values in (MEAN, STD))
    if device.type == "cuda" and images.device.type == "cpu":
        images = images.pin_memory()  # otherwise the transfer blocks
    x = images.to(device, non_blocking=True).reshape(batch, height, 3 * width).to(torch.get_default_dtype())
    return torch.addcmul(-mean / std, x, 1 / std, out=x).reshape(batch, height, width, 3).permute(0, 3, 1, 2)
