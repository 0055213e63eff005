"""Schedules: pure functions of training progress in [0, 1].

`SCHEDULES` names those that params.yaml can ask for as `{schedule: NAME, ...}`; the other keys are the arguments.
Progress grows with every step. Authors who change a value once an epoch instead are named where the value is used
(rsa.training.optim, rsa.methods.dino).
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
    """A straight line from `start` (progress 0) to `end` (progress 1)."""
    _check(progress)
    return start + (end - start) * progress


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` (progress 0) to `end` (progress 1)."""
    _check(progress)
    return end + (start - end) * (1 + cos(pi * progress)) / 2


def cosine_plateau(progress: float, start: float, end: float, plateau: float) -> float:
    """`start` for the first `plateau` of training, then half a cosine to `end`; `plateau` in [0, 1)."""
    _check(progress)
    return start if progress <= plateau else cosine((progress - plateau) / (1 - plateau), start, end)


def exponential(progress: float, start: float, end: float) -> float:
    """Geometric decay from `start` to `end`, both positive."""
    _check(progress)
    return float(start * (end / start) ** progress)


def step(progress: float, start: float, factor: float, at: list[float]) -> float:
    """`start`, multiplied by `factor` at every progress in `at` that has been reached."""
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
    """BYOL's tau (Grill et al. 2020, section 3.3): 1 - (1 - start) (cos(pi progress) + 1) / 2, from `start` up to 1."""
    return cosine(progress, start, 1.0)


def warmup_cosine(progress: float, warmup: float, peak: float, end: float) -> float:
    """A line from 0 to `peak` over the first `warmup` of training, then half a cosine to `end`."""
    _check(progress)
    return peak * (progress / warmup) if progress < warmup else cosine((progress - warmup) / (1 - warmup), peak, end)
