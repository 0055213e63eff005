import inspect
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsa.params.beta import Beta
from rsa.schedules import SCHEDULES, ema_momentum, warmup_cosine

SECTIONS = {get_args(cls.model_fields["schedule"].annotation)[0]: cls for cls in get_args(get_args(Beta)[0])}
SECTIONS.pop("adaptive")  # it follows losses, not progress: rsa/methods/adaptive_beta.py

# Worked out by hand: cos(pi/4) = 0.70710678..., cos(pi/3) = 1/2.
ARGUMENTS = {
    "constant": {"value": 0.3},
    "linear": {"start": 0.4, "end": 0.1},
    "cosine": {"start": 0.4, "end": 0.0},
    "cosine_plateau": {"start": 0.4, "end": 0.2, "plateau": 0.25},
    "exponential": {"start": 0.8, "end": 0.05},
    "step": {"start": 0.4, "factor": 0.5, "at": [0.5, 0.75]},
}
TABLE = [
    ("constant", 0.0, 0.3),
    ("constant", 1.0, 0.3),
    ("linear", 0.0, 0.4),
    ("linear", 1 / 3, 0.3),
    ("linear", 1.0, 0.1),
    ("cosine", 0.0, 0.4),
    ("cosine", 0.25, 0.34142135623730953),
    ("cosine", 1 / 3, 0.3),
    ("cosine", 0.5, 0.2),
    ("cosine", 2 / 3, 0.1),
    ("cosine", 1.0, 0.0),
    ("cosine_plateau", 0.0, 0.4),
    ("cosine_plateau", 0.25, 0.4),
    ("cosine_plateau", 0.5, 0.35),  # a third of the rest: 0.2 + 0.2 * 3/4
    ("cosine_plateau", 0.625, 0.3),  # half of the rest
    ("cosine_plateau", 1.0, 0.2),
    ("exponential", 0.0, 0.8),
    ("exponential", 0.25, 0.4),  # 0.8 / 16^(1/4)
    ("exponential", 0.5, 0.2),
    ("exponential", 1.0, 0.05),
    ("step", 0.0, 0.4),
    ("step", 0.49999, 0.4),
    ("step", 0.5, 0.2),
    ("step", 0.75, 0.1),
    ("step", 1.0, 0.1),
]


@pytest.mark.parametrize(("name", "progress", "value"), TABLE)
def test_values_worked_out_by_hand(name: str, progress: float, value: float):
    assert SCHEDULES[name](progress, **ARGUMENTS[name]) == pytest.approx(value, abs=1e-12)


def test_the_table_covers_every_schedule():
    assert {name for name, _, _ in TABLE} == ARGUMENTS.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("progress", [-1e-9, 1 + 1e-9, 2.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", SCHEDULES)
def test_progress_outside_0_to_1_is_refused(name: str, progress: float):
    with pytest.raises(ValueError, match=r"progress must be in \[0, 1\], got"):
        SCHEDULES[name](progress, **ARGUMENTS[name])


@pytest.mark.parametrize("progress", [-0.1, 1.1])
def test_tau_and_learning_rate_refuse_progress_outside_0_to_1(progress: float):
    with pytest.raises(ValueError, match="progress"):
        ema_momentum(progress, 0.99)
    with pytest.raises(ValueError, match="progress"):
        warmup_cosine(progress, 0.1, 1.0, 0.0)


def test_params_knows_every_schedule_with_its_arguments_and_no_other():
    assert SECTIONS.keys() == SCHEDULES.keys()
    for name, function in SCHEDULES.items():
        assert SECTIONS[name].model_fields.keys() - {"schedule"} == inspect.signature(function).parameters.keys() - {"progress"}


@given(progress=st.floats(0, 1), low=st.floats(0.001, 1), high=st.floats(0.001, 1), plateau=st.floats(0, 0.99))
def test_values_stay_between_start_and_end(progress: float, low: float, high: float, plateau: float):
    for name in ("linear", "cosine", "exponential", "cosine_plateau"):
        extra = {"plateau": plateau} if name == "cosine_plateau" else {}
        value = SCHEDULES[name](progress, start=low, end=high, **extra)
        assert min(low, high) - 1e-9 <= value <= max(low, high) + 1e-9


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.99), (1 / 3, 0.9925), (0.5, 0.995), (2 / 3, 0.9975), (1.0, 1.0)])
def test_tau_rises_to_1_as_in_byol(progress: float, tau: float):
    assert ema_momentum(progress, 0.99) == pytest.approx(tau, abs=1e-12)


@given(progress=st.floats(0, 1), start=st.floats(0, 1))
def test_tau_is_the_papers_formula(progress: float, start: float):
    assert ema_momentum(progress, start) == pytest.approx(1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("progress", "rate"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.2, 2.0), (0.2 + 0.8 / 3, 1.55), (0.6, 1.1), (1.0, 0.2)],
)
def test_learning_rate_warms_up_then_falls(progress: float, rate: float):
    assert warmup_cosine(progress, 0.2, 2.0, 0.2) == pytest.approx(rate, abs=1e-12)


def test_without_warmup_the_learning_rate_starts_at_its_peak():
    assert warmup_cosine(0.0, 0.0, 2.0, 0.0) == 2.0
    assert warmup_cosine(0.5, 0.0, 2.0, 0.0) == pytest.approx(1.0)
