"""python benchmarks/input.py [CLASS_FOLDERS.zip]: images per second of RSA's four views, all ways in one run.

An image is a sample: one decoded photograph, two weak and two aggressive views of it, normalised, in a batch. Compared on
the same shards, with 2 processes or threads each: this loader (fast and exact colour), Pillow transforms in a torch
DataLoader (as the reference codes do it), torchvision's v2 transforms on tensors in a DataLoader, and webdataset with
Pillow. 32 px from the zip (CIFAR-10 as JPEG class folders), 224 px from 500x375 photographs made from embedded ones.
"""

import io
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import webdataset
from PIL import Image, ImageFilter
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from benchmarks.photographs import photographs, sharded
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.normalize import Normalize
from rsa.data.sources import open_source
from rsa.data.views import candidate_view_pairs
from rsa.methods import method_class
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.model import Model
from rsa.params.views import Views
from rsa.recipes import load_recipe
from rsa.training.loop import train
from rsa.training.optim import build_optimizer

WORKERS = 2
SECONDS = 12.0  # of measuring each way
CPU = torch.device("cpu")


class FourViews:
    """torchvision's transforms, on Pillow images or tensors: two weak views, an aggressive one from each."""

    def __init__(self, p: Views, tensors: bool) -> None:
        j = p.jitter
        self.weak = v2.Compose([v2.RandomResizedCrop(p.size, p.crop_scale, p.crop_ratio), v2.RandomHorizontalFlip(p.flip_prob)])
        kernel = 2 * round(3 * p.blur.sigma[1]) + 1
        blur = v2.GaussianBlur(kernel, p.blur.sigma) if tensors else PillowBlur(p.blur.sigma)
        self.aggressive = v2.Compose(
            [
                v2.RandomApply([v2.ColorJitter(j.brightness, j.contrast, j.saturation, j.hue)], j.prob),
                v2.RandomGrayscale(p.gray_prob),
                v2.RandomApply([blur], p.blur.prob[0]),
            ]
        )
        to_float: list[nn.Module] = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(p.normalize.mean, p.normalize.std)]
        self.finish = v2.Compose(to_float if tensors else [v2.ToImage(), *to_float])

    def __call__(self, image: Any) -> list[torch.Tensor]:
        weak = [self.weak(image), self.weak(image)]
        return [self.finish(view) for view in (*weak, *map(self.aggressive, weak))]


