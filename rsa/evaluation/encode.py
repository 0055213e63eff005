"""Frozen encoders: uint8 images in, float32 features out."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rsa.data.evaluation_images import evaluation_images
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.models.backbones import representation
from rsa.params.evaluation import Evaluation
from rsa.training.device import gpu_number

Encode = Callable[[Tensor], NDArray[np.float32]]  # uint8 images (B, H, W, 3) -> (B, D)


def frozen(backbone: nn.Module, normalize: Normalize) -> Encode:
    """Freeze a backbone and return it as a function of images; in eval mode its batch norms stay as they were trained."""
    backbone.to(normalize.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(images: Tensor) -> NDArray[np.float32]:
        return representation(backbone, normalize(images)).cpu().numpy()

    return encode


def encode_split(
    encode: Encode, split: Split, p: Evaluation, threads: int, device: torch.device
) -> Iterator[NDArray[np.float32]]:
    """Iterate over the features (B, D) of a whole split in id order, a batch at a time."""
    images = evaluation_images(split, p, batch_size=p.batch_size, threads=threads, gpu=gpu_number(device))
    return map(encode, images)
