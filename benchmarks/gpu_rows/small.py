"""Small images: a ResNet-18 whose steps are bound by launches, and whole runs of a shallow network."""

from collections.abc import Iterator
from statistics import mean, median

import torch

from benchmarks.gpu_rows.handwritten import captured, rsa_step, step_laps
from benchmarks.gpu_rows.pretraining import Training, cifar, input_laps, run_laps, shallow
from benchmarks.gpu_rows.profile import profiled
from benchmarks.gpu_rows.setting import SMALL, Setting
from benchmarks.gpu_rows.stopwatch import arithmetic
from rsa.data.index import Split

Numbers = Iterator[tuple[str, float, str]]  # what, value, unit


def small_steps(setting: Setting) -> Numbers:
    """RSA's step on ResNet-18 at 32 px: this project's, strict or not, by hand, and by hand in a CUDA graph."""
    device, p = torch.device(setting.device), cifar(setting)
    size, steps, counted = p.pretrain.batch_size, setting.steps(20, 100), 5
    training = Training(p, "rsa", device)
    yield "small step", size / mean(training.laps(*steps)), "images/s"
    yield "small step, kernels", profiled(lambda: training.laps(0, counted), device).kernels.total() / counted, "launches"
    arithmetic(strict=False)
    yield "small step, strict off", size / mean(training.laps(*steps)), "images/s"
    arithmetic(strict=False, autotune=True)
    step = rsa_step(training)
    yield "small step, hand-written", size / mean(step_laps(step, device, *steps)), "images/s"
    by_hand = profiled(lambda: [step() for _ in range(counted)], device)
    yield "small step, hand-written, kernels", by_hand.kernels.total() / counted, "launches"
    if device.type == "cuda":
        yield "small step, hand-written, CUDA graph", size / mean(step_laps(captured(step), device, *steps)), "images/s"


def small_compiled_step(setting: Setting) -> Numbers:
    p = cifar(setting)
    training = Training(p, "rsa", torch.device(setting.device), compiled=True)
    yield "small step, compiled", p.pretrain.batch_size / median(training.laps(*setting.steps(10, 50))), "images/s"


def shallow_runs(setting: Setting) -> Numbers:
    """BYOL and RSA on a shallow network: whole runs, the step and the input alone."""
    device, p = torch.device(setting.device), shallow(setting)
    split, size = Split(setting.scratch / SMALL, "train"), p.pretrain.batch_size
    usual = p.runtime.threads.pretrain
    for name in ("byol", "rsa"):
        training, threads = Training(p, name, device), setting.threads(usual)
        laps = run_laps(training, split, threads, setting.scratch / f"shallow_{name}", *setting.steps(50, 200))
        yield f"{name}, shallow, whole run", size / mean(laps), "images/s"
        yield f"{name}, shallow, bare step", size / mean(training.laps(*setting.steps(20, 100))), "images/s"
        for words, count in (("", usual), (", three times the threads", 3 * usual)):
            laps = input_laps(training, split, setting.threads(count), *setting.steps(20, 100))
            yield f"{name}, shallow, input alone{words}", size / mean(laps), "images/s"
