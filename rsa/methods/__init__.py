"""The methods, one file each; rsa.methods.method says what a method is, rsa.methods.hard_views wraps any of them.

A new method is its file, a line in METHODS, a section in rsa/params.py and a test.
"""

from collections.abc import Callable

from torch import nn

from rsa import params
from rsa.data.views import Recipe
from rsa.methods.barlow_twins import BarlowTwins
from rsa.methods.byol import BYOL
from rsa.methods.dino import DINO
from rsa.methods.hard_views import HardViews
from rsa.methods.ibot import IBOT
from rsa.methods.method import Method
from rsa.methods.moco_v3 import MoCoV3
from rsa.methods.rsa import RSA
from rsa.methods.simclr import SimCLR
from rsa.methods.simsiam import SimSiam
from rsa.methods.supervised import Supervised

METHODS: dict[str, Callable[..., Method]] = {
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "dino": DINO,
    "ibot": IBOT,
    "moco_v3": MoCoV3,
    "rsa": RSA,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "supervised": Supervised,
}


def build_method(p: params.AnyMethod, backbone: nn.Module, views: params.Views) -> tuple[Method, Recipe]:
    """A method as its section of params.yaml describes it, and the views it wants."""
    method = METHODS[p.method](backbone, p)
    if p.hard_views is None:
        return method, method.recipe(views)
    hard = HardViews(method, p.hard_views, views)
    return hard, hard.candidate_views


def require_parts(method: Method, p: params.Pretrain) -> None:
    """ValueError where gradients cannot be accumulated: the loss of a sample depends on the whole batch."""
    if method.whole_batch and p.accumulate > 1:
        raise ValueError(
            f"pretrain.accumulate must be 1 for {type(method).__name__}, whose loss compares all samples of a batch; "
            f"got {p.accumulate}"
        )
