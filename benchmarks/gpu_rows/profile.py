"""Summaries of torch's profiler: kernels, copies, calls that wait, and how long a GPU had nothing to do."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")  # the end of a profile synchronises the device


@dataclass(frozen=True)
class Profile:
    """Counts and times; on a CPU, where there are no kernels, operators take their place."""

    kernels: Counter[str]
    seconds: Counter[str]  # by kernel
    copies: Counter[str]
    waits: int
    idle: float  # share of the time from the first kernel to the end of the last


def profiled(work: Callable[[], object], device: torch.device) -> Profile:
    """Run `work` under the profiler."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as recorded:
        work()
        if cuda:
            torch.cuda.synchronize(device)
    events = [event for event in recorded.events() if not event.is_user_annotation]
    here = [event for event in events if event.device_type == (DeviceType.CUDA if cuda else DeviceType.CPU)]
    copies = [event for event in here if event.name.startswith(("Memcpy", "Memset"))]
    kernels = [event for event in here if not event.name.startswith(("Memcpy", "Memset"))]
    seconds: Counter[str] = Counter()
    for event in kernels:
        seconds[event.name] += (event.time_range.end - event.time_range.start) / 1e6
    return Profile(
        Counter(event.name for event in kernels),
        seconds,
        Counter(event.name for event in copies),
        sum(event.name in WAITS for event in events),
        idle_share([(event.time_range.start, event.time_range.end) for event in here]),
    )


def idle_share(intervals: list[tuple[float, float]]) -> float:
    """Return the share of the time between the first start and the last end that no interval covers."""
    if not intervals:
        return 0.0
    intervals = sorted(intervals)
    first, reached, idle = intervals[0][0], intervals[0][0], 0.0
    for start, end in intervals:
        idle += max(0.0, start - reached)
        reached = max(reached, end)
    return idle / max(reached - first, 1e-9)


def waiting_lines(work: Callable[[], object], device: torch.device) -> Counter[str]:
    """Run `work`; count the times that each line of Python made the CPU wait for the GPU."""
    if device.type != "cuda":
        work()
        return Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Counter(f"{each.filename}:{each.lineno}" for each in caught if "synchroniz" in str(each.message))
