"""Weighted kNN on frozen features, Wu et al. 2018 (section 3.4), https://arxiv.org/abs/1805.01978.

    votes of class c for a query q = sum of exp(cos(q, x_i) / T) over q's k nearest x_i (by cosine) of class c

scikit-learn's KNeighborsClassifier(metric="cosine") computes the same, in 3 to 5 times the time of the bare matrix product
and 1.5 GiB (benchmarks/probe.py); here products, selection and votes go tile by tile, so that neither the number of training
samples nor that of queries is bounded by memory, and one search serves several k.

Differs: Wu et al. leave ties open. Of equal cosines (as computed, in the features' precision) the earlier training sample is
nearer; of equal votes the smaller class wins; a zero vector has cosine 0 to everything; fewer than k training samples all vote.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
I64 = NDArray[np.int64]
TILE_BYTES = 128 * 2**20  # of cosines, of training features and of neighbours found so far, each


def weighted_knn(x: Array, y: I64, queries: Array, ks: Sequence[int], temperature: float) -> dict[int, I64]:
    """Return, for each k, the class (B,) of every query (B, D) by the votes of its k nearest of x (N, D) with classes y (N,).

    Features may be memory-mapped and are never copied as a whole.
    """
    classes, codes = np.unique(y, return_inverse=True)
    ascending = sorted(set(ks))
    winners = []
    for cosines, indices in neighbors(x, queries, ascending[-1]):
        rows = max(1, TILE_BYTES // (8 * len(ascending) * len(classes)))
        for start in range(0, len(cosines), rows):
            part = slice(start, start + rows)
            winners.append(votes(cosines[part], codes[indices[part]], len(classes), ascending, temperature).argmax(2))
    return dict(zip(ascending, classes[np.concatenate(winners, axis=1)], strict=True))


def votes(cosines: Array, codes: I64, classes: int, ascending: Sequence[int], temperature: float) -> Array:
    """Return the votes (len(ascending), B, classes) of neighbours (B, k), scaled so that each query's nearest has 1."""
    weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / temperature)  # (B, k); never overflows
    shape = (len(cosines), classes)
    places = codes + classes * np.arange(len(cosines))[:, None]
    for_each_k, total, before = [], np.zeros(shape), 0
    for k in ascending:
        counted = slice(before, k)
        total = total + np.bincount(places[:, counted].ravel(), weights[:, counted].ravel(), total.size).reshape(shape)
        for_each_k.append(total)
        before = k
    return np.stack(for_each_k)


def neighbors(x: Array, queries: Array, k: int) -> Iterator[tuple[Array, I64]]:
    """Iterate over blocks of queries: the cosines, descending, and indices of their k nearest (or all) of x, (B, k) each."""
    x, queries, k = np.asarray(x), np.asarray(queries), min(k, len(x))
    block = max(1, TILE_BYTES // (k * (x.itemsize + 8)))
    for start in range(0, len(queries), block):
        yield _search(x, queries[start : start + block], k)


def _search(train: Array, queries: Array, k: int) -> tuple[Array, I64]:
    """Return cosines and indices of the k nearest for some queries, (B, k) each.

    The training features are read and normalised once; the neighbours in a tile of cosines are merged into those before.
    """
    dtype = train.dtype
    cosines, indices = np.empty((len(queries), k), dtype), np.empty((len(queries), k), np.int64)
    columns = min(len(train), max(k, TILE_BYTES // (dtype.itemsize * train.shape[1])))
    rows = max(1, min(len(queries), TILE_BYTES // (dtype.itemsize * columns)))
    product = np.empty(rows * columns, dtype)  # reused: fresh memory costs as much as filling it
    for first in range(0, len(train), columns):
        keys = unit(train[first : first + columns])
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            normalized = unit(queries[part].astype(dtype, copy=False))
            tile = np.matmul(normalized, keys.T, out=product[: len(normalized) * len(keys)].reshape(len(normalized), len(keys)))
            in_tile, places = nearest(tile, min(k, tile.shape[1]))
            if first == 0:
                cosines[part], indices[part] = in_tile, places  # k of them, since columns >= k
            else:
                cosines[part], indices[part] = merged(cosines[part], indices[part], in_tile, places + first)
    return cosines, indices


def unit(x: Array) -> Array:
    """Normalise the rows of x (B, D) to length 1; zero rows stay zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x))  # no (B, D) temporary
    limit = np.sqrt(np.finfo(x.dtype).max)
    if not np.all((lengths < limit) & (lengths > 1 / limit)):  # a square has overflowed or lost digits, or a row is zero
        _, exponents = np.frexp(np.abs(x).max(1, keepdims=True))
        x = np.ldexp(x, -exponents)  # exact
        lengths = np.sqrt(np.einsum("nd,nd->n", x, x))
    return x / np.where(lengths > 0, lengths, 1)[:, None]


def nearest(cosines: Array, k: int) -> tuple[Array, I64]:
    """Return the k largest of each row of (B, M), descending, and their indices; ties go to the first."""
    rows, columns = cosines.shape
    if k + 1 < columns:  # one more than asked for: whether the last place is contested
        places = np.sort(np.argpartition(cosines, columns - k - 1, axis=1)[:, columns - k - 1 :], axis=1)
    else:
        places = np.broadcast_to(np.arange(columns), (rows, columns))
    values = np.take_along_axis(cosines, places, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    values, places = np.take_along_axis(values, order, 1), np.take_along_axis(places, order, 1)
    for row in np.flatnonzero(values[:, k - 1] == values[:, k]) if values.shape[1] > k else []:  # partition took any of them
        places[row] = np.argsort(-cosines[row], kind="stable")[: values.shape[1]]
    return values[:, :k], places[:, :k]


def merged(cosines: Array, indices: I64, more_cosines: Array, more_indices: I64) -> tuple[Array, I64]:
    """Merge two lists of nearest neighbours; ties go to the first list, which comes earlier in the training split."""
    all_cosines, all_indices = np.concatenate([cosines, more_cosines], 1), np.concatenate([indices, more_indices], 1)
    order = np.argsort(-all_cosines, axis=1, kind="stable")[:, : cosines.shape[1]]
    return np.take_along_axis(all_cosines, order, 1), np.take_along_axis(all_indices, order, 1)
