"""Checks of what the machine has: GPUs, the image decoder, disk and file locks."""

import shutil
from pathlib import Path

import torch
from nvidia import dali

from rsa.checks.outcome import FailedError, SkippedError
from rsa.file_locks import mount, unsafe
from rsa.params.document import Params

FREE_GB = 10


def devices(p: Params) -> str:
    """Check that torch finds the GPUs that params.yaml asks for; say how many of them a pretraining run gets."""
    if not torch.cuda.is_available():
        if p.runtime.device == "gpu":
            raise FailedError("runtime.device is gpu, and torch finds none")
        raise SkippedError("torch finds no GPU; training runs on the CPU")
    count, wanted = torch.cuda.device_count(), p.runtime.gpus
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    if p.runtime.device == "cpu":
        return f"{names}; unused, as runtime.device is cpu"
    if wanted > count:
        raise FailedError(f"runtime.gpus is {wanted}, and torch sees {count} here: {names}")
    return f"{names}; a pretraining run gets {wanted} of {count}: {count // wanted} at once with --resources gpu={count}"


def decoding(p: Params) -> str:
    """Check that DALI can be loaded, which happens when this module is imported."""
    return f"DALI {dali.__version__}"


def disk(p: Params) -> str:
    """Check that there is room for shards, runs and features."""
    free = shutil.disk_usage(".").free / 1e9
    if free < FREE_GB:
        raise FailedError(f"{free:.1f} GB free here, at least {FREE_GB} wanted")
    return f"{free:.0f} GB free"


def locks(p: Params) -> str:
    """Check that file locks keep processes apart in this folder, also those of several nodes if params.yaml asks for several."""
    if why := unsafe(Path(), shared=p.runtime.nodes > 1):
        raise FailedError(why)
    kind, _ = mount(Path())
    warning = unsafe(Path(), shared=True)
    return f"file locks hold on {kind}" + (f", for this node alone: {warning}" if warning else "")
