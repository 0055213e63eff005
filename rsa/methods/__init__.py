"""The methods, one file each.

A method is a module with
    recipe(views)       (static) the views it needs, see rsa.data.views
    backbone            the encoder that is evaluated
and what the training loop asks of it: embed, losses and before_step, see rsa.training.loop.Method.

A new method is its file, a line in METHODS, a section in rsa/params.py and a test.
"""

from collections.abc import Callable
from typing import Any

from rsa.methods.byol import BYOL
from rsa.methods.rsa import RSA

METHODS: dict[str, Callable[..., Any]] = {
    "byol": BYOL,
    "rsa": RSA,
}
