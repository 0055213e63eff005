"""kNN on frozen features (Wu et al. 2018, section 3.4): cosine neighbours, votes weighted by exp(cos / T)."""

from collections.abc import Sequence

from rsa.evaluation.features import Features
from rsa.evaluation.model_selection import Predictions, select
from rsa.evaluation.score import Score, accuracy
from rsa.evaluation.weighted_knn import weighted_knn
from rsa.params.probe import KNN, Probe


def knn_probe(name: str, p: KNN, probe: Probe, train: Features, test: Features, seed: int) -> Score:
    """Score protocol `name` with the k that is best on held-out data."""

    def predict(ks: Sequence[float], train: Features, test: Features) -> Predictions:
        return knn_predictions(train, test, [int(k) for k in ks], p.temperature)

    choice = select(p.k, predict, train, test, probe.held_out, probe.best_on_test, seed)
    details = {"k": int(choice.setting), "held_out_top1": choice.held_out_top1, "best_on_test": choice.best_on_test}
    return accuracy(name, p, test.y, choice.predicted, **details)


def knn_predictions(train: Features, test: Features, ks: Sequence[int], temperature: float) -> Predictions:
    """Predict classes for each k; if the training split is smaller than k, all of it votes."""
    return dict(weighted_knn(train.x, train.y, test.x, ks, temperature).items())
