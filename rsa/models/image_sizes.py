"""Check that a backbone takes images of the sizes that an experiment shows it, without weights or pixels."""

from collections.abc import Mapping

import torch

from rsa.models.backbones import build_backbone, representation
from rsa.params.model import Model


def require_sizes(model: Model, sizes: Mapping[str, int]) -> None:
    """Raise ValueError unless the backbone takes square images of every size, which are given in px by the params key.

    A network of timm's refuses images of another size than it was built for, or that shrink to nothing in it, only when it sees
    the first one. Tensors on torch's device `meta` have shapes alone: no memory, and 0.1 s for a ViT-B.
    """
    with torch.device("meta"):
        backbone = build_backbone(model).eval()
    for key, size in sizes.items():
        try:
            representation(backbone, torch.empty(1, 3, size, size, device="meta"))
        except NotImplementedError:  # torch cannot follow shapes through an operator of this backbone: the first image will tell
            return
        except (AssertionError, RuntimeError, ValueError) as why:
            reason = str(why).strip().splitlines()[0].rstrip(".")
            raise ValueError(
                f"{key} must be a size that model.backbone {model.backbone} takes, got {size} ({reason}): "
                "change it, or set model.backbone_args.img_size to it or dynamic_img_size to true where the backbone has them"
            ) from None
