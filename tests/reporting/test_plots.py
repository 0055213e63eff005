import json
from pathlib import Path

import pandas as pd
import pytest

from rsa.reporting.plots import write_plots
from tests.engines.imports import ROOT
from tests.engines.toy import load_yaml
from tests.reporting.figures.recordings import curve, metrics

CURVES = {"byol": {0: curve("byol", 0, 0), 1: curve("byol", 0, 1)}, "rsa": {0: curve("rsa", 1, 0)}}
METRICS = {"byol": {0: metrics(0, 0)}, "rsa": {0: metrics(1, 0)}}


def test_every_run_is_in_the_tables(tmp_path: Path):
    write_plots(CURVES, METRICS, tmp_path)
    curves, measured = pd.read_csv(tmp_path / "curves.csv"), pd.read_csv(tmp_path / "representation.csv")
    assert curves.groupby(["method", "seed"])["step"].max().to_dict() == dict.fromkeys(
        [("byol", 0), ("byol", 1), ("rsa", 0)], 600
    )
    assert curves.query("method == 'byol'")["beta"].isna().all()
    last = curves.query("method == 'rsa' and step == 600")["loss"].item()
    assert last == pytest.approx(CURVES["rsa"][0]["loss"].iloc[-25:].mean(), rel=1e-5)
    assert len(measured) == 12


def test_nothing_is_a_table_without_rows(tmp_path: Path):
    write_plots({"byol": {}}, {}, tmp_path)
    assert len(pd.read_csv(tmp_path / "curves.csv")) == len(pd.read_csv(tmp_path / "representation.csv")) == 0


def test_plots_of_dvc_yaml_are_columns_of_the_tables(tmp_path: Path):
    write_plots(CURVES, METRICS, tmp_path)
    entries = [next(iter(entry.values())) for entry in load_yaml(ROOT / "dvc.yaml")["plots"]]
    plots = [entry for entry in entries if "template" in entry]
    assert len(plots) == 7
    for plot in plots:
        ((path, y),) = plot["y"].items()
        assert path.startswith("reports/plots/")
        assert {plot["x"], y, "method", "seed"} <= set(pd.read_csv(tmp_path / Path(path).name))
        template = json.loads((ROOT / ".dvc/plots" / f"{plot['template']}.json").read_text())
        assert template["encoding"]["color"]["field"] == "method"
