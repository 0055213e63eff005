"""The training data loader: shards -> batches of views, as torch tensors.

A batch is a function of its iteration number: its samples (`rsa.data.order`; each rank takes its block of the global batch)
and its parameters (`rsa.data.views`, drawn by sample id and epoch). Views are therefore the same for any number of ranks and
threads and any prefetch depth, and a run can resume at any step.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from threading import Barrier
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from torch import Tensor

from rsa.data import border, dali, decoding
from rsa.data.batch import Batch, Position
from rsa.data.coloring import apply_colors
from rsa.data.index import Split
from rsa.data.order import Order
from rsa.data.samples import Samples
from rsa.data.views import Boxes, Colors, Recipe, draw_boxes, draw_colors, join_colors

I64 = NDArray[np.int64]


def single_threads(count: int) -> ThreadPoolExecutor:
    """Build a thread pool in which torch uses one thread per worker; other threads keep their setting."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    everyone = Barrier(count)
    list(pool.map(lambda _: everyone.wait(), range(count)))  # wait until every worker has set its thread count
    torch.set_num_threads(threads)  # the workers' setting would otherwise apply to new threads
    return pool


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
        prefetch: int = decoding.PREFETCH,
        drop_last: bool = True,
    ) -> None:
        self.split, self.recipe, self.seed = split, recipe, seed
        self.order = Order(len(split), batch_size, seed, drop_last=drop_last)
        self.threads, self.gpu, self.prefetch = threads, gpu, prefetch
        self.rank, self.world, self.start = rank, world, start
        self._samples = lru_cache(maxsize=2 * prefetch + 3)(self._find_samples)  # called twice: for DALI and for the batch
        self._reader = ThreadPoolExecutor(1)  # reads and checks shards while the calling thread launches kernels
        self._encoded = lru_cache(maxsize=2)(lambda iteration: self._reader.submit(self._read, iteration))

    @property
    def steps_per_epoch(self) -> int:
        """The number of global batches in one pass over the split."""
        return self.order.steps_per_epoch

    def position(self, iteration: int) -> Position:
        """Return the position before `iteration`."""
        recipe = hashlib.sha256(repr(self.recipe).encode()).hexdigest()
        return Position(iteration, self.seed, self.order.batch_size, self.split.index_sha256, recipe)

    def __iter__(self) -> Iterator[Batch]:
        pipeline = decoding.build(
            self._graph,
            batch_size=-(-self.order.batch_size // self.world),
            threads=self.threads,
            gpu=self.gpu,
            prefetch=self.prefetch,
        )
        # Colouring takes less time than decoding and resizing.
        with single_threads(max(1, self.threads // 2)) as coloring, dali.Copies() as copies:
            ahead: deque[Future[Batch]] = deque()
            for iteration in itertools.count(self.start):
                crops = copies(dali.outputs(pipeline, self.split, partial(self._in_flight, iteration)))
                ahead.append(coloring.submit(self._batch, iteration, crops))
                if len(ahead) > self.prefetch:
                    yield ahead.popleft().result()

    def _in_flight(self, iteration: int) -> I64:
        return np.concatenate([self._samples(i)[0] for i in range(iteration, iteration + self.prefetch + 1)])

    def _batch(self, iteration: int, crops: list[Tensor]) -> Batch:
        ids, labels, boxes = self._samples(iteration)
        crops = border.correct_edges(crops, self.recipe.crops, [box.shape for box in boxes])
        epoch = iteration // self.steps_per_epoch
        views = [crops[view.crop] for view in self.recipe.views]
        colors = self._colors(ids, np.full(len(ids), epoch))
        for size in {views[i].shape for i in colors}:  # views of one size are coloured as one batch: fewer kernels on a GPU
            same = [i for i in colors if views[i].shape == size]
            colored = apply_colors(torch.cat([views[i] for i in same]), join_colors([colors[i] for i in same]))
            for i, view in zip(same, colored.chunk(len(same)), strict=True):
                views[i] = view
        places = np.stack([np.column_stack([box.start, box.shape, box.flip]) for box in boxes]).astype(np.int64)
        return Batch(iteration, Samples(ids, torch.from_numpy(labels), places, epoch, self.seed), views)

    def _colors(self, ids: I64, epochs: I64) -> dict[int, Colors]:
        """Return the colours of each coloured view by its number."""
        colored = [(i, view.color) for i, view in enumerate(self.recipe.views) if view.color is not None]
        return {i: draw_colors(color, number, self.seed, ids, epochs) for number, (i, color) in enumerate(colored)}

    def _find_samples(self, iteration: int) -> tuple[I64, I64, list[Boxes]]:
        ids, epoch = self.order.batch(iteration, self.rank, self.world)
        rows = self.split.rows[ids]
        height, width, label = (rows[field].astype(np.int64) for field in ("height", "width", "label"))
        epochs = np.full(len(ids), epoch)
        boxes = [draw_boxes(crop, i, self.seed, ids, epochs, height, width) for i, crop in enumerate(self.recipe.crops)]
        return ids, label, boxes

    def _read(self, iteration: int) -> list[Any]:
        """Return the encoded images of a batch, each checked."""
        return [self.split.read(int(id)) for id in self._samples(iteration)[0]]

    def _source(self, done: int) -> list[Any]:
        """Return the inputs of `_graph` for batch number `done`, counted from `start`."""
        iteration = self.start + int(done)
        encoded, _ = self._encoded(iteration), self._encoded(iteration + 1)  # the next batch is read ahead
        inputs: list[Any] = [encoded.result()]
        for crop, box in zip(self.recipe.crops, self._samples(iteration)[2], strict=True):
            inputs += [box.start, box.shape, box.flip, border.crop_frames(crop, box.shape)]
        return inputs

    def _graph(self) -> tuple[Any, ...]:
        """Define the DALI graph: decode every image once, then cut, resize and flip each crop."""
        encoded, *inputs = fn.external_source(self._source, num_outputs=1 + 4 * len(self.recipe.crops), batch=True)
        images = decoding.decode(encoded, self.gpu)
        crops = []
        for i, crop in enumerate(self.recipe.crops):
            start, shape, flip, frame = inputs[4 * i : 4 * i + 4]
            # slice, then resize, is torchvision's resized_crop; a resize of a region filters across the box's border.
            cut = fn.slice(images, start=start, shape=shape, axes=[0, 1])
            if frame[0] + frame[1] > 0:  # of each sample by itself
                cut = dali.resize_framed(cut, [crop.size, crop.size], crop.interpolation, shape, frame)
            else:
                cut = dali.resize(cut, [crop.size, crop.size], crop.interpolation)
            crops.append(fn.flip(cut, horizontal=flip))
        return tuple(crops)
