"""The control `pixels`: an encoder whose features are the pixels themselves. Nothing is trained."""

from typing import Literal

from torch import nn

from rsa.methods.method import ControlSettings
from rsa.models.pixels import Pixels
from rsa.params.views import Views


class Settings(ControlSettings):
    """Section of the control `pixels` in `methods`."""

    method: Literal["pixels"]


def encoder(backbone: nn.Module, views: Views) -> nn.Module:
    """Return the pixel encoder, whatever the backbone is."""
    return Pixels(views.normalize.mean, views.normalize.std)
