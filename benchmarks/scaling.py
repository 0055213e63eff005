"""python benchmarks/scaling.py: what `rsa scaling` predicts for this machine, and what is measured here.

ResNet-18 with a 3x3 stem at 32 px, batch 64, float32, 2 threads; shards of photographs. How fast the machine is, is taken
from the backbone alone, forward and backward, and from plain copies of memory to disk; the predictions are of whole steps
of BYOL, RSA and hard views, of shards, a cache of half their size, checkpoints, ranks and memory.
"""

import hashlib
import multiprocessing
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.photographs import photographs, sharded
from benchmarks.step import BATCH, RECIPE, THREADS, backbone, batches
from rsa import distributed
from rsa.data import cache
from rsa.data.cache import RemoteShards, link_shards
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.order import Order
from rsa.data.remote import download
from rsa.methods import build_method
from rsa.models.sync_batch_norm import synchronize
from rsa.params.document import Params
from rsa.scaling import counting, formulae
from rsa.training.checkpoint import Checkpoints, training_state
from rsa.training.forward import forward_of_ranks
from rsa.training.loop import train
from rsa.training.memory import peak_above
from rsa.training.optim import build_optimizer

CPU = torch.device("cpu")
ROUNDS = 3
PHOTOGRAPHS, PER_SHARD = 300, 20
CANDIDATES = 4
P = RECIPE.model_copy(update={"pretrain": RECIPE.pretrain.model_copy(update={"precision": "float32", "accumulate": 1})})


def seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def row(what: str, predicted: float, measured: float) -> None:
    ratio = predicted / measured
    print(f"| {what} | {predicted:,.4g} | {measured:,.4g} | {ratio:.2f} |", flush=True)


class Step:
    """A training step of a method, in memory."""

    def __init__(self, p: Params, name: str, batch: int = BATCH, ranks: int = 1) -> None:
        torch.manual_seed(0)
        section = p.methods[name]
        self.model, recipe = build_method(section, backbone(), p.views)
        self.model.to(memory_format=torch.channels_last).train()
        if ranks > 1:
            synchronize(self.model)
        self.optimizer = build_optimizer(self.model.parameters(), self.model.constant_lr(), section.optimizer)
        self.p, self.schedule, self.views = p.pretrain, section.optimizer, batches(len(recipe.views), batch)

    def __call__(self) -> None:
        train(
            self.model, self.views, self.optimizer, self.p, self.schedule,
            total_steps=1, normalize=Normalize(P.views.normalize, CPU), stop_on_collapse=False, report=lambda rows: None,
        )  # fmt: skip


def backbone_step() -> tuple[Callable[[], None], float]:
    """Return the backbone's forward and backward pass alone, and its operations."""
    network = backbone().to(memory_format=torch.channels_last).train()
    x = Normalize(P.views.normalize, CPU)(next(batches(1)).views[0])

    def step() -> None:
        network(x).sum().backward()

    with FlopCounterMode(display=False) as counter:
        step()
    return step, counter.get_total_flops()


def steps() -> None:
    hard = counting.with_hard_views(P, "byol", CANDIDATES)
    described = {"BYOL": (P, "byol"), "RSA": (P, "rsa"), f"BYOL, {CANDIDATES} hard views": (hard, "byol")}
    alone, alone_flop = backbone_step()
    ways = {what: Step(*asked) for what, asked in described.items()}
    taken: dict[str, list[float]] = {what: [] for what in ways}
    rates = []
    for round in range(ROUNDS + 1):  # in turns, the first to warm up
        for what, step in ways.items():
            rate, took = alone_flop / seconds(alone), seconds(step)
            if round:
                rates.append(rate)
                taken[what].append(took)
    print(f"Backbone alone: {median(rates) / 1e9:.0f} GFLOP/s.\n")
    print("| | predicted | measured | ratio |\n| --- | ---: | ---: | ---: |")
    flop = {what: counting.count(*asked).flop for what, asked in described.items()}
    for what, times in taken.items():
        row(f"images/s, {what}", formulae.images_per_second(flop[what], median(rates)), BATCH / median(times))
    last = f"BYOL, {CANDIDATES} hard views"
    row("a step with hard views over a plain one", flop[last] / flop["BYOL"], median(taken[last]) / median(taken["BYOL"]))


def storage(scratch: Path) -> None:
    source = photographs(PHOTOGRAPHS)
    sizes = [len(source.read(sample)) for sample in source.splits["train"]]
    split, _ = sharded(source, scratch / "shards", PER_SHARD)
    mean = float(np.mean(sizes))
    files = [path.stat().st_size for path in (scratch / "shards/train").glob("*.tar")]
    row("bytes of a shard", formulae.shard_bytes(PER_SHARD * formulae.sample_bytes(mean)), float(np.mean(files)))
    row("bytes of all shards per image", formulae.sample_bytes(mean), sum(files) / len(sizes))
    name_length = split.rows.dtype["name"].itemsize
    row("bytes of the index", formulae.index_bytes(len(sizes), name_length), (split.folder / "index.npy").stat().st_size)
    row("bytes read from shards per image", mean + formulae.BLOCK, bytes_read(split))
    half = sum(files) // 2
    fetched = bytes_fetched(scratch, half) / len(sizes)
    row("bytes fetched per image, cache of half", formulae.missed(half, sum(files)) * float(np.mean(files)), fetched)


