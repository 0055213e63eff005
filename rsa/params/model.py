"""Section `model`: the backbone."""

from typing import Any

from rsa.params.section import Section


class Model(Section):
    """A network of timm's by its name, with its arguments, and whether its stem is changed for small images."""

    backbone: str
    backbone_args: dict[str, Any]
    small_stem: bool
