"""Memory: the peak of a function beyond what the process held before, and the error where a GPU has too little."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from rsa.params.pretrain import Pretrain

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_above(function: Callable[[], object], device: torch.device) -> int:
    """Return by how many bytes the peak of `function` exceeds what was held before.

    On a GPU torch counts them; on the CPU it is the peak resident set, which Linux alone tells: OSError elsewhere.
    """
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


@contextmanager
def explained_shortage(p: Pretrain, world: int) -> Iterator[None]:
    """Raise ValueError with the sizes of the run when its GPU has no memory left."""
    try:
        yield
    except torch.OutOfMemoryError as why:
        total = torch.cuda.mem_get_info()[1] / 1e9
        at_once = -(-p.batch_size // (world * p.accumulate))
        raise ValueError(
            f"a GPU's {total:.0f} GB are too few for {at_once} images at once (pretrain.batch_size {p.batch_size} over {world} "
            f"GPUs and pretrain.accumulate {p.accumulate}): set accumulate to {2 * p.accumulate}, or more GPUs; "
            "`python -m rsa doctor` predicts what fits"
        ) from why


def _kilobytes(name: str) -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
