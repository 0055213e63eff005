"""python -m pipeline.scaling --params recipes/imagenet.yaml: what a run asks of storage, network and memory, on paper.

One column for each number of GPUs. What is counted (operations, bytes kept for the backward pass, parameters, batch norms) is
counted on the networks of params.yaml, a few images through them on the CPU; the rest are the formulae below. What nobody
can count is given by flags: how fast a GPU is (`python -m rsa doctor` on one prints images/s), how large the images are.
`python benchmarks/scaling.py` compares the predictions for the machine it runs on with measurements.

Units: bytes, seconds, images, floating-point operations (a multiply-add is two). 1 MB is 10^6 bytes.
"""

import argparse
import io
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rsa import params
from rsa.data.index import index_dtype
from rsa.data.normalize import as_input
from rsa.data.samples import Samples
from rsa.methods import build_method
from rsa.methods.method import Method
from rsa.models.backbones import build_backbone
from rsa.params import Params
from rsa.training.checkpoint import KEPT

FLOAT = 4  # bytes: weights, gradients and momenta are float32, whatever pretrain.precision says
BLOCK, RECORD = 512, 10240  # bytes: of a tar, and what its end is filled up to
STATES = {"sgd": 1, "lars": 1, "adamw": 2}  # numbers that an optimiser keeps for each weight
CPU = torch.device("cpu")

# ---- shards ---------------------------------------------------------------------------------------


def sample_bytes(image_bytes: float) -> float:
    """Of a sample in a tar: a header and its label's header and block, and the image filled up to whole blocks.

    Exact for a whole number of bytes; a mean gets the mean filling, half a block.
    """
    whole = float(image_bytes).is_integer()
    return 3 * BLOCK + (BLOCK * math.ceil(image_bytes / BLOCK) if whole else image_bytes + BLOCK / 2)


def shard_bytes(samples: float) -> float:
    """Of a tar, from the bytes of its samples together: two empty blocks end it, filled up to a whole record."""
    return RECORD * math.ceil((samples + 2 * BLOCK) / RECORD)


def index_bytes(images: int, name_length: int) -> int:
    """Of index.npy: numpy's header, and a row for each sample."""
    rows, header = index_dtype(name_length), io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(rows), "fortran_order": False, "shape": (images,)}
    np.lib.format.write_array_header_1_0(header, described)
    return header.tell() + images * rows.itemsize


def missed(cache_bytes: float, dataset_bytes: float) -> float:
    """Share of samples whose shard isn't in the cache: an epoch's order visits shards evenly, whatever was used last."""
    return max(0.0, 1 - cache_bytes / dataset_bytes)


def touched(samples: float, shards: int) -> float:
    """Share of the shards that so many samples of an epoch's order lie in: all that an empty cache fetches for them."""
    return 1.0 - float((1 - 1 / shards) ** samples)


# ---- time -----------------------------------------------------------------------------------------


def images_per_second(step_flop: float, flop_per_second: float) -> float:
    """Of a device that reaches `flop_per_second` in training, for steps of `step_flop` per image."""
    return flop_per_second / step_flop


# ---- checkpoints and ranks ------------------------------------------------------------------------


def checkpoint_bytes(parameters: int, buffers: int, trained: int, states: int) -> int:
    """Of the tensors in a checkpoint: weights (target networks too), buffers' bytes, and what the optimiser keeps."""
    return FLOAT * (parameters + states * trained) + buffers


def checkpoint_interval(steps: int, minutes: float, step_seconds: float) -> float:
    """Seconds between two: whichever comes first."""
    return min(steps * step_seconds, 60 * minutes)


def gradient_bytes(trained: int) -> int:
    """That are all-reduced in a step, in one message."""
    return FLOAT * trained


def batch_norm_bytes(forward_channels: int, backward_channels: int) -> int:
    """That ranks exchange in a step: mean and variance of every channel forward, two sums backward."""
    return 2 * FLOAT * (forward_channels + backward_channels)


def ring_bytes(payload: float, ranks: int) -> float:
    """That each rank sends (and receives) to all-reduce `payload` bytes in a ring, as NCCL and gloo do."""
    return 2 * (ranks - 1) / ranks * payload


def memory_bytes(parameters: int, trained: int, states: int, ranks: int, activations: float, images: float) -> float:
    """Of a device: weights, gradients (twice while they are all-reduced), momenta, and what `images` at once keep for the
    backward pass. Without what libraries need for themselves."""
    gradients = 2 if ranks > 1 else 1
    return FLOAT * (parameters + (states + gradients) * trained) + activations * images


