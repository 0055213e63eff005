"""python benchmarks/step.py [gpu]: images per second of a training step, all ways in one run, batch 64 of 32 px images.

ResNet-18 with a 3x3 stem, heads of RSA's paper. Compared: this project's loop (float32 and bf16), the same equations
written the plain way in float32 (as the reference code does: forward, loss, SGD, a loop over parameters for the moving
average), and lightly's BYOL modules in the loop of its own example. The machine's limit is the rate of a large matrix
product, measured in the same run; a step's floating-point operations are counted by torch. Images are in memory.
`convolutions alone`: those of a step one after the other, and nothing else: what is left to gain is between it and a step.
Every way has a process of its own, set up as its program would (ours by rsa.training.device.setup); they take turns.
"""

import copy
import itertools
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rsa import distributed
from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.methods import method_class
from rsa.methods.method import Method
from rsa.models.backbones import build_backbone
from rsa.models.sync_batch_norm import synchronize
from rsa.recipes import load_recipe
from rsa.training import loop
from rsa.training.device import setup
from rsa.training.forward import Forward
from rsa.training.loop import train
from rsa.training.optim import build_optimizer

THREADS, BATCH, STEPS, ROUNDS = 2, 64, 2, 3
DEVICE = torch.device("cuda" if "gpu" in sys.argv else "cpu")
RECIPE = load_recipe("cifar10")
NORMALIZE = Normalize(RECIPE.views.normalize, DEVICE)
VIEWS = {"byol": 2, "rsa": 4}


def backbone() -> nn.Module:
    return build_backbone(RECIPE.model)


def method(name: str) -> Method:
    torch.manual_seed(0)
    return method_class(name)(backbone(), RECIPE.methods[name]).to(DEVICE).to(memory_format=torch.channels_last).train()


def batches(views: int, size: int = BATCH) -> Iterator[Batch]:
    images = [torch.randint(0, 256, (size, 32, 32, 3), dtype=torch.uint8) for _ in range(views)]
    samples = Samples(np.arange(size), torch.zeros(size, dtype=torch.long), np.zeros((views, size, 5), int), 0, 0)
    return itertools.repeat(Batch(0, samples, images))


def ours(name: str, precision: str) -> Callable[[int], None]:
    model = method(name)
    p = RECIPE.methods[name].optimizer
    optimizer = build_optimizer(model.parameters(), (), p)
    pretrain = RECIPE.pretrain.model_copy(update={"precision": precision})

    def run(steps: int) -> None:
        train(
            model,
            batches(VIEWS[name]),
            optimizer,
            pretrain,
            p,
            total_steps=steps,
            normalize=NORMALIZE,
            stop_on_collapse=False,
            report=lambda rows: None,
        )

    return run


class PlainHead(nn.Sequential):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


def plain(name: str) -> Callable[[int], None]:
    """The equations of BYOL and RSA as a reference code writes them."""
    torch.manual_seed(0)
    online = nn.Sequential(backbone(), PlainHead(512, 1024, 128)).to(DEVICE).train()
    predictor = PlainHead(128, 1024, 128).to(DEVICE).train()
    target = copy.deepcopy(online)
    optimizer = torch.optim.SGD([*online.parameters(), *predictor.parameters()], lr=0.03, momentum=0.9, weight_decay=5e-4)
    views = [NORMALIZE(view).contiguous() for view in next(batches(VIEWS[name])).views]

    def d(q: Tensor, z: Tensor) -> Tensor:
        return (2 - 2 * F.cosine_similarity(q, z.detach())).mean()

    def run(steps: int) -> None:
        for _ in range(steps):
            for moving, still in zip(target.parameters(), online.parameters(), strict=True):
                moving.data = 0.99 * moving.data + 0.01 * still.data
            q1, q2 = predictor(online(views[-2])), predictor(online(views[-1]))
            with torch.no_grad():
                z1, z2 = target(views[0]), target(views[1])
            loss = d(q1, z2) + d(q2, z1)
            if name == "rsa":
                loss = 0.4 * (d(q1, q2) + d(q2, q1)) + 0.6 * loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return run


