"""Counts measured on a method's networks: FLOPs, bytes kept for the backward pass, parameters, batch-norm channels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rsa.data.samples import Samples
from rsa.data.views import Recipe
from rsa.methods import build_method, hard_views
from rsa.methods.method import Method
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.hard_views import HardViews, Scoring

STATES = {"sgd": 1, "lars": 1, "adamw": 2}  # numbers that an optimiser keeps for each weight


@dataclass(frozen=True)
class Counts:
    """Counts of one method as configured in params.yaml."""

    flop: float  # of a step, per image
    activations: float  # bytes kept for the backward pass, per image
    parameters: int  # target networks' too
    trained: int  # those with a gradient
    buffers: int  # bytes
    states: int  # of the optimiser, per trained weight
    forward_channels: int  # of all batch norms in a step, every time one runs
    backward_channels: int
    norms: int  # runs of batch norms in a step, forward and backward: each is one exchange between ranks


def count(p: Params, name: str) -> Counts:
    """Count a step of the method `name` by sending a few images through it."""
    section = p.methods[name]
    model, recipe = build_method(section, build_backbone(p.model), p.views)
    model.to(memory_format=torch.channels_last).train()
    sizes = _sizes(recipe)
    bf16 = p.pretrain.precision == "bf16"
    kept = {}
    for images in (2, 4):  # the difference cancels what does not depend on the batch size
        with _kept_bytes(model) as bytes_kept:
            _step(model, sizes, images, bf16)
        kept[images] = bytes_kept()
    with _norm_channels(model) as channels, FlopCounterMode(display=False) as counter:
        _step(model, sizes, 2, bf16)
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    return Counts(
        counter.get_total_flops() / 2,
        (kept[4] - kept[2]) / 2,
        sum(weight.numel() for weight in weights),
        trained,
        buffers,
        STATES[section.optimizer.name],
        *channels(),
    )


@dataclass(frozen=True)
class Sketch:
    """Upper bounds of one method's counts, which take neither time nor memory."""

    flop: float  # of a step, per image
    activations: float  # bytes kept for the backward pass, per image, in float32
    parameters: int  # target networks' too
    sizes: list[int]  # px of the views of an image


def sketch(p: Params, name: str) -> Sketch:
    """Bound the counts of a step of the method `name` by sending two images through it on torch's `meta` device.

    Hard views are added as in docs/scaling.md: scoring a candidate exactly takes a quarter of a step of BYOL, and no more than
    that of any other method.
    """
    images = 2
    with torch.device("meta"):
        built, recipe = build_method(p.methods[name], build_backbone(p.model), p.views)
    candidates = built.p.candidates if isinstance(built, hard_views.HardViews) else 0
    model = (built.method if isinstance(built, hard_views.HardViews) else built).train()
    plain = model.recipe(p.views)
    with _kept_bytes(model) as bytes_kept, FlopCounterMode(display=False) as counter:
        _step(model, _sizes(plain), images, bf16=False, device="meta")
    flop = counter.get_total_flops() / images * (1 + candidates / 4)
    return Sketch(flop, bytes_kept() / images, sum(weight.numel() for weight in model.parameters()), _sizes(recipe))


def _sizes(recipe: Recipe) -> list[int]:
    """Return the size in px of each view."""
    return [recipe.crops[view.crop].size for view in recipe.views]


def with_hard_views(p: Params, name: str, candidates: int | None) -> Params:
    """Return the params with `name` training on the hardest of that many exactly scored candidates; None disables it."""
    scoring = Scoring(joint_views=True, precision="same", predicted=None, reuse=False)
    hard = candidates and HardViews(candidates=candidates, local_candidates=None, max_combinations=64, scoring=scoring)
    section = p.methods[name].model_copy(update={"hard_views": hard or None})
    return p.model_copy(update={"methods": {**p.methods, name: section}})


def _step(model: Method, sizes: list[int], images: int, bf16: bool, device: str = "cpu") -> None:
    random = np.random.default_rng(0)
    views = [torch.randn(images, 3, size, size, device=device).to(memory_format=torch.channels_last) for size in sizes]
    boxes = random.integers(1, 9, (len(sizes), images, 5))
    samples = Samples(np.arange(images), torch.zeros(images, dtype=torch.long), boxes, 0, 0)
    model.zero_grad()
    model.before_step(0.5)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        embedded = model.embed(views, samples)
    model.losses(embedded, 0.5)["loss"].mean().backward()  # type: ignore[no-untyped-call]


@contextmanager
def _kept_bytes(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Count the bytes that autograd saves inside the context, excluding weights."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # holds on to every tensor, so that no storage comes twice

    def pack(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own)


@contextmanager
def _norm_channels(model: nn.Module) -> Iterator[Callable[[], tuple[int, int, int]]]:
    """Count the channels of batch norms run in train mode inside the context, forward and backward, and the runs of both."""
    channels, runs = [0, 0], 0

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal runs
        if norm.training:
            runs += 2 if output.requires_grad else 1
            channels[0] += inputs[0].shape[1]
            channels[1] += inputs[0].shape[1] if output.requires_grad else 0

    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_hook(note) for norm in norms]
    try:
        yield lambda: (channels[0], channels[1], runs)
    finally:
        for handle in handles:
            handle.remove()
