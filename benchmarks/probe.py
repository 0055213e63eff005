"""python benchmarks/probe.py [CLASS_FOLDERS.zip]: kNN and linear probe against plain scikit-learn and bare products, one run.

Features of CIFAR-10 (the zip: JPEGs in class folders; 50,000 and 10,000 of 512 dimensions), by a ResNet-18 that was trained
for a few steps with labels. Without the zip: ten Gaussians with about that spectrum, so accuracies say nothing.
A time is the best of the rounds, ways in turns, in CPU seconds of one thread, which other work on the machine hardly moves;
memory is what a way held for itself at its peak, beyond what was held before (mapped files' pages are the system's).
"""

import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.photographs import sharded
from benchmarks.scale import private_memory
from rsa.data.evaluation_images import evaluation_images
from rsa.data.files import load_array
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.sources import open_source
from rsa.evaluation.encode import frozen
from rsa.evaluation.features import Features, read_features, write_features, write_origin
from rsa.evaluation.linear import linear_probe
from rsa.evaluation.logistic import logistic_predictions
from rsa.evaluation.softmax_regression import SoftmaxRegression
from rsa.evaluation.weighted_knn import weighted_knn
from rsa.models.backbones import build_backbone, representation
from rsa.params.model import Model
from rsa.params.probe import LinearProbe, Probe
from rsa.recipes import load_recipe

ROUNDS = 2
CPU = torch.device("cpu")
STEPS, BATCH = 150, 256  # of training the encoder
KS, TEMPERATURE = [10, 20, 100, 200], 0.07
C, GRID = 0.01, [0.001, 0.01, 0.1]
MANY, ITERATIONS = 200_000, 30  # samples and iterations of the larger regression
# Singular values of the encoder's centred features, as measured: place, value.
SPECTRUM = [1, 2, 6, 11, 51, 101, 201, 512], [317.0, 242.0, 145.0, 104.0, 35.6, 22.1, 13.5, 4.6]

Way = Callable[[], NDArray[Any] | None]  # predictions of the test split


def encoded(archive: Path, folder: Path) -> None:
    """Write the features of both splits to `folder`."""
    p = load_recipe("cifar10_small")
    dataset = p.datasets["cifar10"].model_copy(update={"raw": str(archive), "train_samples": None, "test_samples": None})
    sharded(open_source(dataset, 0), folder / "shards", 2500)
    torch.manual_seed(0)
    backbone = build_backbone(Model(backbone="resnet18", backbone_args={}, small_stem=False))
    splits = {name: Split(folder / "shards", name) for name in ("train", "test")}
    images = {name: list(evaluation_images(split, p.evaluation, batch_size=500, threads=2)) for name, split in splits.items()}
    train_on(backbone, torch.cat([batch.cpu() for batch in images["train"]]), splits["train"].labels)
    for name, split in splits.items():
        write_features(folder, name, split.labels, map(frozen(backbone, Normalize(p.views.normalize, CPU)), images[name]))
    write_origin(folder, {})


