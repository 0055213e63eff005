"""The process that measures rows; benchmarks/gpu.py starts another one after a row that failed."""

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from benchmarks.gpu_rows.process import DONE
from benchmarks.gpu_rows.setting import LARGE, SMALL, Measurement, Setting


def make_shards(setting: Setting) -> None:
    """Write the made-up photographs into shards."""
    from benchmarks.photographs import photographs, sharded

    os.chdir(setting.scratch)
    many, few = (40, 64) if setting.quick else (2048, 5120)
    sharded(photographs(many), setting.scratch / LARGE, many // 16)
    sharded(photographs(few, 32, 32, zoom=4), setting.scratch / SMALL, few // 16)


def rows() -> dict[str, Callable[[Setting], Iterator[tuple[str, float, str]]]]:
    """Return the function of each row; it yields what it measured, the value and the unit."""
    from benchmarks.gpu_rows import colors, hard, resnet50, small

    return {
        "A1": resnet50.bare_step, "A2": resnet50.handwritten_step, "A3": resnet50.compiled_step,
        "A4": resnet50.whole_training, "A5": resnet50.input_alone, "B": resnet50.peak_memory, "C": resnet50.exactness,
        "D": hard.hard_views, "E": small.small_steps, "E2": small.small_compiled_step, "F": colors.colors, "G": resnet50.bounds,
        "H": small.shallow_runs,
    }  # fmt: skip


def serve(line: Connection, setting: Setting) -> None:
    """Measure the rows that `line` names, until one fails or a name is empty; send numbers, then DONE or what went wrong."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first matrix product runs
    os.chdir(setting.scratch)  # runs write live files beside themselves
    import torch

    from benchmarks.gpu_rows.stopwatch import arithmetic

    functions = rows()
    torch.zeros(1, device=setting.device)  # starts CUDA
    name = torch.cuda.get_device_name() if setting.device == "cuda" else "CPU"
    line.send(f"{name}, {os.cpu_count()} CPU cores, torch {torch.__version__}")
    while row := line.recv():
        arithmetic()
        try:
            for what, value, unit in functions[row](setting):
                line.send(Measurement(row, what, float(value), unit))
        except Exception as why:
            traceback.print_exc()
            line.send(f"{type(why).__name__}: {' '.join(str(why).split())[:300]}")
            return
        line.send(DONE)
        gc.collect()
        if setting.device == "cuda":
            torch.cuda.empty_cache()
