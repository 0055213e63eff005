"""Counts of columns in which all methods are above the controls, against SciPy's t-test and Holm's correction written anew."""

import math

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from rsa.params.document import Params
from rsa.reporting.controls import sentence, standings
from rsa.reporting.results import Results

TASKS = ("knn", "sklearn", "1_shot")
CLEAR, NOISY, BELOW = (30.0, 1.0), (4.0, 8.0), (-5.0, 1.0)  # mean and spread over seeds, in points above the controls
GAINS = {
    "byol": dict(zip(TASKS, (CLEAR, CLEAR, CLEAR), strict=True)),
    "rsa": dict(zip(TASKS, (CLEAR, NOISY, BELOW), strict=True)),
}
CONTROL = {"pixels": 50.0, "random": 49.0}


def made(p: Params, seeds: int) -> tuple[Results, pd.DataFrame]:
    random = np.random.default_rng(1)
    rows = []
    for method in ("pixels", "random", "byol", "rsa"):
        for task in TASKS:
            mean, sd = GAINS[method][task] if method in GAINS else (0.0, 0.3)
            noise = random.normal(size=seeds)
            noise = (noise - noise.mean()) / (noise.std() or 1)
            for seed in range(seeds):
                value = CONTROL.get(method, 50.0) + mean + sd * noise[seed]
                rows.append((method, seed, "digits", task, task, "top1", value, 0.0, math.nan))
    columns = ["method", "seed", "dataset", "task", "protocol", "metric", "value", "step", "best_on_test"]
    table = pd.DataFrame(rows, columns=columns)
    return Results(
        table, p.model_copy(update={"experiment": p.experiment.model_copy(update={"seeds": list(range(seeds))})})
    ), table


def test_columns_above_each_control_are_counted_with_and_without_a_test(tiny: Params):
    results, table = made(tiny, 4)
    cells = table.pivot_table(index="seed", columns=["method", "task"], values="value")
    raw = {
        (c, t): max(float(ttest_rel(cells[m, t], cells[c, t], alternative="greater").pvalue) for m in GAINS)
        for c in CONTROL for t in TASKS
    }  # fmt: skip
    order = sorted(raw, key=lambda column: raw[column])
    adjusted = {column: max((len(order) - i) * raw[order[i]] for i in range(order.index(column) + 1)) for column in order}
    found = standings(results)
    assert [(each.control, each.columns, each.above) for each in found] == [("pixels", 3, 2), ("random", 3, 2)]
    for each in found:
        assert [t for t in TASKS if adjusted[each.control, t] <= 0.05] == ["knn"]
        assert each.significant == 1
    assert "all methods above pixels in 2 of 3 columns, significantly in 1; all methods above random in" in sentence(results)


def test_one_seed_is_never_significant(tiny: Params):
    assert [each.significant for each in standings(made(tiny, 1)[0])] == [0, 0]