# ---- what is counted ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """Of one method as params.yaml describes it."""

    flop: float  # of a step, per image
    activations: float  # bytes kept for the backward pass, per image
    parameters: int  # target networks' too
    trained: int  # those with a gradient
    buffers: int  # bytes
    states: int  # of the optimiser, per trained weight
    forward_channels: int  # of all batch norms in a step, every time one runs
    backward_channels: int


def count(p: Params, name: str) -> Counts:
    """Send a few images through a step of the method `name`."""
    section = p.methods[name]
    model, recipe = build_method(section, build_backbone(p.model), p.views)
    model.to(memory_format=torch.channels_last).train()
    sizes = [recipe.crops[view.crop].size for view in recipe.views]
    bf16 = p.pretrain.precision == "bf16"
    kept = {}
    for images in (2, 4):  # the difference leaves out what doesn't depend on their number
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


def with_hard_views(p: Params, name: str, candidates: int | None) -> Params:
    """The same params, where `name` trains on the hardest of so many candidates, scored exactly; None: without."""
    scoring = params.Scoring(precision="same", statistics="batch", scale=1.0, predicted=None, reuse=False)
    hard = candidates and params.HardViews(candidates=candidates, local_candidates=None, max_sets=64, scoring=scoring)
    section = p.methods[name].model_copy(update={"hard_views": hard or None})
    return p.model_copy(update={"methods": {**p.methods, name: section}})


def _step(model: Method, sizes: list[int], images: int, bf16: bool) -> None:
    random = np.random.default_rng(0)
    views = [torch.from_numpy(random.integers(0, 256, (images, size, size, 3), dtype=np.uint8)) for size in sizes]
    boxes = random.integers(1, 9, (len(sizes), images, 5))
    samples = Samples(np.arange(images), torch.zeros(images, dtype=torch.long), boxes, 0, 0)
    model.zero_grad()
    model.before_step(0.5)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        embedded = model.embed([as_input(view, CPU) for view in views], samples)
    model.losses(embedded, 0.5)["loss"].mean().backward()  # type: ignore[no-untyped-call]


@contextmanager
def _kept_bytes(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Bytes that autograd keeps meanwhile, weights aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # holds on to every tensor, so that no address comes twice

    def pack(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)


@contextmanager
def _norm_channels(model: nn.Module) -> Iterator[Callable[[], tuple[int, int]]]:
    """Channels of the batch norms that run meanwhile in train mode: (forward, those that run backward too)."""
    found = [0, 0]

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if norm.training:
            found[0] += inputs[0].shape[1]
            found[1] += inputs[0].shape[1] if output.requires_grad else 0

    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_hook(note) for norm in norms]
    try:
        yield lambda: (found[0], found[1])
    finally:
        for handle in handles:
            handle.remove()


# ---- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What the flags say."""

    images: int
    image_bytes: float
    name_length: int
    gpus_per_node: int
    tflops: float


def table(p: Params, name: str, given: Given, gpus: list[int]) -> str:
    """Everything, in Markdown."""
    counts = count(p, name)
    rows: dict[str, list[str]] = {}
    if p.methods[name].hard_views is not None:
        plain = count(with_hard_views(p, name, None), name)
        rows["operations over those of the plain method"] = [_short(counts.flop / plain.flop)] * len(gpus)
    for number in gpus:
        for label, value in predict(p, counts, given, number).items():
            rows.setdefault(label, []).append(_short(value))
    head = f"| {name}, {given.images:,} images | " + " | ".join(f"{number} GPUs" for number in gpus) + " |"
    lines = [f"| {label} | {' | '.join(values)} |" for label, values in rows.items()]
    return "\n".join([head, "| --- |" + " ---: |" * len(gpus), *lines])


