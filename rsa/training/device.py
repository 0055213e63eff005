"""The device of a run, and the settings that make its arithmetic deterministic."""

import ctypes
import os

import torch
from torch.utils import deterministic

from rsa.params.runtime import STRICT, Kernels

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt


def choose_device(device: str) -> torch.device:
    """Return the torch device for `auto`, `cpu` or `gpu` on this machine."""
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # set by torchrun: one GPU per process


def setup(device: str, threads: int, seed: int, kernels: Kernels = STRICT) -> torch.device:
    """Set seeds, threads and the choice of kernels, and return the torch device for `auto`, `cpu` or `gpu`.

    A CPU always gets deterministic kernels and full float32: they cost nothing there.
    """
    if device == "gpu" and not torch.cuda.is_available():
        raise ValueError("device must be cpu or auto on a machine without a usable GPU, got gpu")
    keep_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed by deterministic matrix products on GPUs
    chosen = choose_device(device)
    torch.use_deterministic_algorithms(kernels.deterministic or chosen.type == "cpu")
    torch.set_float32_matmul_precision("high" if kernels.tf32 and chosen.type == "cuda" else "highest")
    torch.backends.cudnn.allow_tf32 = kernels.tf32  # of convolutions
    torch.backends.cudnn.benchmark = kernels.cudnn_benchmark
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # filling new tensors with NaN takes 4 % of a step
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    return chosen


def keep_memory() -> None:
    """Keep freed memory in the process for the next tensor, as torch does on GPUs.

    Otherwise each activation is mapped and zeroed again, which takes 5 to 8 % of a training step on CPUs. Peak memory stays
    the same. This has no effect without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 1 << 26)):
            mallopt(option, value)


def gpu_number(device: torch.device) -> int | None:
    """Return DALI's device id, None for the CPU."""
    return None if device.type == "cpu" else (device.index or 0)
