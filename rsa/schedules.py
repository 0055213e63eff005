"""Schedules: pure functions of training progress in [0, 1].

`SCHEDULES` names those that params.yaml can ask for as `{schedule: NAME, ...}`; the other keys are the arguments.
Progress grows with every step. Authors who change a value once an epoch instead are named where the value is used
(rsa.training.optim, rsa.methods.dino). All functions raise ValueError for a progress outside of [0, 1].
"""

from collections.abc import Callable
from math import cos, pi


def _check(progress: float) -> None:
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must be in [0, 1], got {progress}")


def constant(progress: float, value: float) -> float:
    """Return `value` at every progress."""
    _check(progress)
    return value


def linear(progress: float, start: float, end: float) -> float:
    """Return the value on a straight line from `start` (progress 0) to `end` (progress 1)."""
    _check(progress)
    return start + (end - start) * progress


def cosine(progress: float, start: float, end: float) -> float:
    """Return the value on half a cosine from `start` (progress 0) to `end` (progress 1)."""
    _check(progress)
    return end + (start - end) * (1 + cos(pi * progress)) / 2


def cosine_plateau(progress: float, start: float, end: float, plateau: float) -> float:
    """Return `start` for the fraction `plateau`, in [0, 1), of training, then the value on half a cosine to `end`."""
    _check(progress)
    return start if progress <= plateau else cosine((progress - plateau) / (1 - plateau), start, end)


def exponential(progress: float, start: float, end: float) -> float:
    """Return the value of a geometric decay from `start` to `end`, both positive."""
    _check(progress)
    return float(start * (end / start) ** progress)


def step(progress: float, start: float, factor: float, at: list[float]) -> float:
    """Return `start`, multiplied by `factor` once for every progress in `at` that has been reached."""
    _check(progress)
    return float(start * factor ** sum(progress >= a for a in at))


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "cosine_plateau": cosine_plateau,
    "exponential": exponential,
    "step": step,
}


def ema_momentum(progress: float, start: float) -> float:
    """Return BYOL's tau, which rises from `start` to 1: 1 - (1 - start) (cos(pi progress) + 1) / 2 (Grill et al. 2020, 3.3)."""
    return cosine(progress, start, 1.0)


def warmup_cosine(progress: float, warmup: float, peak: float, end: float) -> float:
    """Return the value on a line from 0 to `peak` over the fraction `warmup` of training, then on half a cosine to `end`."""
    _check(progress)
    return peak * (progress / warmup) if progress < warmup else cosine((progress - warmup) / (1 - warmup), peak, end)
