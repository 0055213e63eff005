"""RSA on ResNet-50 at 224 px in bf16, batch 256: the step, the whole training, the input, the memory and what bounds it."""

import re
from collections.abc import Iterator
from statistics import mean, median

import torch

from benchmarks.gpu_rows.handwritten import rsa_step, step_laps
from benchmarks.gpu_rows.pretraining import Training, changed, imagenet, input_laps, run_laps
from benchmarks.gpu_rows.profile import profiled
from benchmarks.gpu_rows.setting import LARGE, Setting
from benchmarks.gpu_rows.stopwatch import arithmetic
from rsa.data.index import Split
from rsa.training.memory import peak_above

Numbers = Iterator[tuple[str, float, str]]  # what, value, unit


def rates(what: str, batch_size: int, laps: list[float]) -> Numbers:
    """The rate over all laps, in which every 25th step logs, and the median lap."""
    yield what, batch_size / mean(laps), "images/s"
    yield f"{what}, median step", 1000 * median(laps), "ms"


def bare_step(setting: Setting) -> Numbers:
    device = torch.device(setting.device)
    for optimizer in ("lars", "sgd"):
        p = imagenet(setting, optimizer=optimizer)
        yield from rates(
            f"bare step, {optimizer}", p.pretrain.batch_size, Training(p, "rsa", device).laps(*setting.steps(10, 25))
        )


def handwritten_step(setting: Setting) -> Numbers:
    device, p = torch.device(setting.device), imagenet(setting)
    arithmetic(strict=False, autotune=True)
    step = rsa_step(Training(p, "rsa", device))
    yield from rates("hand-written step", p.pretrain.batch_size, step_laps(step, device, *setting.steps(10, 25)))


def compiled_step(setting: Setting) -> Numbers:
    p = imagenet(setting, optimizer="sgd")
    training = Training(p, "rsa", torch.device(setting.device), compiled=True)
    yield from rates("bare step, sgd, compiled", p.pretrain.batch_size, training.laps(*setting.steps(5, 25)))


def whole_training(setting: Setting) -> Numbers:
    device, p = torch.device(setting.device), imagenet(setting)
    split, threads = Split(setting.scratch / LARGE, "train"), setting.threads(p.runtime.threads.pretrain)
    training = Training(p, "rsa", device)
    laps = run_laps(training, split, threads, setting.scratch / "whole", *setting.steps(10, 25))
    yield from rates("whole training", p.pretrain.batch_size, laps)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        yield "whole training, memory taken on the card", (total - free) / 1e9, "GB"


def input_alone(setting: Setting) -> Numbers:
    device, p = torch.device(setting.device), imagenet(setting)
    split = Split(setting.scratch / LARGE, "train")
    usual = p.runtime.threads.pretrain
    for words, exact, threads in (("exact", True, usual), ("fast", False, usual), ("twice the threads, exact", True, 2 * usual)):
        training = Training(changed(p, views={"exact_color": exact}), "rsa", device)
        laps = input_laps(training, split, setting.threads(threads), *setting.steps(4, 16))
        yield f"input alone, {words} colour", p.pretrain.batch_size / mean(laps), "images/s"


def peak_memory(setting: Setting) -> Numbers:
    from rsa.checks.training import memory  # beside checks that need DALI

    device, p = torch.device(setting.device), imagenet(setting)
    p = changed(p, experiment={"methods": ["rsa"]})
    words = memory(p)
    yield "peak memory, as the doctor predicts", float(re.findall(r"rsa (\d+\.\d+) GB", words)[0]), "GB"
    yield "peak memory", peak_above(lambda: Training(p, "rsa", device).laps(0, 2), device) / 1e9, "GB"


def exactness(setting: Setting) -> Numbers:
    """Measure what determinism, cuDNN's search and TF32 cost or gain; TF32 in float32, with a quarter of the batch."""
    device, p = torch.device(setting.device), imagenet(setting, optimizer="sgd")
    training = Training(p, "rsa", device)
    for strict, autotune in ((True, False), (False, False), (True, True), (False, True)):
        arithmetic(strict=strict, autotune=autotune)
        what = f"bf16 step, strict {'on' if strict else 'off'}, cudnn.benchmark {'on' if autotune else 'off'}"
        yield what, 1000 * median(training.laps(*setting.steps(4, 10))), "ms"
    del training
    p = changed(p, pretrain={"precision": "float32", "batch_size": p.pretrain.batch_size // 4})
    training = Training(p, "rsa", device)
    for tf32 in (False, True):
        arithmetic(tf32=tf32)
        yield f"float32 step, TF32 {'on' if tf32 else 'off'}", 1000 * median(training.laps(*setting.steps(3, 8))), "ms"


def bounds(setting: Setting) -> Numbers:
    """Profile three bare steps; the kernels that take longest are written to profile.txt."""
    device, p = torch.device(setting.device), imagenet(setting)
    training, steps = Training(p, "rsa", device), 3
    training.laps(5, 0)
    found = profiled(lambda: training.laps(0, steps), device)
    total = found.seconds.total()
    lines = [f"{name[:120]:120} {1000 * took / steps:9.3f} ms {100 * took / total:5.1f} %  {found.kernels[name] / steps:7.1f}"
             for name, took in found.seconds.most_common(12)]  # fmt: skip
    head = f"Of a bare step of RSA, ResNet-50: kernel, time, share, launches. The GPU is idle for {100 * found.idle:.1f} %."
    (setting.out / "profile.txt").write_text("\n".join([head, *lines]) + "\n")
    yield "bare step, kernels", found.kernels.total() / steps, "launches"
    yield "bare step, the GPU is idle", 100 * found.idle, "%"
