"""The colours of a step, and what makes the CPU wait in 25 steps of the loop."""

from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np
import torch

from benchmarks.gpu_rows.handwritten import step_laps
from benchmarks.gpu_rows.pretraining import Training, changed, cifar, imagenet
from benchmarks.gpu_rows.profile import profiled, waiting_lines
from benchmarks.gpu_rows.setting import Setting
from rsa.data.coloring import apply_colors
from rsa.data.views import color_of, draw_colors, join_colors

LOGGED = 25  # steps from one transfer of the losses to the next


def colors(setting: Setting) -> Iterator[tuple[str, float, str]]:
    """Colour both aggressive views of a batch, and take 25 steps."""
    device, p = torch.device(setting.device), imagenet(setting)
    size, ids = p.views.size, np.arange(p.pretrain.batch_size)
    images = torch.randint(256, (2 * len(ids), size, size, 3), dtype=torch.uint8, device=device)
    for kind in ("fast", "exact"):
        views = changed(p, views={"exact_color": kind == "exact"}).views
        drawn = [draw_colors(color_of(views, view), view, 0, ids, np.zeros_like(ids)) for view in (0, 1)]
        work = partial(apply_colors, images, join_colors(drawn))
        yield f"{kind} colours of a step", 1000 * median(step_laps(work, device, *setting.steps(3, 10))), "ms"
        found = profiled(work, device)
        yield f"{kind} colours of a step, kernels", found.kernels.total(), "launches"
        yield f"{kind} colours of a step, copies", found.copies.total(), "copies"
        yield f"{kind} colours of a step, waits for the GPU", found.waits, "waits"
    yield from waits(setting, device)


def waits(setting: Setting, device: torch.device) -> Iterator[tuple[str, float, str]]:
    """Count what makes the CPU wait between one transfer of the losses and the next; the lines go to waits.txt."""
    training, steps = Training(cifar(setting), "rsa", device), 2 if setting.quick else LOGGED

    def work() -> None:
        training.train(training.batches(steps))

    work()
    found = profiled(work, device)
    yield f"{steps} steps, calls that wait for the GPU", found.waits, "waits"
    copies = sum(count for name, count in found.copies.items() if "HtoD" in name or "DtoH" in name)
    yield f"{steps} steps, copies between CPU and GPU", copies, "copies"
    lines = waiting_lines(work, device)
    (setting.out / "waits.txt").write_text("".join(f"{count:6} {line}\n" for line, count in lines.most_common()))
    yield f"{steps} steps, waits that torch warns of", lines.total(), "waits"
