"""How much memory something takes at its peak, beyond what the process held before."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_above(function: Callable[[], object], device: torch.device) -> int:
    """Bytes: on a GPU by torch's counters, on the CPU the peak of the resident set (Linux alone; OSError elsewhere)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)  # what is free but kept would be used first, and not be seen
    before = _kilobytes("VmRSS")
    CLEAR.write_text("5")  # the peak so far is forgotten: proc(5)
    function()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
