"""A method with its network and the views that it asks for, for a training loop of one's own."""

from typing import NamedTuple

from torch import nn

from rsa import recipes
from rsa.data.views import Recipe
from rsa.methods import build_method
from rsa.methods.method import Method, MethodSettings
from rsa.models.backbones import build_backbone
from rsa.params.section import require_known


class Built(NamedTuple):
    """A method and the views that its `embed` takes; `views.names` says what each is."""

    method: Method
    views: Recipe


def build(method: str, recipe: str = "cifar10_methods", backbone: nn.Module | None = None) -> Built:
    """Build `method`, with random weights, as `recipe` does (`rsa recipe --list`).

    `backbone` replaces the recipe's: a module from images (B, 3, H, W) to (B, D), whose attribute `num_features` is D. Random
    weights are torch's, so that torch.manual_seed settles them. The calls of a training step are listed in rsa.methods.method.

    Raises ValueError for a recipe that is not there, and for a method that it does not train.
    """
    recipes.require_name(recipe)
    p = recipes.load_recipe(recipe)
    settings = {name: section for name, section in p.methods.items() if isinstance(section, MethodSettings)}
    require_known("method", method, settings, f"a method that recipe {recipe} trains")
    return Built(*build_method(settings[method], build_backbone(p.model) if backbone is None else backbone, p.views))
