"""python -m pipeline.doctor: does this machine compute what params.yaml asks for, exactly?  Exits with 1 if a check fails.

Checks on random images of the recipe's sizes, small batches, every method of the experiment: several ranks against one, a
continued run against a straight one, crops and colours against torchvision, time and memory of a step, devices, disk and
file locks.
"""

import argparse
import io
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from nvidia import dali
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from rsa import distributed, params
from rsa.data.color import BRIGHTNESS, HUE, identity, jitter_steps
from rsa.data.coloring import apply_colors
from rsa.data.index import Split
from rsa.data.loader import Batch, TrainingViews
from rsa.data.samples import Samples
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.data.views import Colors, weak_views
from rsa.file_locks import mount, unsafe
from rsa.methods import build_method
from rsa.models.backbones import build_backbone
from rsa.models.sync_batch_norm import synchronize
from rsa.params.document import Params
from rsa.training.checkpoint import captured, restore
from rsa.training.device import choose, gpu_number, setup
from rsa.training.launch import launch, processes
from rsa.training.loop import train
from rsa.training.memory import peak_above
from rsa.training.optim import build_optimizer

SMALL, LARGE = 8, 32  # images of a batch
RANKS = 2
TOLERANCE = 1e-9  # relative, in float64
FREE_GB = 10

Check = Callable[[Params], str]  # what was found, in words


class FailedError(Exception):
    """A check did not pass."""


class SkippedError(Exception):
    """A check cannot be made here."""


