import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rsa import params
from rsa.params import Params
from rsa.reporting.report import cell, difference, render
from rsa.reporting.results import Results, read_scores
from rsa.reporting.statistics import paired_difference, summarize
from tests.conftest import WriteParams
from tests.reporting.experiment import manifest, write_scores


@pytest.fixture
def results(tmp_path: Path, tiny: Params) -> Results:
    return Results(read_scores(write_scores(tmp_path / "scores"), tiny), tiny.experiment, 0.95)


def manifests(**changes: object) -> list[dict]:
    """Of all four runs; `changes` are of the last one."""
    runs = [manifest(method, seed) for method in ("byol", "rsa") for seed in (0, 1)]
    runs[-1].update(changes)
    return runs


def rows(text: str, name: str) -> list[list[str]]:
    """The cells of every table row that begins with `name`."""
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines() if line.startswith(f"| {name} |")]


def test_a_collapsed_run_is_marked(tiny: Params, results: Results):
    text = render(tiny, results, manifests(collapsed=True), [], False, "abc123")
    assert "- Collapsed, their embeddings tell samples no longer apart: rsa s1." in text
    assert "Collapsed" not in render(tiny, results, manifests(), [], False, "abc123")


def test_cells_and_differences_are_written_with_their_uncertainty():
    assert cell(summarize([80.0, 82.0, 87.0])) == "83.0 ± 3.6 (3)"
    assert cell(summarize([80.0])) == "80.0 (1)"
    shown = paired_difference({0: 2.0, 1: 2.1}, {0: 0.0, 1: 0.0}, 0.95)
    assert difference(shown) == "**+2.0 [+1.4, +2.7]**"
    unshown = paired_difference({0: 0.0, 1: 2.0}, {0: 1.0, 1: 2.0}, 0.95)
    assert difference(unshown) == "-0.5 [-6.9, +5.9]"
    assert difference(paired_difference({0: 3.0}, {0: 1.0}, 0.95)) == "+2.0"


def test_report_holds_every_score_of_methods_and_floors(tiny: Params, results: Results):
    text = render(tiny, results, manifests(), [], False, "abc123")
    assert rows(text, "method")[0] == [
        "method",
        "digits knn",
        "digits sklearn",
        "photo_tiles knn",
        "photo_tiles sklearn",
        "photo_tiles 1_shot",
        "photo_tiles 2_shot",
    ]
    assert rows(text, "pixels")[0][1:3] == ["45.0 ± 0.0 (2)", "50.0 ± 0.0 (2)"]
    assert rows(text, "random")[0][1:3] == ["56.0 ± 1.4 (2)", "61.0 ± 1.4 (2)"]
    assert rows(text, "byol")[0][1:] == [
        "75.5 ± 0.7 (2)",
        "80.5 ± 0.7 (2)",
        "55.5 ± 0.7 (2)",
        "60.5 ± 0.7 (2)",
        "30.0 ± 0.0 (2)",
        "40.0 ± 0.0 (2)",
    ]
    assert rows(text, "rsa")[0][2] == "82.5 ± 0.8 (2)"


def test_report_holds_every_difference_to_the_baseline(tiny: Params, results: Results):
    text = render(tiny, results, manifests(), [], False, "abc123")
    assert rows(text, "rsa − byol") == [["rsa − byol", *["**+2.0 [+1.4, +2.7]**"] * 4, "+0.0 [+0.0, +0.0]", "+0.0 [+0.0, +0.0]"]]
    assert rows(text, "byol − byol") == []
    assert "95 % confidence interval" in text
    assert "- digits, sklearn: rsa is better than byol by +2.0 points [+1.4, +2.7], 2 seeds." in text
    assert "- photo_tiles, 1_shot: no difference between rsa and byol shown" in text


def test_report_says_how_it_came_about(tiny: Params, results: Results):
    text = render(tiny, results, manifests(), [], False, "abc123")
    for part in ("commit `abc123`", "python 3.13.0, torch 9.9.9.", "Device: cpu", "resnet18, 12,345 parameters", "baseline byol"):
        assert part in text
    assert "Not converged" not in text
    assert "{{" not in text
    assert "{%" not in text


FOLDER = {"source": "folder", "raw": "raw.zip", "train": "train", "test": "val"}
NULLS = {"test_fraction": None, "train_samples": None, "test_samples": None, "classes": None}


@pytest.mark.parametrize("changes", [{}, {"datasets.mine": {**FOLDER, **NULLS}}], ids=["tiny", "folder"])
def test_params_in_the_report_can_be_used_again(write_params: WriteParams, results: Results, changes: dict[str, object]):
    """A reader can run the same experiment from the report alone, keys that are null included."""
    p = params.load(write_params(changes))
    document = re.search(r"```yaml\n(.*?)```", render(p, results, manifests(), [], False, "abc123"), re.DOTALL)
    assert document is not None
    assert Params.model_validate(YAML(typ="safe").load(document[1])) == p


def test_probes_that_have_not_converged_are_named(tiny: Params, results: Results):
    text = render(tiny, results, manifests(), ["rsa s0 probe", "byol s1 probe"], False, "abc123")
    assert "Not converged: rsa s0 probe, byol s1 probe." in text


@pytest.mark.parametrize(
    ("key", "value"), [("versions", {"python": "3.13.0", "torch": "1.0.0"}), ("device", "cuda"), ("parameters", 7)]
)
def test_runs_that_differ_in_versions_device_or_size_are_not_compared(tiny: Params, results: Results, key: str, value: object):
    with pytest.raises(ValueError, match=f"all runs must have the same {key} to be compared") as error:
        render(tiny, results, manifests(**{key: value}), [], False, "abc123")
    assert f"'rsa s1': {value!r}" in str(error.value)
