"""The methods, one file each; rsa.methods.method says what a method is, rsa.methods.hard_views wraps any of them.

A method is imported by its name when it is asked for, so that a run depends on its own method's file and not on its
neighbours'. A new method is its file, with a class `Settings` and one subclass of Method, and a section of `methods`.
"""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from rsa.data.views import Recipe
from rsa.methods.hard_views import HardViews
from rsa.methods.method import ControlSettings, Method, MethodSettings
from rsa.params.pretrain import Pretrain
from rsa.params.section import Section, require_known
from rsa.params.views import Views


def names() -> list[str]:
    """The name of every method, controls included: of every file here that has a class `Settings`."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if "\nclass Settings(" in file.read_text())


def settings_of(values: dict[str, Any]) -> type[Section]:
    """The class of a section of `methods`, which its key `method` names. ValueError for a name that has no file."""
    name = values.get("method")
    if not isinstance(name, str):
        raise ValueError("method is missing" if name is None else f"method must be the name of a method, got {name!r}")
    require_known("method", name, names(), "a known name")
    settings: type[Section] = _module(name).Settings
    return settings


def method_class(name: str) -> Callable[..., Method]:
    """The subclass of Method in the file of that name."""
    here = [each for each in vars(_module(name)).values() if inspect.isclass(each) and each.__module__ == f"{__name__}.{name}"]
    (found,) = (each for each in here if issubclass(each, Method))
    return found


def control_encoder(p: ControlSettings, backbone: nn.Module) -> nn.Module:
    """The encoder of a control, made of the random backbone."""
    encoder: nn.Module = _module(p.method).encoder(backbone)
    return encoder


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


def build_method(p: MethodSettings, backbone: nn.Module, views: Views) -> tuple[Method, Recipe]:
    """A method as its section of params.yaml describes it, and the views it wants."""
    method = method_class(p.method)(backbone, p)
    if p.hard_views is None:
        return method, method.recipe(views)
    hard = HardViews(method, p.hard_views, views)
    return hard, hard.candidate_views


def check_accumulation(method: Method, p: Pretrain) -> None:
    """ValueError where gradients cannot be accumulated: the loss of a sample depends on the whole batch."""
    if method.needs_full_batch and p.accumulate > 1:
        raise ValueError(
            f"pretrain.accumulate must be 1 for {type(method).__name__}, whose loss compares all samples of a batch; "
            f"got {p.accumulate}"
        )