class Run:
    """A method of the experiment with its optimiser and made-up batches."""

    def __init__(self, p: Params, name: str, size: int, device: torch.device, rank: int = 0, world: int = 1) -> None:
        torch.manual_seed(0)
        self.p, self.name, self.device, self.size = p, name, device, size
        self.section = p.methods[name]
        self.model, recipe = build_method(self.section, build_backbone(p.model), p.views)
        self.model.to(device).to(memory_format=torch.channels_last).train()
        if world > 1:
            synchronize(self.model)
        self.sizes = [recipe.crops[view.crop].size for view in recipe.views]
        self.optimizer = build_optimizer(self.model.parameters(), self.model.constant_lr(), self.section.optimizer)
        self.mine = slice(rank * size // world, (rank + 1) * size // world)

    def batches(self) -> Iterator[Batch]:
        """Random images, the same in every process."""
        random = np.random.default_rng(0)
        for step in itertools.count():
            views = [torch.from_numpy(random.integers(0, 256, (self.size, s, s, 3), dtype=np.uint8)) for s in self.sizes]
            boxes = random.integers(1, 9, (len(self.sizes), self.size, 5))
            whole = Samples(np.arange(self.size), torch.zeros(self.size, dtype=torch.long), boxes, step, 0)
            yield Batch(step, whole.of(self.mine), [view[self.mine] for view in views])

    def train(self, first: int, last: int, precision: str) -> None:
        """Steps `first` to `last`, of 4."""
        unlimited = params.Collapse(action="mark", after=0, min_std=0, min_rank=0)
        changes = {"precision": precision, "accumulate": 1, "collapse": unlimited}
        pretrain = self.p.pretrain.model_copy(update=changes)
        train(
            self.model, itertools.islice(self.batches(), first, last), self.optimizer, pretrain, self.section.optimizer,
            total_steps=4, device=self.device, start=first, report=lambda rows: None,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """On the CPU."""
        return {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}


def devices(p: Params) -> str:
    """GPUs."""
    if not torch.cuda.is_available():
        if p.pretrain.device == "gpu":
            raise FailedError("pretrain.device is gpu, and torch finds none")
        raise SkippedError("torch finds no GPU; training runs on the CPU")
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def decoding(p: Params) -> str:
    """DALI is there."""
    return f"DALI {dali.__version__}"


def disk(p: Params) -> str:
    """Room for shards, runs and features."""
    free = shutil.disk_usage(".").free / 1e9
    if free < FREE_GB:
        raise FailedError(f"{free:.1f} GB free here, at least {FREE_GB} wanted")
    return f"{free:.0f} GB free"


def locks(p: Params) -> str:
    """Processes are kept apart here, and those of other nodes."""
    if why := unsafe(Path(), shared=p.pretrain.launch.nodes > 1):
        raise FailedError(why)
    kind, _ = mount(Path())
    others = unsafe(Path(), shared=True)
    return f"file locks hold on {kind}" + (f", for this node alone: {others}" if others else "")


def crops(p: Params) -> str:
    """Photographs through shards and DALI, cut, resized and flipped, against torchvision."""
    recipe, count = weak_views(p.views), 2 * SMALL
    described = params.PhotoTiles(source="photo_tiles", raw="", tile=96, stride=48)
    device = choose(p.pretrain.device)
    with tempfile.TemporaryDirectory() as folder:
        shards, work = Path(folder) / "shards", Path(folder) / "work"
        shards.mkdir()
        write_shards(open_source(described, 0), p.shards, {}, shards, work)
        split = Split(shards, "train")
        loader = TrainingViews(split, recipe, batch_size=count, seed=0, threads=1, gpu=gpu_number(device))
        batch = next(iter(loader))
        images = [np.array(Image.open(io.BytesIO(bytes(split.read(int(id))))).convert("RGB")) for id in batch.samples.ids]
    worst = 0.0
    for image, (top, left, height, width, flip), ours in zip(images, batch.samples.boxes[0], batch.views[0].cpu(), strict=True):
        size = [p.views.size] * 2
        want = tv.resized_crop(torch.from_numpy(image).permute(2, 0, 1), int(top), int(left), int(height), int(width), size)
        want = (want.flip(2) if flip else want).permute(1, 2, 0)
        worst = max(worst, float((ours.int() - want.int()).abs().float().mean()))
    if worst > 2:
        raise FailedError(f"an image differs from torchvision's by {worst:.2f} of 255 on average")
    return f"{count} images differ from torchvision's by at most {worst:.2f} of 255 on average ({device.type})"


def colors(p: Params) -> str:
    """Each jitter operation alone, exact, on photographs."""
    tiles = np.stack([image[top : top + 128, 100:228] for image in load_sample_images().images for top in (0, 200)])
    count, factor, turn = len(tiles), 1.3, 0.07
    order, ones, none = np.tile(np.arange(4), (count, 1)), np.ones(count), np.zeros(count)
    worst = 0.0
    for operation, theirs in enumerate((tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)):
        factors = [np.full(count, factor) if i == operation else ones for i in range(BRIGHTNESS, HUE)]
        steps = jitter_steps(factors[0], factors[1], factors[2], order)
        turns = [np.full(count, turn) if i == operation == HUE else none for i in range(4)]
        ours = apply_colors(torch.from_numpy(tiles), Colors([*steps, identity(count)], turns, none, none > 0))
        want = theirs(torch.from_numpy(tiles).permute(0, 3, 1, 2), turn if operation == HUE else factor).permute(0, 2, 3, 1)
        worst = max(worst, float((ours.int() - want.int()).abs().float().mean()))
    if worst > 2:
        raise FailedError(f"mean difference from torchvision up to {worst:.2f} of 255")
    return f"mean difference from torchvision at most {worst:.2f} of 255"


def ranks(p: Params) -> str:
    """As many as params.yaml asks for on a node, at least two, against one, in float64 on the CPU."""
    count, worst = max(RANKS, processes(p.pretrain)), 0.0
    for name in p.experiment.methods:
        with tempfile.TemporaryDirectory() as folder:
            for world in (1, count):
                asked = params.Launch(nodes=1, processes=world, timeout_minutes=5)
                changes = {"launch": asked, "batch_size": 4 * count, "accumulate": 1, "device": "cpu"}
                launched = p.pretrain.model_copy(update=changes)
                launch(launched, Path(folder), train_rank, p, name, 4 * count, Path(folder))
            torch.set_default_dtype(torch.float32)
            one, many = (torch.load(Path(folder) / f"{world}.pt") for world in (1, count))
        for key, value in one.items():
            if value.is_floating_point():
                worst = max(worst, float((many[key] - value).abs().max() / value.abs().max().clamp(min=1e-3)))
    if worst > TOLERANCE:
        raise FailedError(f"{count} ranks differ from one by {worst:.1e}")
    return f"{count} ranks equal one to {worst:.0e} after 2 steps in float64"


def train_rank(p: Params, name: str, size: int, folder: Path) -> None:
    """In every process of `ranks`."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    run = Run(p, name, size, torch.device("cpu"), distributed.rank(), distributed.world())
    run.train(0, 2, "float32")
    if distributed.rank() == 0:
        torch.save(run.state(), folder / f"{distributed.world()}.pt")


def resuming(p: Params) -> str:
    """Two steps, a checkpoint and two steps more against four steps."""
    device = choose(p.pretrain.device)
    for name in p.experiment.methods:
        straight, first, second = (Run(p, name, SMALL, device) for _ in range(3))
        torch.manual_seed(1)
        straight.train(0, 4, p.pretrain.precision)
        torch.manual_seed(1)
        first.train(0, 2, p.pretrain.precision)
        saved = captured(first.model, first.optimizer)
        torch.manual_seed(99)
        restore(saved, second.model, second.optimizer)
        second.train(2, 4, p.pretrain.precision)
        want = straight.state()
        if different := [key for key, tensor in second.state().items() if not torch.equal(tensor, want[key])]:
            raise FailedError(f"{name}: {len(different)} tensors differ, first {different[0]}")
    return f"a run continued in the middle ends in the same bits ({p.pretrain.precision}, {device.type})"


def step(p: Params) -> str:
    """Time of a step."""
    device = choose(p.pretrain.device)
    size = min(p.pretrain.batch_size, LARGE)
    words = []
    for name in p.experiment.methods:
        run = Run(p, name, size, device)
        run.train(0, 1, p.pretrain.precision)
        started = time.perf_counter()
        run.train(1, 3, p.pretrain.precision)
        words.append(f"{name} {2 * size / (time.perf_counter() - started):.0f} images/s")
    return f"{', '.join(words)}, forward, backward and optimiser, in batches of {size}"


def memory(p: Params) -> str:
    """Peak of building and one step, measured for two sizes; a straight line through them gives that of params.yaml's batch."""
    device, count = choose(p.pretrain.device), processes(p.pretrain)
    share = -(-p.pretrain.batch_size // (count * p.pretrain.launch.nodes * p.pretrain.accumulate))  # at once, of one process
    words, most = [], 0.0
    for name in p.experiment.methods:

        def work(size: int, name: str = name) -> int:
            return peak_above(lambda: Run(p, name, size, device).train(0, 1, p.pretrain.precision), device)

        work(LARGE)  # the first time, code is made and kept
        small, large = work(SMALL), work(LARGE)
        wanted = (small + max(0, large - small) * (share - SMALL) / (LARGE - SMALL)) / 1e9
        words.append(f"{name} {wanted:.2f} GB")
        most = max(most, wanted)
    if device.type == "cuda":
        free, where = torch.cuda.mem_get_info(device)[0] / 1e9, "on the GPU"
    else:
        free, where, most = available() / 1e9, "here", most * count
    found = f"{', '.join(words)} for {share} images at once; {free:.1f} GB free {where}"
    if most > free:
        raise FailedError(f"{found}: raise pretrain.accumulate or lower batch_size")
    return found


def available() -> int:
    """Bytes that processes here may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


CHECKS: dict[str, Check] = {
    "GPU": devices,
    "decoder": decoding,
    "disk": disk,
    "locks": locks,
    "views": crops,
    "colours": colors,
    "ranks": ranks,
    "resume": resuming,
    "step": step,
    "memory": memory,
}


def main() -> None:
    """Every check, a line each."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.doctor", description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    path = parser.parse_args().params
    try:
        p = params.load(path)
    except ValueError as why:
        sys.exit(f"doctor: error: {why}")
    setup("cpu" if p.pretrain.device == "cpu" else "auto", p.pretrain.threads, 0)
    failed = False
    for name, check in CHECKS.items():
        verdict: str
        try:
            verdict, words = "pass", check(p)
        except SkippedError as why:
            verdict, words = "skipped", str(why)
        except (FailedError, ValueError, FloatingPointError, RuntimeError) as why:
            verdict, words, failed = "FAIL", str(why).strip().splitlines()[-1], True
        print(f"{name:8} {verdict:8} {words}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
