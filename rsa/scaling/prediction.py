"""Storage, network and memory requirements of a run by number of GPUs. 1 MB is 10^6 bytes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rsa.params.document import Params
from rsa.scaling.counting import Counts, count, with_hard_views
from rsa.scaling.formulae import (
    BLOCK,
    batch_norm_bytes,
    checkpoint_bytes,
    checkpoint_interval,
    gradient_bytes,
    images_per_second,
    index_bytes,
    memory_bytes,
    missed,
    ring_bytes,
    sample_bytes,
    shard_bytes,
    step_seconds,
    touched,
)
from rsa.training.checkpoint import KEPT


@dataclass(frozen=True)
class Given:
    """Inputs that cannot be derived from params.yaml: the images, and the speed of a GPU."""

    images: int  # of the training split
    image_bytes: float  # mean, encoded
    name_length: int  # bytes of the longest member's name in a shard
    gpus_per_node: int
    tflops: float  # that one GPU reaches in training
    launches: float = 0.0  # seconds in which the CPU launches a step's kernels
    exchange: float = 0.0  # seconds of one exchange between ranks


def table(p: Params, name: str, given: Given, gpus: Sequence[int]) -> str:
    """Render all predictions for a method in Markdown, with a column per number of GPUs."""
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
    """Predict all quantities for a number of GPUs, keyed by their names in the table."""
    batch, nodes = p.pretrain.batch_size, -(-gpus // given.gpus_per_node)
    steps_per_epoch = given.images // batch
    rate = images_per_second(counts.flop, 1e12 * given.tflops)
    exchanges = counts.norms if gpus > 1 else 0
    seconds = step_seconds(batch / gpus, rate, given.launches, exchanges, given.exchange)
    epoch_seconds = steps_per_epoch * seconds
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
    interval = checkpoint_interval(p.runtime.checkpoint.steps, p.runtime.checkpoint.minutes, seconds)
    gradients = gradient_bytes(counts.trained)
    at_once = batch / gpus / p.pretrain.accumulate
    memory = memory_bytes(counts.parameters, counts.trained, counts.states, gpus, counts.activations, at_once)
    return {
        "GFLOP of a step per image": counts.flop / 1e9,
        "images/s, one GPU": rate,
        "seconds of a step": seconds,
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
        "exchanges of batch norms in a step": exchanges,
        "MB/s sent by a GPU for gradients": ring_bytes(gradients, gpus) / seconds / 1e6,
        "GB of memory of a GPU": memory / 1e9,
        "  of which for the backward pass": counts.activations * at_once / 1e9,
    }


def _short(value: float) -> str:
    """Format with three digits, or all digits of a large number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
