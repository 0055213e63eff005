"""The control `random`: the random encoder that every method with its seed starts from. Nothing is trained."""

from typing import Literal

from torch import nn

from rsa.methods.method import ControlSettings


class Settings(ControlSettings):
    """The section of `methods` of the random encoder."""

    method: Literal["random"]


def encoder(backbone: nn.Module) -> nn.Module:
    """The backbone as it was built."""
    return backbone
