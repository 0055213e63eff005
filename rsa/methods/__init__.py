"""The methods, one file each; rsa.methods.method defines the interface, rsa.methods.hard_views wraps any method.

A method is imported by name on request, so that a run depends only on the file of its own method. To add a method, write
a file with a class `Settings` and one subclass of Method, and add a section to `methods`.
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
    """Return the names of all methods, controls included: the files in this folder that define a class `Settings`."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if "\nclass Settings(" in file.read_text())


def settings_of(values: dict[str, Any]) -> type[Section]:
    """Return the settings class that the key `method` of a section selects. ValueError for an unknown name."""
    name = values.get("method")
    if not isinstance(name, str):
        raise ValueError("method is missing" if name is None else f"method must be the name of a method, got {name!r}")
    require_known("method", name, names(), "a known name")
    settings: type[Section] = _module(name).Settings
    return settings


def method_class(name: str) -> Callable[..., Method]:
    """Return the subclass of Method that the file of that name defines."""
    classes = [each for each in vars(_module(name)).values() if inspect.isclass(each) and issubclass(each, Method)]
    (own,) = (each for each in classes if each.__module__ == f"{__name__}.{name}")  # not those that the file imports
    return own


def control_encoder(p: ControlSettings, backbone: nn.Module, views: Views) -> nn.Module:
    """Build the encoder of a control from the random backbone."""
    encoder: nn.Module = _module(p.method).encoder(backbone, views)
    return encoder


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


def build_method(p: MethodSettings, backbone: nn.Module, views: Views) -> tuple[Method, Recipe]:
    """Build the method that a section of params.yaml describes, and the recipe of its views."""
    method = method_class(p.method)(backbone, p)
    if p.hard_views is None:
        return method, method.recipe(views)
    hard = HardViews(method, p.hard_views, views)
    return hard, hard.candidate_views


def check_accumulation(method: Method, p: Pretrain) -> None:
    """Raise ValueError if gradients are to be accumulated but the loss depends on the whole batch."""
    if method.needs_full_batch and p.accumulate > 1:
        raise ValueError(
            f"pretrain.accumulate must be 1 for {type(method).__name__}, whose loss compares all samples of a batch; "
            f"got {p.accumulate}"
        )
