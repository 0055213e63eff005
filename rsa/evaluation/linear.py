"""Linear probe: logistic regression (lbfgs) on standardised frozen features."""

from collections.abc import Sequence

from rsa.evaluation.features import Features
from rsa.evaluation.logistic import logistic_predictions
from rsa.evaluation.model_selection import Predictions, select
from rsa.evaluation.score import Score, accuracy
from rsa.params.probe import LinearProbe, Probe


def linear_probe(
    name: str, p: LinearProbe, probe: Probe, train: Features, test: Features, seed: int, device: str | None = None
) -> Score:
    """Score protocol `name` with the C that is best on held-out data."""
    converged: dict[float, bool] = {}

    def predict(Cs: Sequence[float], train: Features, test: Features) -> Predictions:
        predictions: Predictions = {}
        for C, predicted, converged[C] in logistic_predictions(train, test, Cs, p.max_iter, device):
            predictions[C] = predicted
        return predictions

    choice = select(p.C, predict, train, test, probe.held_out, probe.best_on_test, seed)
    details = {"C": choice.setting, "held_out_top1": choice.held_out_top1, "best_on_test": choice.best_on_test}
    return accuracy(name, p, test.y, choice.predicted, converged=converged[choice.setting], **details)
