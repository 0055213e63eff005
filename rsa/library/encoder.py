"""An encoder file as a module that is ready to use, with the transform of the images that it takes."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from rsa.models.backbones import representation
from rsa.models.encoder import Description, description_of, open_encoder

INTERPOLATION = {"linear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


class Encoder(nn.Module):
    """A trained backbone: images (B, 3, H, W), as `transform` makes them, -> representations (B, D), float32."""

    backbone: nn.Module
    transform: v2.Compose  # a PIL image, or uint8 images (..., 3, H, W) -> float32 (..., 3, crop, crop), normalised
    num_features: int  # D
    description: Description

    def __init__(self, backbone: nn.Module, description: Description, transform: v2.Compose) -> None:
        super().__init__()
        self.backbone, self.description, self.transform = backbone, description, transform
        self.eval()
        with torch.no_grad():  # counted, since some of timm's networks have other outputs than their `num_features`
            self.num_features = self(transform(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the representations (B, D) of normalised images (B, 3, H, W)."""
        return representation(self.backbone, images)

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        first: Tensor = next(iter(self.backbone.state_dict().values()))
        return first.device


def load_encoder(path: str | Path, *, resize: int | None = None, crop: int | None = None) -> Encoder:
    """Load the encoder file at `path`, as stage `pretrain` writes it, onto the CPU, in eval mode.

    Its `transform` scales the short side of an image to `resize` px and cuts out the central `crop` px. Both are the size of the
    views unless given; `evaluation` in params.yaml has those of the scores. Pillow's and torchvision's antialiased resizing
    round in other ways than the pipeline's, by less than a grey value on average.

    Raises ValueError, with the path, for a file that is missing, damaged or does not describe its encoder, and for a crop
    that is larger than the resized image.
    """
    path = Path(path)
    description = description_of(path)
    crop = crop or description.size
    resize = resize or max(crop, description.size)
    if crop > resize:
        raise ValueError(f"crop must be at most resize ({resize} px), got {crop}")
    backbone = open_encoder(description.model, path, model_from="its own description")
    return Encoder(backbone, description, transform_of(description, resize, crop))


def transform_of(description: Description, resize: int, crop: int) -> v2.Compose:
    """Build the transform of evaluation: RGB, short side to `resize` px, central crop of `crop` px, normalised."""
    return v2.Compose(
        [
            v2.RGB(),
            v2.ToImage(),
            v2.Resize(resize, INTERPOLATION[description.interpolation], antialias=True),
            v2.CenterCrop(crop),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(description.normalize.mean, description.normalize.std),
            v2.ToPureTensor(),
        ]
    )
