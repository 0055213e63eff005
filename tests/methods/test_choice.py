"""A method is found by its name: the class of its section, and its network."""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from rsa import methods
from rsa.methods import control_encoder, method_class, settings_of
from rsa.methods.method import ControlSettings, Method, MethodSettings
from rsa.models.pixels import Pixels
from rsa.params.document import CONTROLS, Params
from tests.methods.networks import Backbone
from tests.methods.sections import SECTIONS


def test_every_file_with_settings_is_a_method_or_a_control():
    """A subclass of Method and no other, or a function that gives the encoder."""
    assert methods.names() == sorted([*SECTIONS, *CONTROLS])
    for name in methods.names():
        module: ModuleType = methods._module(name)
        assert settings_of({"method": name}) is module.Settings
        assert module.Settings.model_fields["method"].annotation.__args__ == (name,)
        assert list(own_methods(module)) == ([] if name in CONTROLS else [method_class(name)])
        assert issubclass(module.Settings, ControlSettings if name in CONTROLS else MethodSettings)
        assert hasattr(module, "encoder") == (name in CONTROLS)


def own_methods(module: ModuleType) -> Iterator[type]:
    for each in vars(module).values():
        if inspect.isclass(each) and issubclass(each, Method) and each.__module__ == module.__name__:
            yield each


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "simsaim"}, r"method must be a known name, got 'simsaim' \(did you mean simsiam\?\)"),
        ({"method": "hard_views"}, "method must be a known name, got 'hard_views'"),  # a file, but no method
        ({"method": 3}, "method must be the name of a method, got 3"),
        ({"optimizer": {}}, "method is missing"),
    ],
    ids=str,
)
def test_a_section_of_no_method_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        settings_of(values)


def test_a_control_is_the_random_backbone_or_the_pixels(tiny: Params):
    backbone = Backbone()
    sections = {name: settings_of({"method": name}).model_validate({"method": name}) for name in CONTROLS}
    assert control_encoder(sections["random"], backbone, tiny.views) is backbone
    pixels = control_encoder(sections["pixels"], backbone, tiny.views)
    assert isinstance(pixels, Pixels)
    assert pixels(torch.zeros(2, 3, 4, 4)).shape == (2, 48)
