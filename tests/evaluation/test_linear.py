import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rsa.data.splits import held_out
from rsa.evaluation.features import Features
from rsa.evaluation.linear import linear_probe as scored
from rsa.evaluation.score import Score
from rsa.params.probe import LinearProbe, Probe
from tests.evaluation.blobs import blobs

CANDIDATES = [0.0001, 0.01, 1.0, 100.0]


def section(C: list[float] = CANDIDATES, max_iter: int = 500) -> LinearProbe:
    return LinearProbe(classifier="logistic_regression", C=C, max_iter=max_iter)


def linear_probe(train: Features, test: Features, p: LinearProbe, seed: int, best_on_test: bool = False) -> Score:
    probe = Probe(held_out=0.25, best_on_test=best_on_test, protocols={"sklearn": p})
    return scored("sklearn", p, probe, train, test, seed)


def top1_written_again(train: Features, test: Features, c: float) -> float:
    """min C sum_i CE_i + |W|^2 / 2 on standardised features, by scipy: scikit-learn's definition, not its code."""
    mean, sd, classes = train.x.mean(0, dtype=float), train.x.std(0, dtype=float), int(train.y.max()) + 1

    def scores(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
        W = parameters.reshape(classes, -1)
        return (x - mean) / sd @ W[:, 1:].T + W[:, 0]

    def loss(parameters: np.ndarray) -> float:
        z = scores(parameters, train.x)
        cross_entropy = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), train.y]
        return c * cross_entropy.sum() + (parameters.reshape(classes, -1)[:, 1:] ** 2).sum() / 2

    best = minimize(loss, np.zeros(classes * (train.x.shape[1] + 1))).x
    return 100 * float((scores(best, test.x).argmax(1) == test.y).mean())


@pytest.mark.parametrize("c", [0.001, 1.0])
def test_top1_equals_logistic_regression_written_again(c: float):
    train, test = blobs(90, 0), blobs(200, 1)
    assert linear_probe(train, test, section([c]), seed=0)["value"] == pytest.approx(top1_written_again(train, test, c), abs=0.51)


def test_c_is_chosen_by_held_out_accuracy_alone():
    train, test = blobs(120, 0), blobs(60, 1)
    result = linear_probe(train, test, section(), seed=3)
    fit, choose = held_out(train.y, ["0", "1", "2"], 0.25, 3)
    inner, outer = Features(train.x[fit], train.y[fit]), Features(train.x[choose], train.y[choose])
    held = {str(c): linear_probe(inner, outer, section([c]), seed=0)["value"] for c in CANDIDATES}
    assert result["held_out_top1"] == pytest.approx(held)
    assert held[str(result["C"])] == max(held.values())
    assert len(set(held.values())) > 1  # there was something to choose


def test_the_chosen_probe_is_fitted_again_on_the_whole_training_split():
    train, test = blobs(120, 0), blobs(60, 1)
    result = linear_probe(train, test, section(), seed=3)
    assert result["value"] == linear_probe(train, test, section([result["C"]]), seed=99)["value"]


@pytest.mark.parametrize("shuffle", range(5))
def test_permuting_the_test_labels_changes_nothing_but_the_score(shuffle: int):
    """The known fault of the reference is choosing on the test split; this cannot pass with it."""
    train, test = blobs(120, 0), blobs(60, 1)
    permuted = Features(test.x, np.random.default_rng(shuffle).permutation(test.y))
    honest, blind = (linear_probe(train, split, section(), seed=0) for split in (test, permuted))
    assert blind["C"] == honest["C"]
    assert blind["held_out_top1"] == honest["held_out_top1"]
    assert blind["value"] < honest["value"]


def test_a_test_split_that_favours_another_c_does_not_get_it():
    train = blobs(120, 0)
    chosen = linear_probe(train, train, section(), seed=0)["C"]
    for c in CANDIDATES:  # a test split on which exactly this candidate is perfect
        scaled = linear_probe(train, Features(train.x, _predictions(train, c)), section(), seed=0)
        assert scaled["C"] == chosen


def _predictions(train: Features, c: float) -> np.ndarray:
    x = StandardScaler().fit_transform(train.x)
    return LogisticRegression(C=c, max_iter=500).fit(x, train.y).predict(x)


def test_of_equally_good_candidates_the_strongest_regularisation_is_taken():
    train = blobs(60, 0, spread=0.01)  # every C separates it
    for order in (CANDIDATES, CANDIDATES[::-1]):
        result = linear_probe(train, train, section(order), seed=0)
        assert set(result["held_out_top1"].values()) == {100.0}
        assert result["C"] == min(CANDIDATES)


def test_one_candidate_needs_no_held_out_part():
    result = linear_probe(blobs(6, 0), blobs(6, 1), section([0.3]), seed=0)
    assert (result["C"], result["held_out_top1"]) == (0.3, {})


def test_features_are_standardised_so_that_their_units_do_not_matter():
    train, test = blobs(90, 0), blobs(60, 1)
    scale, shift = np.array([1e-3, 1, 1e3, 50], np.float32), np.array([5, -3, 0, 100], np.float32)
    scaled = [Features(split.x * scale + shift, split.y) for split in (train, test)]
    want, got = linear_probe(train, test, section(), 0), linear_probe(*scaled, section(), 0)
    assert got["C"] == want["C"]
    assert got["value"] == pytest.approx(want["value"], abs=1.7)  # float32: at most one sample at the border turns


def test_seed_draws_the_held_out_part():
    train, test = blobs(120, 0), blobs(60, 1)
    first, again, other = (linear_probe(train, test, section(), seed)["held_out_top1"] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_probe_that_has_not_converged_says_so():
    train, test = blobs(120, 0), blobs(60, 1)
    assert linear_probe(train, test, section([100.0], max_iter=1), seed=0)["converged"] is False
    assert linear_probe(train, test, section([100.0]), seed=0)["converged"] is True


def test_the_literatures_choice_is_reported_beside_ours_and_is_never_lower():
    train, test = blobs(120, 0), blobs(60, 1)
    result = linear_probe(train, test, section(), seed=0, best_on_test=True)
    each = [linear_probe(train, test, section([c]), seed=0)["value"] for c in CANDIDATES]
    assert result["best_on_test"] == max(each) >= result["value"]
    assert result["value"] == linear_probe(train, test, section(), seed=0)["value"]