class LightlyBYOL(nn.Module):
    """The model of lightly's example (examples/pytorch/byol.py) with this backbone and these sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone()
        self.projection_head = BYOLProjectionHead(512, 1024, 128)
        self.prediction_head = BYOLPredictionHead(128, 1024, 128)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.prediction_head(self.projection_head(self.backbone(x).flatten(start_dim=1)))

    def forward_momentum(self, x: Tensor) -> Tensor:
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()


def lightlys() -> Callable[[int], None]:
    torch.manual_seed(0)
    model, criterion = LightlyBYOL().to(DEVICE).train(), NegativeCosineSimilarity()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    x0, x1 = (NORMALIZE(view).contiguous() for view in next(batches(2)).views)

    def run(steps: int) -> None:
        momentum = cosine_schedule(0, 10, 0.996, 1)
        for _ in range(steps):
            update_momentum(model.backbone, model.backbone_momentum, m=momentum)
            update_momentum(model.projection_head, model.projection_head_momentum, m=momentum)
            p0, z0 = model(x0), model.forward_momentum(x0)
            p1, z1 = model(x1), model.forward_momentum(x1)
            loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
            loss.detach()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def convolutions(name: str) -> Callable[[int], None]:
    """The convolutions of a step in bf16: two views forward and backward, two forward."""
    network = backbone().to(DEVICE).to(memory_format=torch.channels_last)
    layers: list[tuple[nn.Conv2d, Tensor]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda layer, inputs, out: layers.append((layer, inputs[0].detach().bfloat16())))
    network(NORMALIZE(next(batches(1)).views[0]))
    network.bfloat16()
    outputs = [F.conv2d(x, layer.weight, None, layer.stride, layer.padding).detach() for layer, x in layers]

    def run(steps: int) -> None:
        for _ in range(steps * 2):
            for (layer, x), out in zip(layers, outputs, strict=True):
                with torch.no_grad():
                    for _ in range(2):
                        F.conv2d(x, layer.weight, None, layer.stride, layer.padding)
                    torch.ops.aten.convolution_backward(
                        out, x, layer.weight, None, layer.stride, layer.padding, (1, 1), False, (0, 0), 1,
                        [x.shape[1] > 3, True, False],
                    )  # fmt: skip

    return run


def seconds(run: Callable[[int], object], steps: int) -> float:
    started = time.perf_counter()
    run(steps)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def product_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Return the GFLOP/s of a matrix product."""
    a, b = (torch.randn(size, size, dtype=dtype, device=DEVICE) for _ in range(2))
    a @ b
    return max(2 * size**3 / seconds(lambda n: [a @ b for _ in range(n)], 5) / 1e9 for _ in range(4))


@cache
def operations(name: str) -> float:
    """Return the GFLOP of a step for one image."""
    run = ours(name, "float32")
    with FlopCounterMode(display=False) as counter:
        run(1)
    return counter.get_total_flops() / BATCH / 1e9


def outside_share(name: str, precision: str) -> float:
    """Return the share of a step outside forward, backward and optimiser: schedules, moving average, input, logging."""
    model = method(name)
    inside = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal inside
            started = time.perf_counter()
            result = function(*arguments, **named)
            inside += time.perf_counter() - started
            return result

        return call

    p = RECIPE.methods[name].optimizer
    optimizer = build_optimizer(model.parameters(), (), p)
    pretrain = RECIPE.pretrain.model_copy(update={"precision": precision})
    model.embed, model.losses = timed(model.embed), timed(model.losses)  # type: ignore[method-assign]
    optimizer.step = timed(optimizer.step)  # type: ignore[method-assign]
    backward = Tensor.backward
    Tensor.backward = timed(backward)  # type: ignore[method-assign]
    try:
        started = time.perf_counter()
        train(
            model,
            batches(VIEWS[name]),
            optimizer,
            pretrain,
            p,
            total_steps=6,
            normalize=NORMALIZE,
            stop_on_collapse=False,
            report=lambda rows: None,
        )
        return 1 - inside / (time.perf_counter() - started)
    finally:
        Tensor.backward = backward  # type: ignore[method-assign]


