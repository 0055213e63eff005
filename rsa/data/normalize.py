"""Normalisation of uint8 images to the float input of a network."""

import torch
from torch import Tensor

from rsa.data.transfer import upload
from rsa.params.views import ChannelStatistics


class Normalize:
    """Normalises uint8 images (B, H, W, 3) to float (B, 3, H, W) in channels_last order on `device`."""

    def __init__(self, p: ChannelStatistics, device: torch.device) -> None:
        mean, std = (255 * torch.tensor(values, device=device) for values in (p.mean, p.std))
        self.device, self.scale, self.shift = device, 1 / std, -mean / std

    def __call__(self, images: Tensor) -> Tensor:
        """Return (images / 255 - mean) / std."""
        batch, height, width, _ = images.shape
        if images.device.type != self.device.type:
            images = upload(images, self.device)
        x = images.reshape(batch, height, 3 * width).to(self.scale.dtype)
        # Entire rows of pixels at a time; broadcasting over the three channels is several times slower.
        x = torch.addcmul(self.shift.repeat(width), x, self.scale.repeat(width), out=x)
        return x.reshape(batch, height, width, 3).permute(0, 3, 1, 2)
