"""Shards -> batches of views, as torch tensors.

Everything about a batch is a function of its iteration number: which samples (a permutation of the whole split for
every epoch, of which each rank takes its block of the global batch) and which parameters (drawn by sample id and epoch).
So the views are the same for any number of ranks and threads and any prefetch depth, and a run continues at any step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from torch import Tensor

from rsa.data import graph
from rsa.data.index import Split
from rsa.data.views import Recipe, draw_boxes, draw_colors

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch; B is its number of samples."""

    iteration: int
    ids: I64  # (B,)
    labels: Tensor  # (B,) int64
    views: list[Tensor]  # each (B, size, size, 3) uint8


class Order:
    """Which samples make up each global batch: a permutation per epoch, the incomplete last batch dropped."""

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        if samples < batch_size:
            raise ValueError(f"pretrain.batch_size must be at most the number of training images ({samples}), got {batch_size}")
        self.batch_size = batch_size
        self.steps_per_epoch = samples // batch_size
        self._permutation = lru_cache(maxsize=2)(  # two: batches are prepared across the border of epochs
            lambda epoch: np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(samples)
        )

    def batch(self, iteration: int, rank: int = 0, world: int = 1) -> tuple[I64, int]:
        """The sample ids of `rank`'s block of a global batch, and their epoch."""
        epoch, place = divmod(iteration, self.steps_per_epoch)
        start = place * self.batch_size
        first, last = start + self.batch_size * rank // world, start + self.batch_size * (rank + 1) // world
        return self._permutation(epoch)[first:last], epoch


class TrainingViews:
    """An endless iterable of batches from iteration `start` on."""

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

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in one pass over the split."""
        return self.order.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        pipeline = graph.build(
            self._views,
            batch_size=-(-self.order.batch_size // self.world),
            threads=self.threads,
            gpu=self.gpu,
            prefetch=self.prefetch,
        )
        iteration = self.start
        while True:
            ahead = range(iteration, iteration + self.prefetch + 1)
            views = graph.outputs(pipeline, self.split, lambda: np.concatenate([self._ids(i)[0] for i in ahead]))  # noqa: B023
            ids, _ = self._ids(iteration)
            yield Batch(iteration, ids, torch.from_numpy(self.split.rows["label"][ids].astype(np.int64)), views)
            iteration += 1

    def _ids(self, iteration: int) -> tuple[I64, int]:
        return self.order.batch(iteration, self.rank, self.world)

    def _inputs(self, iteration: int) -> list[Any]:
        """Encoded images, then start, shape, flip of each crop, then matrix, mean_matrix and sigma of each coloured view."""
        ids, epoch = self._ids(iteration)
        epochs = np.full(len(ids), epoch)
        rows = self.split.rows[ids]
        inputs: list[Any] = [[self.split.read(int(id)) for id in ids]]
        for number, crop in enumerate(self.recipe.crops):
            heights, widths = rows["height"].astype(np.int64), rows["width"].astype(np.int64)
            boxes = draw_boxes(crop, number, self.seed, ids, epochs, heights, widths)
            inputs += [boxes.start, boxes.shape, boxes.flip]
        for number, color in enumerate(self.colors):
            drawn = draw_colors(color, number, self.seed, ids, epochs)
            inputs += [drawn.matrix, drawn.mean_matrix, drawn.sigma]
        return inputs

    def _views(self) -> tuple[Any, ...]:
        """The DALI graph: every image decoded once, each crop cut and resized once, then coloured."""
        encoded, *drawn = fn.external_source(
            lambda done: self._inputs(self.start + int(done)),
            num_outputs=1 + 3 * (len(self.recipe.crops) + len(self.colors)),
            batch=True,
        )
        images = graph.decode(encoded, self.gpu)
        draws = iter(drawn)
        crops = []
        for crop in self.recipe.crops:
            # slice, then resize, is torchvision's resized_crop; a resize of a region filters across the box's border.
            cut = fn.slice(images, start=next(draws), shape=next(draws), axes=[0, 1])
            cut = fn.resize(cut, size=[crop.size, crop.size], interp_type=types.INTERP_LINEAR, antialias=True)
            crops.append(fn.flip(cut, horizontal=next(draws)))
        views = []
        for view in self.recipe.views:
            pixels = crops[view.crop]
            if view.color is not None:
                pixels = _jitter(pixels, next(draws), next(draws))
                sigma = next(draws)
                pixels = _blur(pixels, sigma) if view.color.blur.prob > 0 else pixels
            views.append(pixels)
        return tuple(views)


def _jitter(pixels: Any, matrix: Any, mean_matrix: Any) -> Any:
    mean = fn.reductions.mean(pixels, axes=[0, 1], keep_dims=True).cpu()  # (1, 1, 3)
    offset = fn.reshape(fn.coord_transform(mean, M=mean_matrix), shape=[3])  # arguments are on the CPU for both devices
    return fn.coord_transform(pixels, M=matrix, T=offset, dtype=types.UINT8)  # rounds and saturates


def _blur(pixels: Any, sigma: Any) -> Any:
    if sigma > 0:  # noqa: SIM108 - DALI splits the batch here
        blurred = fn.gaussian_blur(pixels, sigma=sigma)
    else:
        blurred = pixels
    return blurred
