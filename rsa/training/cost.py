"""The cost of a step per image, counted and not timed: forward passes of a backbone and floating-point operations."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.training.loop import Method


class CostPerImage(NamedTuple):
    """The cost per training image."""

    forward_passes: float  # views through a backbone, with or without gradient, of any size; scoring included
    flops_per_image: float  # of matrix products and convolutions, forward and backward; a multiply-add counts as two


def cost_per_image(method: Method, batch: Batch, normalize: Normalize) -> CostPerImage:
    """Count one step of `method` in float32, on the device of `normalize`; it changes batch-norm statistics and gradients."""
    images = len(batch.samples.ids)
    passes = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal passes
        passes += len(inputs[0])

    assert isinstance(method, nn.Module)
    backbones = {module for name, module in method.named_modules() if name.rpartition(".")[2].endswith("backbone")}
    hooks = [backbone.register_forward_pre_hook(count) for backbone in backbones]
    with FlopCounterMode(display=False) as counter:
        method.before_step(1.0)
        embedded = method.embed([normalize(view) for view in batch.views], batch.samples)
        method.losses(embedded, 1.0)["loss"].mean().backward()  # type: ignore[no-untyped-call]
    for hook in hooks:
        hook.remove()
    return CostPerImage(passes / images, counter.get_total_flops() / images)