class PillowBlur(nn.Module):
    """Pillow's Gaussian blur, as the reference codes use it."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


class Samples(Dataset[Any]):
    """The encoded images of a split, decoded and transformed one by one."""

    def __init__(self, split: Split, decode: Callable[[bytes], Any], transform: FourViews) -> None:
        self.split, self.decode, self.transform = split, decode, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, id: int) -> list[torch.Tensor]:
        return self.transform(self.decode(self.split.read(id).tobytes()))


def by_pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def by_torchvision(data: bytes) -> torch.Tensor:
    return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)


def ours(split: Split, views: Views, batch_size: int) -> Iterator[Any]:
    for batch in TrainingViews(split, candidate_view_pairs(views), batch_size=batch_size, seed=0, threads=WORKERS):
        yield list(map(Normalize(views.normalize, CPU), batch.views))


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def by_webdataset(split: Split, transform: FourViews, batch_size: int) -> Iterator[Any]:
    urls = [str(split.folder / shard["name"]) for shard in split.shards]
    dataset = webdataset.WebDataset(urls, shardshuffle=False, workersplitter=webdataset.split_by_worker).shuffle(1000)
    mapped = dataset.map(lambda sample: transform(by_pillow(sample["jpg"])))
    return endless(DataLoader(mapped, batch_size, num_workers=min(WORKERS, len(urls))))


def images_per_second(batches: Iterator[Any], batch_size: int) -> float:
    next(batches)
    next(batches)
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        next(batches)
        done += 1
    return done * batch_size / (time.perf_counter() - started)


def compare(split: Split, views: Views, batch_size: int) -> dict[str, float]:
    def pillow_loader() -> Iterator[Any]:
        return endless(
            DataLoader(Samples(split, by_pillow, FourViews(views, False)), batch_size, shuffle=True, num_workers=WORKERS)
        )

    def tensor_loader() -> Iterator[Any]:
        return endless(
            DataLoader(Samples(split, by_torchvision, FourViews(views, True)), batch_size, shuffle=True, num_workers=WORKERS)
        )

    ways: dict[str, Callable[[], Iterator[Any]]] = {
        "this loader": lambda: ours(split, views, batch_size),
        "this loader, exact colour": lambda: ours(split, views.model_copy(update={"exact_color": True}), batch_size),
        "Pillow in a DataLoader": pillow_loader,
        "torchvision v2 tensors in a DataLoader": tensor_loader,
        "webdataset and Pillow": lambda: by_webdataset(split, FourViews(views, False), batch_size),
    }
    return {name: images_per_second(way(), batch_size) for name, way in ways.items()}


def tar_seconds(split: Split, folder: Path) -> float:
    """Return how many seconds `tar` takes to archive the same files."""
    folder.mkdir()
    for id in range(len(split)):
        (folder / split.rows[id]["name"].decode().replace("/", "_")).write_bytes(split.read(id).tobytes())
    started = time.perf_counter()
    subprocess.run(["tar", "-cf", str(folder.with_suffix(".tar")), str(folder)], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def waiting_share(split: Split, p: Params) -> float:
    """Return the share of a training step of RSA on ResNet-18 at 32 px, batch 64, in which the loop waits for its batch."""
    torch.set_num_threads(WORKERS)
    model = method_class("rsa")(build_backbone(Model(backbone="resnet18", backbone_args={}, small_stem=True)), p.methods["rsa"])
    model.to(memory_format=torch.channels_last).train()
    loader = TrainingViews(split, candidate_view_pairs(p.views), batch_size=64, seed=0, threads=WORKERS)
    waited = 0.0

    def timed() -> Iterator[Any]:
        nonlocal waited
        batches = iter(loader)
        yield next(batches)
        while True:
            started = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - started
            yield batch

    optimizer = p.methods["rsa"].optimizer
    pretrain = p.pretrain.model_copy(update={"precision": "float32", "batch_size": 64})
    started = time.perf_counter()
    train(
        model, timed(), build_optimizer(model.parameters(), (), optimizer), pretrain, optimizer,
        total_steps=12, normalize=Normalize(p.views.normalize, CPU), stop_on_collapse=False, report=lambda rows: None,
    )  # fmt: skip
    return waited / (time.perf_counter() - started)


def main(archive: Path | None) -> None:
    small = load_recipe("cifar10_small")
    large = small.views.model_copy(update={"size": 224})
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        if archive is not None:
            described = small.datasets["cifar10"].model_copy(update={"raw": str(archive), "train_samples": 20000})
            split, seconds = sharded(open_source(described, 0), Path(scratch) / "small", 2500)
            total = len(split) + 2000
            tar = tar_seconds(split, Path(scratch) / "copied")
            print(f"sharding: {total / seconds:.0f} images/s; tar of the same files: {len(split) / tar:.0f} images/s")
            print(f"waiting for data: {100 * waiting_share(split, small):.2f} % of a training step (ResNet-18, 32 px, batch 64)")
            rows.append(("32 px", compare(split, small.views, 256)))
        split, _ = sharded(photographs(300), Path(scratch) / "large", 75)
        rows.append(("224 px", compare(split, large, 32)))
        shutil.rmtree(scratch, ignore_errors=True)
    names = list(rows[0][1])
    print("\n| images/s (ratio to Pillow) | " + " | ".join(size for size, _ in rows) + " |\n| --- |" + " ---: |" * len(rows))
    for name in names:
        cells = [f"{rates[name]:.0f} ({rates[name] / rates['Pillow in a DataLoader']:.2f})" for _, rates in rows]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
