import math

import pandas as pd
import pytest

from rsa.reporting.semantic_shift import shift_sentences, snapshots


def metrics(shift: tuple[float, float]) -> pd.DataFrame:
    """Before and after 100 steps; weak views shift half as often."""
    return pd.DataFrame(
        {
            "progress": [0.0, 1.0],
            "rankme": [4.0, 8.0],
            "shift_weak": [value / 2 for value in shift],
            "shift_aggressive": shift,
        }
    )


def curve(gap: float) -> pd.DataFrame:
    """Beta falls from 0.4 by 0.004 a step; the gap is there in the last 25 steps only."""
    steps = range(1, 101)
    weak = pd.Series([1.0] * 100)
    aggressive = weak + [gap if step > 75 else 9.0 for step in steps]
    return pd.DataFrame({"step": steps, "beta": [0.4 - 0.004 * step for step in steps], "weak": weak, "aggressive": aggressive})


def test_shares_beta_and_gap_by_hand():
    found = snapshots({"rsa": {0: metrics((0.5, 0.1)), 1: metrics((0.6, 0.2))}}, {"rsa": {0: curve(0.2), 1: curve(0.4)}})
    first, last = found
    assert (first.progress, last.progress) == (0.0, 1.0)
    assert (first.aggressive.mean, first.aggressive.sd, first.aggressive.n) == pytest.approx((55.0, 7.0710678, 2))
    assert (last.aggressive.mean, last.weak.mean) == pytest.approx((15.0, 7.5))
    assert last.metrics["rankme"].mean == 8.0
    assert last.beta == pytest.approx(0.0)
    assert last.gap == pytest.approx(0.3)  # of the last 25 steps, the mean over both seeds
    assert first.beta == pytest.approx(0.396)  # of the first step: there is none before
    assert first.gap == pytest.approx(9.0)


def test_a_method_without_beta_or_curve_has_its_shift():
    found = snapshots({"byol": {0: metrics((0.5, 0.1))}}, {})
    assert found[1].aggressive.mean == pytest.approx(10.0)
    assert math.isnan(found[1].beta)
    (said,) = shift_sentences(found)
    assert "beta" not in said
    assert said == (
        "byol: before training, 50.0 % of the aggressive and 25.0 % of the weak views have shifted; "
        "at its end, 10.0 % of the aggressive and 5.0 % of the weak views have shifted."
    )


def test_the_sentence_says_how_beta_followed():
    half = pd.DataFrame({"progress": [0.5], "shift_weak": [0.1], "shift_aggressive": [0.3]})
    rows = pd.concat([metrics((0.5, 0.1)), half])
    (said,) = shift_sentences(snapshots({"rsa": {0: rows}}, {"rsa": {0: curve(0.2)}}))
    assert said.endswith("; beta went from 0.40 to 0.00, the aggressive loss less the weak one from +9.000 to +0.200.")


def test_nothing_measured_is_nothing_said():
    assert shift_sentences(snapshots({}, {"rsa": {0: curve(0.2)}})) == []
