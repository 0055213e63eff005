"""Measurement of the peak memory of a function beyond what the process held before."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_above(function: Callable[[], object], device: torch.device) -> int:
    """Return bytes: torch's counters on a GPU, the peak resident set on the CPU (Linux only; OSError elsewhere)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)  # free memory that malloc keeps would be reused and not be counted
    before = _kilobytes("VmRSS")
    CLEAR.write_text("5")  # reset the peak resident set, see proc(5)
    function()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