def predict(p: Params, counts: Counts, given: Given, gpus: int) -> dict[str, float]:
    """Every prediction for a number of GPUs, by what it is called in the table."""
    batch, nodes = p.pretrain.batch_size, -(-gpus // given.gpus_per_node)
    steps_per_epoch = given.images // batch
    rate = images_per_second(counts.flop, 1e12 * given.tflops)
    step_seconds = batch / gpus / rate
    epoch_seconds = steps_per_epoch * step_seconds
    each = sample_bytes(given.image_bytes)
    if p.shards.samples_per_shard is not None:
        per_shard = p.shards.samples_per_shard
    else:
        assert p.shards.bytes_per_shard is not None  # checked by the params schema
        per_shard = max(1, math.floor(p.shards.bytes_per_shard / each))
    shards = math.ceil(given.images / per_shard)
    shard = shard_bytes(min(per_shard, given.images) * each)
    dataset = given.images * each
    checkpoint = checkpoint_bytes(counts.parameters, counts.buffers, counts.trained, counts.states)
    interval = checkpoint_interval(p.pretrain.checkpoint.steps, p.pretrain.checkpoint.minutes, step_seconds)
    gradients = gradient_bytes(counts.trained)
    at_once = batch / gpus / p.pretrain.accumulate
    memory = memory_bytes(counts.parameters, counts.trained, counts.states, gpus, counts.activations, at_once)
    return {
        "GFLOP of a step per image": counts.flop / 1e9,
        "images/s, one GPU": rate,
        "seconds of a step": step_seconds,
        f"hours of {p.pretrain.epochs} epochs": p.pretrain.epochs * epoch_seconds / 3600,
        "shards": shards,
        "MB of a shard": shard / 1e6,
        "GB of all shards = cache of a node": dataset / 1e9,
        "GB of the index": index_bytes(given.images, given.name_length) / 1e9,
        "MB/s read from shards, one GPU": rate * (given.image_bytes + BLOCK) / 1e6,
        "MB/s read from shards, one node": rate * (given.image_bytes + BLOCK) * min(gpus, given.gpus_per_node) / 1e6,
        "GB from S3 in the first step of an empty cache, one node": touched(batch / nodes, shards) * dataset / 1e9,
        "GB from S3 in all, all nodes": nodes * dataset / 1e9,
        "MB/s from S3 ever after if the cache holds 90 %, one GPU": rate * missed(0.9 * dataset, dataset) * shard / 1e6,
        "MB of a checkpoint": checkpoint / 1e6,
        "minutes between checkpoints": interval / 60,
        "MB/s of checkpoints": checkpoint / interval / 1e6,
        "GB of checkpoints kept": KEPT * checkpoint / 1e9,
        "MB all-reduced in a step: gradients": gradients / 1e6,
        "MB exchanged in a step: batch norms": batch_norm_bytes(counts.forward_channels, counts.backward_channels) / 1e6,
        "MB/s sent by a GPU for gradients": ring_bytes(gradients, gpus) / step_seconds / 1e6,
        "GB of memory of a GPU": memory / 1e9,
        "  of which for the backward pass": counts.activations * at_once / 1e9,
    }


def _short(value: float) -> str:
    """Three digits, or all of a large number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """The table for a params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    parser.add_argument("--method", help="a section of `methods` (default: every method of the experiment)")
    parser.add_argument("--candidates", type=int, help="train on the hardest of so many views, scored exactly")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64], help="(default: 8 16 32 64)")
    parser.add_argument("--gpus-per-node", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--tflops", type=float, required=True, help="that one GPU reaches in training: images/s x GFLOP / 1000")
    parser.add_argument("--images", type=int, required=True, help="of the training split")
    parser.add_argument("--image-bytes", type=float, required=True, help="mean size of an encoded image")
    parser.add_argument("--name-length", type=int, default=24, help="bytes of the longest member name (default: %(default)s)")
    flags = parser.parse_args()
    try:
        p = params.load(flags.params)
        names: list[str] = [flags.method] if flags.method else p.experiment.methods
        if flags.method and flags.method not in p.methods:
            raise ValueError(
                f"--method must be a section of `methods`, got {flags.method}{params.nearest(flags.method, p.methods)}"
            )
        for name in names if flags.candidates else ():
            p = with_hard_views(p, name, flags.candidates)
        for key in ("tflops", "images", "image_bytes", "name_length", "gpus_per_node"):
            if getattr(flags, key) <= 0:
                raise ValueError(f"--{key.replace('_', '-')} must be positive, got {getattr(flags, key)}")
        if min(flags.gpus) < 1 or flags.images < p.pretrain.batch_size:
            raise ValueError(f"--gpus must be positive and --images at least pretrain.batch_size ({p.pretrain.batch_size})")
    except ValueError as why:
        sys.exit(f"scaling: error: {why}")
    given = Given(flags.images, flags.image_bytes, flags.name_length, flags.gpus_per_node, flags.tflops)
    print("\n\n".join(table(p, name, given, flags.gpus) for name in names))


if __name__ == "__main__":
    main()
