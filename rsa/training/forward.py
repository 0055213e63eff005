"""The forward pass of a step as one module, which DistributedDataParallel can wrap."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map_only

from rsa import distributed
from rsa.data.samples import Samples

# Whether each forward pass sends buffers to all ranks, as torch calls it since 2.14 and before.
SEND_BUFFERS = next(
    name for name in ("forward_sync_buffers", "broadcast_buffers") if name in signature(DistributedDataParallel).parameters
)


class Forward(nn.Module):
    """Views -> mean losses; everything that gets a gradient is computed here, so that DistributedDataParallel sees it."""

    def __init__(self, method: Any, precision: str) -> None:
        super().__init__()
        self.method, self.precision = method, precision

    def forward(self, views: list[Tensor], samples: Samples, progress: float, share: float) -> tuple[dict[str, Tensor], Any]:
        """Return each loss, of which `loss` alone has a gradient, times the `share` of the batch; and detached embeddings."""
        with torch.autocast(views[0].device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            embedded = self.method.embed(views, samples)
        losses = {name: values.mean() * share for name, values in self.method.losses(embedded, progress).items()}
        return (
            {name: value if name == "loss" else value.detach() for name, value in losses.items()},
            tree_map_only(Tensor, Tensor.detach, embedded),
        )


def forward_of_ranks(method: Any, precision: str) -> Forward | DistributedDataParallel:
    """Return the forward pass of `method`; with several ranks, its backward pass averages gradients over them."""
    forward = Forward(method, precision)
    if distributed.world_size() == 1:
        return forward
    unsent: dict[str, Any] = {SEND_BUFFERS: False}  # batch norms are synchronised
    return DistributedDataParallel(
        forward,
        **unsent,
        gradient_as_bucket_view=True,
        # DINO freezes its prototypes at first. Also, buckets then stay as they are: otherwise torch orders them anew after the
        # first step of a process, and a resumed run would add gradients in another order, with other rounding.
        find_unused_parameters=True,
    )
