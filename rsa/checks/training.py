"""Checks of training, on random images of the recipe's sizes in small batches, for every method of the experiment."""

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsa import distributed
from rsa.checks.outcome import FailedError
from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.methods import build_method
from rsa.models.backbones import build_backbone
from rsa.models.sync_batch_norm import synchronize
from rsa.params.document import Params
from rsa.params.pretrain import Collapse
from rsa.training.checkpoint import load_training_state, training_state
from rsa.training.device import choose_device
from rsa.training.launch import launch, processes
from rsa.training.loop import train
from rsa.training.memory import peak_above
from rsa.training.optim import build_optimizer

SMALL, LARGE = 8, 32  # images of a batch
RANKS = 2
TOLERANCE = 1e-9  # relative, in float64


class Run:
    """A method of the experiment with its optimiser and made-up batches."""

    def __init__(self, p: Params, name: str, size: int, device: torch.device, rank: int = 0, world: int = 1) -> None:
        torch.manual_seed(0)
        self.p, self.name, self.size = p, name, size
        self.normalize = Normalize(p.views.normalize, device)
        self.section = p.methods[name]
        self.model, recipe = build_method(self.section, build_backbone(p.model), p.views)
        self.model.to(device).to(memory_format=torch.channels_last).train()
        if world > 1:
            synchronize(self.model)
        self.sizes = [recipe.crops[view.crop].size for view in recipe.views]
        self.optimizer = build_optimizer(self.model.parameters(), self.model.constant_lr(), self.section.optimizer)
        self.own_part = slice(rank * size // world, (rank + 1) * size // world)

    def batches(self) -> Iterator[Batch]:
        """Yield batches of random images, the same in every process."""
        random = np.random.default_rng(0)
        for step in itertools.count():
            views = [torch.from_numpy(random.integers(0, 256, (self.size, s, s, 3), dtype=np.uint8)) for s in self.sizes]
            boxes = random.integers(1, 9, (len(self.sizes), self.size, 5))
            samples = Samples(np.arange(self.size), torch.zeros(self.size, dtype=torch.long), boxes, step, 0)
            yield Batch(step, samples[self.own_part], [view[self.own_part] for view in views])

    def train(self, first: int, last: int, precision: str) -> None:
        """Take the steps from `first` to before `last` of a training of 4 steps."""
        unlimited = Collapse(after=0, min_std=0, min_rank=0)
        changes = {"precision": precision, "accumulate": 1, "collapse": unlimited}
        pretrain = self.p.pretrain.model_copy(update=changes)
        train(
            self.model, itertools.islice(self.batches(), first, last), self.optimizer, pretrain, self.section.optimizer,
            total_steps=4, normalize=self.normalize, start=first, stop_on_collapse=False,
            report=lambda rows: None,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """Return the model's tensors, on the CPU."""
        return {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}


def ranks(p: Params) -> str:
    """Check that as many ranks as params.yaml asks for on a node, at least two, train like one, in float64.

    They use the run's GPUs if there are at least two, otherwise the CPU.
    """
    gpus = torch.cuda.device_count() if choose_device(p.runtime.device).type == "cuda" else 0
    device, count, worst = "gpu" if gpus >= RANKS else "cpu", max(RANKS, processes(p.runtime)), 0.0
    for name in p.trained:
        with tempfile.TemporaryDirectory() as folder:
            for world in (1, count):
                asked = {"nodes": 1, "processes": world, "compile": False, "timeout_minutes": 5, "device": device}
                runtime = p.runtime.model_copy(update=asked)
                pretrain = p.pretrain.model_copy(update={"batch_size": 4 * count, "accumulate": 1})
                launch(pretrain, runtime, Path(folder), train_rank, p, name, 4 * count, device, Path(folder))
            torch.set_default_dtype(torch.float32)
            one, many = (torch.load(Path(folder) / f"{world}.pt") for world in (1, count))
        for key, value in one.items():
            if value.is_floating_point():
                worst = max(worst, float((many[key] - value).abs().max() / value.abs().max().clamp(min=1e-3)))
    if worst > TOLERANCE:
        raise FailedError(f"{count} ranks differ from one by {worst:.1e}")
    where = "by NCCL on GPUs" if device == "gpu" else "by gloo on the CPU"
    return f"{count} ranks equal one to {worst:.0e} after 2 steps in float64, {where}"


def train_rank(p: Params, name: str, size: int, device: str, folder: Path) -> None:
    """Take two steps in a process of `ranks`; the first process saves the model."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    run = Run(p, name, size, choose_device(device), distributed.rank(), distributed.world_size())
    run.train(0, 2, "float32")
    if distributed.rank() == 0:
        torch.save(run.state(), folder / f"{distributed.world_size()}.pt")


def resuming(p: Params) -> str:
    """Check that two steps, a checkpoint and two more steps end in the same bits as four steps."""
    device = choose_device(p.runtime.device)
    for name in p.trained:
        straight, first, second = (Run(p, name, SMALL, device) for _ in range(3))
        torch.manual_seed(1)
        straight.train(0, 4, p.pretrain.precision)
        torch.manual_seed(1)
        first.train(0, 2, p.pretrain.precision)
        saved = training_state(first.model, first.optimizer)
        torch.manual_seed(99)
        load_training_state(saved, second.model, second.optimizer)
        second.train(2, 4, p.pretrain.precision)
        want = straight.state()
        if different := [key for key, tensor in second.state().items() if not torch.equal(tensor, want[key])]:
            raise FailedError(f"{name}: {len(different)} tensors differ, first {different[0]}")
    return f"a run continued in the middle ends in the same bits ({p.pretrain.precision}, {device.type})"


def step(p: Params) -> str:
    """Time a step of each method."""
    device = choose_device(p.runtime.device)
    size = min(p.pretrain.batch_size, LARGE)
    words = []
    for name in p.trained:
        run = Run(p, name, size, device)
        run.train(0, 1, p.pretrain.precision)
        wait_for(device)
        started = time.perf_counter()
        run.train(1, 3, p.pretrain.precision)
        wait_for(device)
        words.append(f"{name} {2 * size / (time.perf_counter() - started):.0f} images/s")
    return f"{', '.join(words)}, forward, backward and optimiser, in batches of {size}"


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what was queued: kernels are launched asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(p: Params) -> str:
    """Check that there is memory for a step of each method.

    The peak of building the method and taking one step is measured for two batch sizes; a straight line through both gives
    that of the batch in params.yaml.
    """
    device, count = choose_device(p.runtime.device), processes(p.runtime)
    share = -(-p.pretrain.batch_size // (count * p.runtime.nodes * p.pretrain.accumulate))  # at once, of one process
    words, most, fits = [], 0.0, share
    free = (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available() / count) / 1e9  # of one process
    for name in p.trained:

        def work(size: int, name: str = name) -> int:
            return peak_above(lambda: Run(p, name, size, device).train(0, 1, p.pretrain.precision), device)

        work(LARGE)  # the first time, code is made and kept
        small, large = work(SMALL), work(LARGE)
        per_image = max(1, large - small) / (LARGE - SMALL) / 1e9
        wanted = small / 1e9 + per_image * (share - SMALL)
        fits = min(fits, SMALL + int((free - small / 1e9) / per_image))
        words.append(f"{name} {wanted:.2f} GB")
        most = max(most, wanted)
    where = "on the GPU" if device.type == "cuda" else "here"
    summary = f"{', '.join(words)} for {share} images at once; {free:.1f} GB free {where}"
    if most <= free:
        return summary
    accumulate = p.pretrain.accumulate * -(-share // max(1, fits))
    raise FailedError(f"{summary}, enough for {max(0, fits)} images: set pretrain.accumulate to {accumulate} or lower batch_size")


def available() -> int:
    """Return the bytes of memory that processes may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
