"""The control `random`: the random encoder from which every method with the same seed starts. Nothing is trained."""

from typing import Literal

from torch import nn

from rsa.methods.method import ControlSettings
from rsa.params.views import Views


class Settings(ControlSettings):
    """Section of the control `random` in `methods`."""

    method: Literal["random"]


def encoder(backbone: nn.Module, views: Views) -> nn.Module:
    """Return the backbone as it was initialised."""
    return backbone
