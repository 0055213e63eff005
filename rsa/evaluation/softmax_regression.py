"""Multinomial logistic regression in chunks of bounded memory: scikit-learn's LogisticRegression(C) for features on disk.

    min over W, b:  C sum_i CE(y_i, softmax(W x_i + b)) + |W|^2 / 2

W: (classes, D), b: (classes,), unpenalised. With two classes the first one's scores are fixed at 0, as in LogisticRegression.
Solved by the same solver (SciPy's L-BFGS-B) with the same stopping rule. LogisticRegression holds a standardised copy of the
features and all scores (N, classes) several times over; here each evaluation of loss and gradient reads the features once,
chunk by chunk, and standardising is folded into it: chunks are centred as they are read, the scales go into the weights.
Products are taken in the features' precision, sums over chunks in float64.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

Array = NDArray[Any]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
CHUNK_BYTES = 4 * 2**20  # of features or of scores, whichever is more; so that a chunk stays in the processor's cache


class SoftmaxRegression:
    """LogisticRegression(C, tol, max_iter) behind a StandardScaler, for arrays too large to copy."""

    def __init__(self, C: float, max_iter: int, tol: float = 1e-4) -> None:
        self.C, self.max_iter, self.tol = C, max_iter, tol

    def fit(self, X: Array, y: I64) -> Self:
        """Fit to features X (N, D) and classes y (N,)."""
        X = np.asarray(X)
        self._classes, codes = np.unique(y, return_inverse=True)
        if len(self._classes) < 2:
            raise ValueError(f"y must have at least 2 classes, got one class: {self._classes[0]!r}")
        self._center, self._scale = self._standardization(X)
        shape = (len(self._classes) if len(self._classes) > 2 else 1, X.shape[1] + 1)

        def objective(parameters: F64) -> tuple[float, F64]:
            return self._loss_and_gradient(parameters.reshape(shape), X, codes)

        result = minimize(
            objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B",
            options={"maxiter": self.max_iter, "gtol": self.tol, "ftol": 64 * np.finfo(float).eps, "maxls": 50},  # scikit-learn's
        )  # fmt: skip
        self._parameters: F64 = result.x.reshape(shape)  # W and b, of standardised features
        if result.status != 0:
            warnings.warn(f"not converged after {result.nit} iterations: {result.message}", ConvergenceWarning, stacklevel=2)
        return self

    def predict(self, X: Array) -> I64:
        """Predict the most probable class (N,)."""
        X = np.asarray(X)
        V = (self._parameters[:, :-1] / self._scale).astype(X.dtype).T
        bias = self._parameters[:, -1].astype(X.dtype)
        winners = [_with_first(x @ V + bias, len(self._classes), 1).argmax(1) for _, x in self._centered(X)]
        predicted: I64 = self._classes[np.concatenate(winners)]
        return predicted

    def _standardization(self, X: Array) -> tuple[Array, F64]:
        """Compute the mean, in the features' precision, and the scale of the standardisation, each (D,)."""
        scaler = StandardScaler()
        for part in self._chunks(X):
            scaler.partial_fit(X[part])
        return scaler.mean_.astype(X.dtype), scaler.scale_

    def _chunks(self, X: Array) -> Iterator[slice]:
        rows = max(1, CHUNK_BYTES // (X.itemsize * max(X.shape[1], len(self._classes))))
        return (slice(start, min(start + rows, len(X))) for start in range(0, len(X), rows))

    def _centered(self, X: Array) -> Iterator[tuple[slice, Array]]:
        """Yield centred chunks of X (B, D), each overwritten by the next."""
        buffer = None
        for part in self._chunks(X):
            if buffer is None:
                buffer = np.empty((part.stop, X.shape[1]), X.dtype)
            yield part, np.subtract(X[part], self._center, out=buffer[: part.stop - part.start])

    def _loss_and_gradient(self, parameters: F64, X: Array, codes: I64) -> tuple[float, F64]:
        """Return the mean cross-entropy plus |W|^2 / (2 C N), and its gradient; W is that of standardised features."""
        V = (parameters[:, :-1] / self._scale).astype(X.dtype)
        bias = parameters[:, -1:].astype(X.dtype)
        loss, gradient = 0.0, np.zeros_like(parameters)
        for part, x in self._centered(X):
            scores = _with_first(V @ x.T + bias, len(self._classes), 0)  # (classes, B): faster than (B, classes)
            scores -= scores.max(0)
            truth = codes[part], np.arange(len(x))
            losses = -scores[truth].astype(np.float64)
            np.exp(scores, out=scores)
            sums = scores.sum(0)
            losses += np.log(sums)
            scores /= sums
            scores[truth] -= 1
            loss += float(losses.sum())
            residuals = scores[-len(V) :]
            gradient[:, :-1] += residuals @ x
            gradient[:, -1] += residuals.sum(1, dtype=np.float64)
        gradient[:, :-1] /= self._scale
        gradient /= len(X)
        strength = 1 / (self.C * len(X))
        gradient[:, :-1] += strength * parameters[:, :-1]
        return loss / len(X) + strength / 2 * float((parameters[:, :-1] ** 2).sum()), gradient.ravel()


def _with_first(scores: Array, classes: int, axis: int) -> Array:
    """Return scores of every class; with two classes, the first one's are fixed at 0."""
    return scores if classes > 2 else np.concatenate([np.zeros_like(scores), scores], axis)
