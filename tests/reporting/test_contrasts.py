"""Contrasts against the same numbers by hand."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rsa.params.document import Params
from rsa.params.load import load
from rsa.reporting.contrasts import Contrast, contrasts, formula, sentence
from rsa.reporting.results import Results
from rsa.reporting.scores import TABLE
from tests.conftest import WriteParams

SCORES = {  # by seed
    "byol": [80.0, 81.0, 79.5, 80.2],
    "rsa": [82.0, 83.1, 81.0, 82.5],
    "byol_hard": [81.0, 82.5, 80.0, 81.9],
    "rsa_hard": [85.0, 85.9, 84.2, 86.1],
}
PAIR = {"rsa_hard": 1.0, "rsa": -1.0, "byol_hard": -1.0, "byol": 1.0}


def results(p: Params, step: float = 0.0, **changed: list[float]) -> Results:
    rows = [
        (method, seed, dataset, task, "knn", "top1", value + (task == "few-shot"), step, None, "a", "f")
        for dataset, task in (("digits", "knn"), ("digits", "few-shot"), ("photo_tiles", "knn"))
        for method, values in (SCORES | changed).items()
        for seed, value in enumerate(values)
    ]
    methods = dict.fromkeys(SCORES, p.methods["byol"])
    experiment = p.experiment.model_copy(update={"methods": list(SCORES), "seeds": [0, 1, 2, 3]})
    return Results(pd.DataFrame(rows, columns=TABLE), p.model_copy(update={"methods": methods, "experiment": experiment}))


def test_a_contrast_is_a_t_test_of_weighted_sums_over_seeds(tiny: Params):
    found = contrasts({"pair": PAIR, "hard": {"rsa_hard": 1.0, "byol": -1.0}}, results(tiny))
    a, b, c, d = (np.array(SCORES[name]) for name in ("rsa_hard", "rsa", "byol_hard", "byol"))
    pair, hard = stats.ttest_1samp(a - b - c + d, 0), stats.ttest_rel(a, d)
    assert [(each.name, each.column.task) for each in found] == [
        ("pair", "knn"),
        ("pair", "few-shot"),
        ("hard", "knn"),
        ("hard", "few-shot"),
    ]
    assert [each.difference.p for each in found] == pytest.approx([pair.pvalue] * 2 + [hard.pvalue] * 2)
    assert found[0].difference.mean == pytest.approx((a - b - c + d).mean())
    assert found[0].p == pytest.approx(min(1.0, 2 * pair.pvalue))  # Holm: the last two of four
    assert found[2].p == pytest.approx(4 * hard.pvalue)


def test_each_score_of_a_contrast_adds_the_variance_of_its_rounding(tiny: Params):
    (exact, _), (rounded, _) = (contrasts({"pair": PAIR}, results(tiny, step)) for step in (0.0, 1.0))
    assert rounded.difference.sd**2 - exact.difference.sd**2 == pytest.approx(4 / 12)


def test_seeds_that_lack_a_method_are_left_out(tiny: Params):
    (found, _) = contrasts({"pair": PAIR}, results(tiny, rsa=SCORES["rsa"][:2]))
    assert found.difference.n == 2
    (none, _) = contrasts({"pair": PAIR}, results(tiny, rsa=[]))
    assert none.difference is None
    assert math.isnan(none.p)
    assert sentence(none, "digits knn").endswith("digits knn: no seed has all scores.")


def test_words(tiny: Params):
    assert formula(PAIR) == "rsa_hard + byol − rsa − byol_hard"
    assert formula({"rsa": 1.0, "byol": -0.5, "byol_hard": -0.5}) == "rsa − 0.5 byol − 0.5 byol_hard"
    found: Contrast = contrasts({"both": {"rsa_hard": 1.0, "byol": -1.0}}, results(tiny))[0]
    assert (
        sentence(found, "digits knn")
        == "both (rsa_hard − byol), digits knn: +5.1 ± 0.8 points, 4 seeds; significant after correction."
    )


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"rsa": 1.0, "byol": -0.5}, "contrasts.q must have weights that add up to 0"),
        ({"rsa": 1.0, "pixels": -1.0}, "report.contrasts.q must be a method of the experiment that is trained, got 'pixels'"),
        ({"rsa": 1.0, "byool": -1.0}, "got 'byool' (did you mean byol?)"),
    ],
)
def test_a_contrast_that_means_nothing_is_refused(write_params: WriteParams, weights: dict[str, float], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        load(write_params({"report.contrasts": {"q": weights}}))