def bytes_read(split: Split) -> float:
    """Return the mean number of bytes that an epoch reads from shards per sample, from a member's header to its end."""
    order = Order(len(split), 10, 0)
    ids = np.concatenate([order.batch(i)[0] for i in range(order.steps_per_epoch)])
    return float(np.mean([512 + split.read(int(id)).nbytes for id in ids]))


def bytes_fetched(scratch: Path, limit: int) -> float:
    """Return the bytes that an epoch after the first fetches through a cache of `limit` bytes."""
    where = {"raw": str(scratch / "shards/manifest.json"), "url": f"file://{scratch}/shards", "cache": str(scratch / "cache")}
    (scratch / "linked").mkdir()
    section = {"source": "remote_shards", **where, "cache_bytes": limit}
    link_shards(RemoteShards.model_validate(section), scratch / "linked")
    split = Split(scratch / "linked", "train")
    fetched = 0

    def counted(url: str, path: Path) -> None:
        nonlocal fetched
        download(url, path)
        fetched += path.stat().st_size

    with patch.object(cache, "download", counted):
        order = Order(len(split), 10, 0)
        for i in range(2 * order.steps_per_epoch):
            if i == order.steps_per_epoch:
                fetched = 0
            for id in order.batch(i)[0]:
                split.read(int(id))
    return fetched


def checkpoints(scratch: Path) -> None:
    step = Step(P, "rsa")
    step()
    counts = counting.count(P, "rsa")
    size = formulae.checkpoint_bytes(counts.parameters, counts.buffers, counts.trained, counts.states)
    kept = Checkpoints(scratch / "checkpoints", 1, 1)

    def save() -> None:
        kept.save(1, {"step": 1, **training_state(step.model, step.optimizer)})

    # The prediction is the time of checking, writing and syncing as many arbitrary bytes.
    block = np.random.default_rng(0).bytes(size)
    predicted, measured = [], []
    for _ in range(3 * ROUNDS):
        predicted.append(seconds(lambda: plain_copy(block, scratch / "plain")))
        measured.append(seconds(save))
    (path, *_) = (scratch / "checkpoints").glob("*.ckpt")
    row("bytes of a checkpoint", size, path.stat().st_size)
    row("seconds of a checkpoint", median(predicted), median(measured))


def plain_copy(block: bytes, path: Path) -> None:
    """Replace a file atomically by a checksum and a block, with file and folder synced, as a checkpoint is written."""
    zlib.crc32(block)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(hashlib.sha256(block).digest())
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def noted(sizes: list[int], bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:  # type: ignore[name-defined]
    """Note the size of a message of gradients instead of sending it; torch demands this annotation."""
    sizes.append(bucket.buffer().nbytes)
    kept: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    kept.set_result(bucket.buffer())
    return kept


def exchanged(rank: int, meeting: str, answers: Any) -> None:
    """Answer what each of two real ranks sends in a step: bytes of gradients, bytes and number of messages of batch norms."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    step = Step(P, "rsa", 8, 2)
    norms: list[int] = []
    gather = distributed._gather_into

    def counted(out: torch.Tensor, x: torch.Tensor) -> None:
        norms.append(x.nbytes)
        gather(out, x)

    distributed._gather_into = counted
    gradients: list[int] = []
    forward: Any = forward_of_ranks(step.model, "float32")
    forward.register_comm_hook(gradients, noted)
    batch = next(step.views)
    losses, _ = forward(list(map(Normalize(P.views.normalize, CPU), batch.views)), batch.samples, 0.5, 1.0)
    losses["loss"].backward()
    if rank == 0:
        answers.put((sum(gradients), sum(norms), len(norms)))
    dist.destroy_process_group()


def ranks(scratch: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=exchanged, args=(rank, str(scratch / "meeting"), answers)) for rank in range(2)]
    for process in processes:
        process.start()
    gradients, norms, exchanges = answers.get(timeout=300)  # seconds
    for process in processes:
        process.join()
    counts = counting.count(P, "rsa")
    row("bytes all-reduced in a step: gradients", formulae.gradient_bytes(counts.trained), gradients)
    row(
        "bytes exchanged in a step: batch norms",
        formulae.batch_norm_bytes(counts.forward_channels, counts.backward_channels),
        norms,
    )
    row("exchanges of batch norms in a step, 2 ranks of RSA", counts.norms, exchanges)


def memory() -> None:
    """Compare the memory of images: the difference between the peaks of a step for two sizes of batch."""
    peaks = {}
    for batch in (BATCH // 2, 2 * BATCH):
        step = Step(P, "rsa", batch)
        step()  # momenta and the libraries' own buffers
        peaks[batch] = peak_above(step, CPU)
    more = 2 * BATCH - BATCH // 2
    predicted = counting.count(P, "rsa").activations * more
    row(f"bytes of memory of {more} images more", predicted, peaks[2 * BATCH] - peaks[BATCH // 2])


def main() -> None:
    torch.set_num_threads(THREADS)
    steps()
    with tempfile.TemporaryDirectory() as scratch:
        storage(Path(scratch))
        checkpoints(Path(scratch))
        ranks(Path(scratch))
    memory()


if __name__ == "__main__":
    main()