def serve_rank(rank: int, world: int, told: str, precision: str, meeting: str, line: Any) -> None:
    """Train RSA on one of `world` ranks, which exchange `nothing`, what `batch norms` need, or `all`."""
    setup("cpu", THREADS // world, 0)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    model = method("rsa")
    if world > 1 and told != "nothing":
        synchronize(model)
    if told != "all":
        loop.forward_of_ranks = Forward  # type: ignore[attr-defined]
    p = RECIPE.methods["rsa"].optimizer
    optimizer = build_optimizer(model.parameters(), (), p)
    pretrain = RECIPE.pretrain.model_copy(update={"precision": precision})

    def run(steps: int) -> None:
        part = batches(VIEWS["rsa"], BATCH // world)
        train(
            model,
            part,
            optimizer,
            pretrain,
            p,
            total_steps=steps,
            normalize=NORMALIZE,
            stop_on_collapse=False,
            report=lambda rows: None,
        )

    run(1)
    while distributed.broadcast_from_rank0(lambda: line.recv()):
        spent = seconds(run, STEPS)
        if rank == 0:
            line.send(spent)
    dist.destroy_process_group()


RANKS = {
    "1 rank of 2 threads": (1, "all"),
    "2 ranks of 1 thread": (2, "all"),
    "  without averaging gradients": (2, "batch norms"),
    "  each for itself": (2, "nothing"),
}


def compare_ranks(precision: str, folder: str) -> None:
    """Time a step in each way of RANKS, in turns, and print a table."""
    context = multiprocessing.get_context("spawn")
    lines, ranks = {}, []
    for number, (name, (world, told)) in enumerate(RANKS.items()):
        lines[name], theirs = context.Pipe()
        meeting = f"{folder}/{number}"
        arguments = [(rank, world, told, precision, meeting, theirs) for rank in range(world)]
        ranks += [context.Process(target=serve_rank, args=each) for each in arguments]
    for process in ranks:
        process.start()
    taken: dict[str, list[float]] = {name: [] for name in RANKS}
    for _ in range(2 * ROUNDS):
        for name, line in lines.items():
            line.send(True)
            taken[name].append(line.recv())
    for line in lines.values():
        line.send(False)
    for process in ranks:
        process.join()
    one = taken["1 rank of 2 threads"]
    print(f"\n| RSA, {precision} | seconds of a step | speed (%) |\n| --- | ---: | ---: |")
    for name, times in taken.items():
        speed = median(a / b for a, b in zip(one, times, strict=True))
        print(f"| {name} | {median(times):.3f} | {100 * speed:.0f} |", flush=True)


WAYS: dict[tuple[str, str], tuple[Callable[..., Callable[[int], None]], tuple[str, ...]]] = {
    ("RSA", "this project, bf16"): (ours, ("rsa", "bf16")),
    ("RSA", "this project, float32"): (ours, ("rsa", "float32")),
    ("RSA", "plain, float32"): (plain, ("rsa",)),
    ("BYOL", "this project, bf16"): (ours, ("byol", "bf16")),
    ("BYOL", "this project, float32"): (ours, ("byol", "float32")),
    ("BYOL", "plain, float32"): (plain, ("byol",)),
    ("BYOL", "lightly's example, float32"): (lightlys, ()),
    ("RSA", "convolutions alone, bf16"): (convolutions, ("rsa",)),
}


def peak_resident() -> float:
    """Return the largest resident set of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(way: tuple[str, str], line: Any) -> None:
    """Answer, in a process of its own and whenever asked, the seconds of a step and the peak memory in MiB."""
    build, arguments = WAYS[way]
    if build is ours:
        setup("gpu" if DEVICE.type == "cuda" else "cpu", THREADS, 0)
    torch.set_num_threads(THREADS)
    run = build(*arguments)
    run(1)
    while line.recv():
        spent = seconds(run, STEPS)
        used = torch.cuda.max_memory_allocated() / 2**20 if DEVICE.type == "cuda" else peak_resident()
        line.send((spent, used))


def in_turns(ways: list[tuple[str, str]]) -> tuple[dict[tuple[str, str], list[float]], dict[tuple[str, str], float], list[float]]:
    """Return the seconds of every way and round, the peak memories, and the rate of a bf16 product before each round."""
    context = multiprocessing.get_context("spawn")
    taken: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    memory, limits, lines = {}, [], {}
    for way in ways:
        lines[way], theirs = context.Pipe()
        context.Process(target=serve, args=(way, theirs), daemon=True).start()
    for _ in range(ROUNDS):
        limits.append(product_rate(torch.bfloat16))
        for way, line in lines.items():
            line.send(True)
            spent, memory[way] = line.recv()
            taken[way].append(spent)
    for line in lines.values():
        line.send(False)
    return taken, memory, limits


def main() -> None:
    torch.set_num_threads(THREADS)
    float32 = product_rate(torch.float32)
    taken: dict[Any, list[float]] = {}
    memory: dict[Any, float] = {}
    limits: list[float] = []
    for name in ("RSA", "BYOL"):
        times_of_way, memory_of_way, rates = in_turns([way for way in WAYS if way[0] == name])
        taken |= times_of_way
        memory |= memory_of_way
        limits += rates
    bf16 = max(limits)
    print(f"Matrix product: bf16 {bf16:.0f} GFLOP/s, float32 {float32:.0f} GFLOP/s.\n")
    print("| method | way | images/s | over plain | GFLOP/s | of bf16 limit | peak memory (MiB) |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for (name, way), times in taken.items():
        rate = BATCH / median(times)
        over = median(a / b for a, b in zip(taken[name, "plain, float32"], times, strict=True))
        done = rate * operations(name.lower())
        share, used = 100 * done / bf16, memory[name, way]
        print(f"| {name} | {way} | {rate:.1f} | {over:.2f} | {done:.0f} | {share:.0f} % | {used:.0f} |", flush=True)
    for precision in ("bf16", "float32"):
        print(
            f"\nOutside forward, backward and optimiser, RSA, {precision}: "
            f"{100 * outside_share('rsa', precision):.1f} % of a step."
        )
        if DEVICE.type == "cuda":
            continue
        with tempfile.TemporaryDirectory() as folder:
            compare_ranks(precision, folder)


if __name__ == "__main__":
    main()
