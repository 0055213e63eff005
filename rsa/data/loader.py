"""Shards -> batches of views, as torch tensors.

Everything about a batch is a function of its iteration number: which samples (`rsa.data.order`, of which each rank takes
its block of the global batch) and which parameters (`rsa.data.views`, drawn by sample id and epoch). So the views are the
same for any number of ranks and threads and any prefetch depth, and a run continues at any step.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from torch import Tensor

from rsa.data import graph, operators
from rsa.data.index import Split
from rsa.data.order import Order
from rsa.data.views import Boxes, Recipe, draw_boxes, draw_colors

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch; B is its number of samples."""

    iteration: int
    ids: I64  # (B,)
    labels: Tensor  # (B,) int64
    views: list[Tensor]  # each (B, size, size, 3) uint8
    boxes: list[Boxes]  # of each crop of the recipe


@dataclass(frozen=True)
class Position:
    """Where a run is in its data, and what the data is: all that is needed to continue."""

    iteration: int
    seed: int
    batch_size: int
    index_sha256: str
    recipe_sha256: str

    def require_same_data(self, other: "Position") -> None:
        """ValueError, with both values, where the other position belongs to other data."""
        for key, value in asdict(self).items():
            if key != "iteration" and getattr(other, key) != value:
                raise ValueError(f"the saved state must have {key} {value} to continue here, got {getattr(other, key)}")


class TrainingViews:
    """An endless iterable of batches from iteration `start` on, for one rank of `world`."""

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        *,
        batch_size: int,
        seed: int,
        threads: int,
        gpu: int | None = None,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        prefetch: int = graph.PREFETCH,
    ) -> None:
        self.split, self.recipe, self.seed = split, recipe, seed
        self.order = Order(len(split), batch_size, seed)
        self.threads, self.gpu, self.prefetch = threads, gpu, prefetch
        self.rank, self.world, self.start = rank, world, start
        self.colors = [view.color for view in recipe.views if view.color is not None]
        self._samples = lru_cache(maxsize=prefetch + 2)(self._find_samples)  # asked for twice: for DALI and for the batch

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in one pass over the split."""
        return self.order.steps_per_epoch

    def position(self, iteration: int) -> Position:
        """The position before `iteration`."""
        recipe = hashlib.sha256(repr(self.recipe).encode()).hexdigest()
        return Position(iteration, self.seed, self.order.batch_size, self.split.index_sha256, recipe)

    def __iter__(self) -> Iterator[Batch]:
        pipeline = graph.build(
            self._graph,
            batch_size=-(-self.order.batch_size // self.world),
            threads=self.threads,
            gpu=self.gpu,
            prefetch=self.prefetch,
        )
        iteration = self.start
        while True:
            ahead = range(iteration, iteration + self.prefetch + 1)
            views = graph.outputs(pipeline, self.split, lambda: np.concatenate([self._samples(i)[0] for i in ahead]))  # noqa: B023
            ids, labels, boxes = self._samples(iteration)
            yield Batch(iteration, ids, torch.from_numpy(labels), views, boxes)
            iteration += 1

    def _find_samples(self, iteration: int) -> tuple[I64, I64, list[Boxes]]:
        ids, epoch = self.order.batch(iteration, self.rank, self.world)
        rows = self.split.rows[ids]
        height, width, label = (rows[field].astype(np.int64) for field in ("height", "width", "label"))
        epochs = np.full(len(ids), epoch)
        boxes = [draw_boxes(crop, i, self.seed, ids, epochs, height, width) for i, crop in enumerate(self.recipe.crops)]
        return ids, label, boxes

    def _source(self, done: int) -> list[Any]:
        """What `_graph` takes in, in its order, for the batch after `done` others."""
        iteration = self.start + int(done)
        ids, _, boxes = self._samples(iteration)
        epochs = np.full(len(ids), iteration // self.steps_per_epoch)
        inputs: list[Any] = [[self.split.read(int(id)) for id in ids]]
        for box in boxes:
            inputs += [box.start, box.shape, box.flip]
        for number, color in enumerate(self.colors):
            inputs += operators.color_inputs(color, draw_colors(color, number, self.seed, ids, epochs))
        return inputs

    def _graph(self) -> tuple[Any, ...]:
        """The DALI graph: every image decoded once, each crop cut and resized once, then coloured."""
        count = 1 + 3 * len(self.recipe.crops) + sum(map(operators.num_color_inputs, self.colors))
        encoded, *drawn = fn.external_source(self._source, num_outputs=count, batch=True)
        images = graph.decode(encoded, self.gpu)
        inputs = iter(drawn)
        crops = []
        for crop in self.recipe.crops:
            # slice, then resize, is torchvision's resized_crop; a resize of a region filters across the box's border.
            cut = fn.slice(images, start=next(inputs), shape=next(inputs), axes=[0, 1])
            cut = fn.resize(cut, size=[crop.size, crop.size], interp_type=types.INTERP_LINEAR, antialias=True)
            crops.append(fn.flip(cut, horizontal=next(inputs)))
        views = []
        for view in self.recipe.views:
            pixels = crops[view.crop]
            if view.color is not None:
                pixels = operators.apply_color(pixels, view.color, inputs)
            views.append(pixels)
        return tuple(views)
