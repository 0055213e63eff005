"""Linear probe: scikit-learn's logistic regression (lbfgs) on standardised frozen features."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from rsa.evaluation.choose import Predictions, choose
from rsa.evaluation.features import Features
from rsa.evaluation.score import Score, accuracy
from rsa.params import LinearProbe, Probe


def linear_probe(name: str, p: LinearProbe, probe: Probe, train: Features, test: Features, seed: int) -> Score:
    """The score of protocol `name`; of several C, the one that is best on held-out data."""
    converged: dict[float, bool] = {}

    def predict(Cs: Sequence[float], train: Features, test: Features) -> Predictions:
        found: Predictions = {}
        for C in Cs:
            model, converged[C] = _fit(train.x, train.y, C, p.max_iter)
            found[C] = model.predict(test.x)
        return found

    choice = choose(p.C, predict, train, test, probe.held_out, probe.best_on_test, seed)
    details = {"C": choice.setting, "held_out_top1": choice.held_out_top1, "best_on_test": choice.best_on_test}
    return accuracy(name, p, test.y, choice.predicted, converged=converged[choice.setting], **details)


def _fit(x: NDArray[np.float32], y: NDArray[np.int64], C: float, max_iter: int) -> tuple[Pipeline, bool]:
    """The fitted probe, and whether it converged (which the report says, so the warning is not needed)."""
    regression = LogisticRegression(C=C, max_iter=max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make_pipeline(StandardScaler(), regression).fit(x, y)
    return model, int(regression.n_iter_.max()) < max_iter
