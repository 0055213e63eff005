"""Checks that this machine computes exactly what params.yaml asks for, run by `rsa doctor`.

A check takes the params and returns a line that says what it measured; rsa.checks.outcome says how else it may end.
"""

from collections.abc import Callable

from rsa.checks import machine, training, views
from rsa.params.document import Params

CHECKS: dict[str, Callable[[Params], str]] = {
    "GPU": machine.devices,
    "decoder": machine.decoding,
    "disk": machine.disk,
    "locks": machine.locks,
    "views": views.crops,
    "colours": views.colors,
    "ranks": training.ranks,
    "resume": training.resuming,
    "step": training.step,
    "memory": training.memory,
}
