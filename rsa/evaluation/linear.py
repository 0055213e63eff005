"""Linear probe: scikit-learn's logistic regression (lbfgs) on standardised frozen features.

C is chosen on a held-out part of the training split, then the probe is fitted again on all of it. The test split is
read once, at the end.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from rsa.data.splits import held_out
from rsa.evaluation.features import Features
from rsa.params import LinearProbe


def linear_probe(train: Features, test: Features, p: LinearProbe, seed: int) -> dict[str, Any]:
    """Top-1 in percent on test, the C chosen, and the held-out accuracies that chose it; `seed` draws the held-out part."""
    held = _held_out_accuracies(train, p, seed)
    best = max(held, key=lambda c: (held[c], -c), default=p.C[0])  # of equals, the stronger regularisation
    model, converged = _fit(train.x, train.y, best, p.max_iter)
    return {
        "top1": 100 * float(model.score(test.x, test.y)),
        "C": best,
        "converged": converged,
        "held_out_top1": {str(c): value for c, value in held.items()},
    }


def _held_out_accuracies(train: Features, p: LinearProbe, seed: int) -> dict[float, float]:
    if len(p.C) == 1:
        return {}
    names: Sequence[str] = [str(label) for label in range(int(train.y.max()) + 1)]
    fit, choose = held_out(train.y, names, p.held_out, seed)
    x, y = np.asarray(train.x), train.y
    return {c: 100 * float(_fit(x[fit], y[fit], c, p.max_iter)[0].score(x[choose], y[choose])) for c in p.C}


def _fit(x: NDArray[np.float32], y: NDArray[np.int64], c: float, max_iter: int) -> tuple[Pipeline, bool]:
    """The fitted probe, and whether it converged (which the report says, so the warning is not needed)."""
    regression = LogisticRegression(C=c, max_iter=max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make_pipeline(StandardScaler(), regression).fit(x, y)
    return model, int(regression.n_iter_.max()) < max_iter
