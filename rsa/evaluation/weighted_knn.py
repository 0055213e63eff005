"""Weighted kNN on frozen features, Wu et al. 2018 (section 3.4), https://arxiv.org/abs/1805.01978.

    votes of class c for a query q = sum of exp(cos(q, x_i) / T) over q's k nearest x_i (by cosine) of class c

scikit-learn's KNeighborsClassifier(metric="cosine") computes the same, in 3 to 5 times the time of the bare matrix product
and 1.5 GiB (benchmarks/probe.py); here products, selection and votes go tile by tile, so that neither the number of training
samples nor that of queries is bounded by memory, and one search serves several k.

Differs: Wu et al. leave ties open. Of equal cosines (as computed, in the features' precision) the earlier training sample is
nearer; of equal votes the smaller class wins; a zero vector has cosine 0 to everything; fewer than k training samples all vote.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

Array = NDArray[Any]
TILE_BYTES = 128 * 2**20  # of cosines, of training features and of neighbours found so far, each


class WeightedKNN(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Votes of the `n_neighbors` nearest training samples by cosine, weighted by exp(cosine / `temperature`).

    Features may be memory-mapped and are never copied as a whole.
    """

    def __init__(self, n_neighbors: int = 200, temperature: float = 0.1) -> None:
        self.n_neighbors = n_neighbors
        self.temperature = temperature

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training features X (N, D) and classes y (N,)."""
        if not self.n_neighbors >= 1:
            raise ValueError(f"n_neighbors must be at least 1, got {self.n_neighbors}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, self._codes = np.unique(y, return_inverse=True)
        self._train = X
        return self

    def kneighbors(self, X: Any) -> tuple[Array, NDArray[np.int64]]:
        """Cosines, descending, and indices of the nearest training samples, (N, k each)."""
        blocks = list(self._neighbors(X))
        return np.concatenate([cosines for cosines, _ in blocks]), np.concatenate([indices for _, indices in blocks])

    def predict_proba(self, X: Any) -> Array:
        """Shares of the votes (N, classes); each row sums to 1."""
        return np.concatenate([votes[0] / votes[0].sum(1, keepdims=True) for votes in self._votes(X, [self.n_neighbors])])

    def predict(self, X: Any) -> Array:
        """The class (N,) with most votes."""
        return self.predict_each(X, [self.n_neighbors])[self.n_neighbors]

    def predict_each(self, X: Any, ks: Sequence[int]) -> dict[int, Array]:
        """k -> the classes (N,) that `predict` would give with that n_neighbors, from one search; none above `n_neighbors`."""
        if not ks or min(ks) < 1 or max(ks) > self.n_neighbors:
            raise ValueError(f"ks must be between 1 and n_neighbors ({self.n_neighbors}), got {list(ks)}")
        ascending = sorted(set(ks))
        winners = np.concatenate([votes.argmax(2) for votes in self._votes(X, ascending)], axis=1)
        return dict(zip(ascending, self.classes_[winners], strict=True))

    def _votes(self, X: Any, ascending: Sequence[int]) -> Iterator[Array]:
        """Votes (len(ascending), B, classes) of the next B queries, each row scaled so that its nearest neighbour has 1."""
        for cosines, indices in self._neighbors(X):
            rows = max(1, TILE_BYTES // (8 * len(ascending) * len(self.classes_)))
            for start in range(0, len(cosines), rows):
                part = slice(start, start + rows)
                yield self._votes_of(cosines[part], indices[part], ascending)

    def _votes_of(self, cosines: Array, indices: NDArray[np.int64], ascending: Sequence[int]) -> Array:
        weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / self.temperature)  # (B, k); never overflows
        shape = (len(cosines), len(self.classes_))
        places = self._codes[indices] + shape[1] * np.arange(shape[0])[:, None]
        votes, total, before = [], np.zeros(shape), 0
        for k in ascending:
            counted = slice(before, k)
            total = total + np.bincount(places[:, counted].ravel(), weights[:, counted].ravel(), total.size).reshape(shape)
            votes.append(total)
            before = k
        return np.stack(votes)

    def _neighbors(self, X: Any) -> Iterator[tuple[Array, NDArray[np.int64]]]:
        """(cosines, indices) of the neighbours of the next queries, nearest first."""
        check_is_fitted(self)
        queries = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        k = min(self.n_neighbors, len(self._train))
        block = max(1, TILE_BYTES // (k * (self._train.itemsize + 8)))
        for start in range(0, len(queries), block):
            yield self._search(queries[start : start + block], k)

    def _search(self, queries: Array, k: int) -> tuple[Array, NDArray[np.int64]]:
        """The training features are read and normalised once; every tile of cosines is merged into what was found before."""
        dtype, train = self._train.dtype, self._train
        cosines, indices = np.empty((len(queries), k), dtype), np.empty((len(queries), k), np.int64)
        columns = min(len(train), max(k, TILE_BYTES // (dtype.itemsize * train.shape[1])))
        rows = max(1, min(len(queries), TILE_BYTES // (dtype.itemsize * columns)))
        product = np.empty(rows * columns, dtype)  # reused: fresh memory costs as much as filling it
        for first in range(0, len(train), columns):
            keys = unit(train[first : first + columns])
            for start in range(0, len(queries), rows):
                part = slice(start, start + rows)
                mine = unit(queries[part].astype(dtype, copy=False))
                tile = np.matmul(mine, keys.T, out=product[: len(mine) * len(keys)].reshape(len(mine), len(keys)))
                found, places = nearest(tile, min(k, tile.shape[1]))
                if first == 0:
                    cosines[part], indices[part] = found, places  # k of them, since columns >= k
                else:
                    cosines[part], indices[part] = merged(cosines[part], indices[part], found, places + first)
        return cosines, indices


def unit(x: Array) -> Array:
    """The rows of x (B, D) with length 1; zero rows stay zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x))  # no (B, D) temporary
    return x / np.where(lengths > 0, lengths, 1)[:, None]


def nearest(cosines: Array, k: int) -> tuple[Array, NDArray[np.int64]]:
    """The k largest of each row of (B, M), descending, and their places; of equal ones the first."""
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


def merged(
    cosines: Array, indices: NDArray[np.int64], found: Array, places: NDArray[np.int64]
) -> tuple[Array, NDArray[np.int64]]:
    """The nearest of both, as many as before; those found before come earlier in the training split, so they go first."""
    both, where = np.concatenate([cosines, found], 1), np.concatenate([indices, places], 1)
    order = np.argsort(-both, axis=1, kind="stable")[:, : cosines.shape[1]]
    return np.take_along_axis(both, order, 1), np.take_along_axis(where, order, 1)
