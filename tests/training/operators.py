"""Record the operators that a training step dispatches, for every recipe's methods on small networks."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rsa import recipes
from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.data.views import Recipe
from rsa.methods import build_method
from rsa.methods.method import Method
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.model import Model
from rsa.training.loop import train
from rsa.training.optim import build_optimizer

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
NARROW = {"hidden": 16, "out": 12, "bottleneck": 8}


class Operators(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[operator._schema.name.removeprefix("aten::")] += 1
        return operator(*args, **(kwargs or {}))


@cache
def small_recipe(name: str) -> Params:
    """A recipe with narrow networks of the same kind and views of 32 and 16 px."""
    p = recipes.load_recipe(name)
    small = VIT if "vit" in p.model.backbone else RESNET
    model = Model(**p.model.model_dump() | {"backbone_args": {**p.model.backbone_args, **small}})
    local = p.views.local and p.views.local.model_copy(update={"size": 16})
    views = p.views.model_copy(update={"size": 32, "local": local})
    methods = {method: narrowed(p.methods[method]) for method in p.trained}
    return p.model_copy(update={"model": model, "views": views, "methods": methods})


def narrowed(section: Any) -> Any:
    """A method's section with narrow heads."""
    changes: dict[str, Any] = {}
    for key in ("projector", "predictor", "head"):
        if (head := getattr(section, key, None)) is not None:
            changes[key] = head.model_copy(update={k: v for k, v in NARROW.items() if hasattr(head, k)})
    if hasattr(section, "predictor_hidden"):
        changes["predictor_hidden"] = 16
    return section.model_copy(update=changes)


def batches(recipe: Recipe, size: int) -> Iterator[Batch]:
    """Random images of the recipe's sizes."""
    random = np.random.default_rng(0)
    sizes = [recipe.crops[view.crop].size for view in recipe.views]
    while True:
        views = [torch.from_numpy(random.integers(0, 256, (size, s, s, 3), dtype=np.uint8)) for s in sizes]
        boxes = random.integers(1, 9, (len(recipe.crops), size, 5))
        yield Batch(0, Samples(np.arange(size), torch.zeros(size, dtype=torch.long), boxes, 0, 0), views)


def built(p: Params, name: str) -> tuple[Method, Recipe, torch.optim.Optimizer]:
    """A method on the CPU, ready to train."""
    torch.manual_seed(0)
    method, recipe = build_method(p.methods[name], build_backbone(p.model), p.views)
    method.to(memory_format=torch.channels_last).train()
    return method, recipe, build_optimizer(method.parameters(), method.constant_lr(), p.methods[name].optimizer)


def operators_of(p: Params, name: str, steps: int = 1) -> Counter[str]:
    """The operators of the first steps of a method, logging included."""
    method, recipe, optimizer = built(p, name)
    with Operators() as operators:
        train(
            method, islice(batches(recipe, 4), steps), optimizer, p.pretrain.model_copy(update={"accumulate": 1}),
            p.methods[name].optimizer, total_steps=steps, normalize=Normalize(p.views.normalize, torch.device("cpu")),
            stop_on_collapse=False,
            report=lambda rows: None,
        )  # fmt: skip
    return operators.count