def train_on(backbone: torch.nn.Module, images: torch.Tensor, labels: NDArray[np.int64]) -> None:
    """Train the backbone with a linear classifier for STEPS steps."""
    model = torch.nn.ModuleList([backbone.to(memory_format=torch.channels_last), torch.nn.Linear(512, 10)]).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    random, normalize = np.random.default_rng(0), Normalize(load_recipe("cifar10_small").views.normalize, CPU)
    for _ in range(STEPS):
        chosen = random.integers(0, len(labels), BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            scores = model[1](representation(backbone, normalize(images[chosen])))
        optimizer.zero_grad()
        F.cross_entropy(scores.float(), torch.tensor(labels[chosen])).backward()
        optimizer.step()


def drawn(folder: Path) -> None:
    """Write features of both splits to `folder` that are drawn from ten Gaussians."""
    random = np.random.default_rng(0)
    places, values = np.log(np.array(SPECTRUM))
    scales = np.exp(np.interp(np.log(np.arange(1, 513)), places, values)) / np.sqrt(5000)
    centers = random.normal(size=(10, 512)) * scales * 0.2
    rotation, _ = np.linalg.qr(random.normal(size=(512, 512)))
    for name, count in {"train": 50_000, "test": 10_000}.items():
        y = random.integers(0, 10, count)
        x = ((centers[y] + random.normal(size=(count, 512)) * scales) @ rotation + 1).astype(np.float32)
        write_features(folder, name, y, iter([x]))
    write_origin(folder, {})


def measured(way: Way) -> tuple[float, float, NDArray[Any] | None]:
    """Return the CPU seconds that a way took, its extra MiB at the peak, and its predictions."""
    before, peak, done = private_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, private_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.process_time()
    result = way()
    seconds = time.process_time() - started
    done.set()
    watcher.join()
    return seconds, max(peak - before, 0) / 2**20, result


def compare(ways: dict[str, Way], truth: NDArray[np.int64], rounds: int) -> None:
    """Print a row for every way, with ratios to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, list[float]] = {name: [] for name in ways}
    right: dict[str, str] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            taken, held, predicted = measured(way)
            seconds[name].append(taken)
            memory[name].append(held)
            right[name] = "" if predicted is None else f"{100 * (predicted == truth).mean():.2f}"
    base = min(next(iter(seconds.values())))
    print("| way | CPU seconds | ratio | extra memory (MiB) | top-1 (%) |\n| --- | ---: | ---: | ---: | ---: |")
    for name in ways:
        best = min(seconds[name])
        print(f"| {name} | {best:.2f} | {best / base:.2f} | {max(memory[name]):.0f} | {right[name]} |", flush=True)


def product(train: Features, test: Features, rows: int = 1000) -> None:
    for start in range(0, len(test.x), rows):
        test.x[start : start + rows] @ train.x.T


def knn_ways(train: Features, test: Features) -> dict[str, Way]:
    plain = KNeighborsClassifier(
        max(KS), metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / TEMPERATURE)
    ).fit(train.x, train.y)
    return {
        "bare matrix product": lambda: product(train, test),
        f"this project, k = {max(KS)}": lambda: weighted_knn(train.x, train.y, test.x, [max(KS)], TEMPERATURE)[max(KS)],
        f"this project, k in {KS}": lambda: weighted_knn(train.x, train.y, test.x, KS, TEMPERATURE)[max(KS)],
        f"KNeighborsClassifier, k = {max(KS)}": lambda: plain.predict(test.x),
    }


def linear_ways(train: Features, test: Features) -> dict[str, Way]:
    scaler = StandardScaler().fit(train.x)
    x, x_test = scaler.transform(train.x), scaler.transform(test.x)
    p = LinearProbe(classifier="logistic_regression", C=GRID, max_iter=1000)
    probe = Probe(held_out=0.2, best_on_test=False, protocols={"sklearn": p})

    def selected() -> None:
        linear_probe("sklearn", p, probe, train, test, seed=0)

    return {
        "LogisticRegression, features standardised before": lambda: (
            LogisticRegression(C=C, max_iter=1000).fit(x, train.y).predict(x_test)
        ),
        "this project's probe, one C": lambda: next(iter(logistic_predictions(train, test, [C], 1000)))[1],
        "the same in chunks": lambda: SoftmaxRegression(C, max_iter=1000).fit(train.x, train.y).predict(test.x),
        f"this project's probe, C of {GRID} chosen": selected,
    }


def larger_ways(train: Features, test: Features, folder: Path) -> dict[str, Way]:
    """Return the ways for MANY samples on disk, each a feature of `train` with noise."""
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(train.y), MANY)
    noise = 0.3 * train.x.std(0)

    def batches() -> Any:
        for start in range(0, MANY, 10_000):
            part = train.x[chosen[start : start + 10_000]]
            yield part + noise * random.normal(size=part.shape).astype(np.float32)

    write_features(folder, "many", train.y[chosen], batches())
    many = Features(load_array(folder / "many.npy", "extract", "r"), load_array(folder / "many_labels.npy", "extract"))

    def plain() -> NDArray[Any]:
        scaler = StandardScaler().fit(many.x)
        model = LogisticRegression(C=C, max_iter=ITERATIONS).fit(scaler.transform(many.x), many.y)
        predicted: NDArray[Any] = model.predict(scaler.transform(test.x))
        return predicted

    return {
        "StandardScaler and LogisticRegression": plain,
        "in chunks": lambda: SoftmaxRegression(C, max_iter=ITERATIONS).fit(many.x, many.y).predict(test.x),
    }


def main(archive: Path | None) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # of the larger ones, which stop at a number of iterations
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        encoded(archive, folder) if archive else drawn(folder)
        with threadpool_limits(1):
            report(folder)


def report(folder: Path) -> None:
    train, test, _ = read_features(folder)
    kernels = {pool["architecture"] for pool in threadpool_info() if "architecture" in pool}
    shape = f"{len(train.y):,} x {len(test.y):,} x {train.x.shape[1]}"
    print(f"NumPy's products: OpenBLAS for {', '.join(sorted(kernels))}.\n\nkNN, {shape}:\n", flush=True)
    compare(knn_ways(train, test), test.y, ROUNDS)
    print(f"\nLinear probe, {len(train.y):,} x {train.x.shape[1]}, 10 classes, C = {C}:\n", flush=True)
    compare(linear_ways(train, test), test.y, ROUNDS)
    print(f"\n{MANY:,} x {train.x.shape[1]} on disk, {ITERATIONS} iterations:\n", flush=True)
    compare(larger_ways(train, test, folder), test.y, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
