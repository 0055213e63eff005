import re
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from rsa.params.document import Document, Params
from rsa.params.load import load
from rsa.params.sections import plain
from rsa.reporting.numbers import number
from rsa.reporting.report import cell, difference, render
from rsa.reporting.results import Comparison, Results
from rsa.reporting.runs import read_runs
from rsa.reporting.scores import read_scores
from rsa.reporting.statistics import paired_difference, summarize
from tests.conftest import WriteParams
from tests.reporting.experiment import RUNTIME, as_reported, edit_run, edit_score, pretraining


class Figure(NamedTuple):
    section: str
    file: str
    alt: str
    caption: str


SECTIONS = ("scores", "cost", "representation", "training")
FIGURES = tuple(Figure(name, f"{name}.svg", f"What {name} shows", f"Of {name}.") for name in SECTIONS)


def text_of(made: Path, p: Params, figures: tuple[Figure, ...] = FIGURES) -> str:
    document = as_reported(p)
    scores = read_scores(made / "scores", made / "runs", document)
    results = Results(scores.table, document)
    return render(document, scores, results, read_runs(made / "runs", made / "scores", document), figures, "abc123")


def rows(text: str, name: str) -> list[list[str]]:
    """The cells of every table row that begins with `name`, without it."""
    return [re.split(r"\s*\|\s*", line.strip("| "))[1:] for line in text.splitlines() if line.startswith(f"| {name} |")]


def section(text: str, title: str) -> str:
    """From a heading to the next of its level or above."""
    level = title.partition(" ")[0]
    return re.split(rf"\n#{{1,{len(level)}}} ", text.partition(f"\n{title}\n")[2])[0]


def compared(mine: list[float], others: list[float], p: float) -> Comparison:
    found = paired_difference(dict(enumerate(mine)), dict(enumerate(others)), 0.95)
    return Comparison("rsa", "byol", ("digits", "knn", "knn", "top1"), found, p, 1, 0.05)


def test_cells_and_differences_are_written_with_their_uncertainty():
    assert cell(summarize([80.0, 82.0, 87.0])) == "83.0 ± 3.6 (3)"
    assert cell(summarize([80.0])) == "80.0 (1)"
    assert cell(summarize([])) == "–"
    assert difference(compared([2.0, 2.1], [0.0, 0.0], p=0.04)) == "**+2.0 ± 0.6**"
    assert difference(compared([2.0, 2.1], [0.0, 0.0], p=0.06)) == "+2.0 ± 0.6"
    assert difference(compared([3.0], [1.0], p=float("nan"))) == "+2.0"


def test_numbers_are_never_rounded_to_nothing():
    assert number(0.0004, 3) == "<0.001"
    assert number(0.0, 3) == "0.000"
    assert number(float("nan")) == "–"
    assert number(-1.239) == "−1.24"


def test_the_answer_stands_first_and_a_summary_of_five_lines_follows(made: Path, tiny: Params):
    lines = text_of(made, tiny).splitlines()
    assert lines[0] == "# byol, rsa on digits"
    assert lines[2] == "**rsa does not differ significantly from byol in any column (2 seeds, paired).**"
    lines = lines[2:]
    assert [line.partition("**: ")[0] for line in lines[2:7]] == [
        "- **Question",
        "- **Finding",
        "- **Controls",
        "- **Cost",
        "- **Provenance",
    ]
    assert lines[7] == ""
    assert "is rsa better than byol?" in lines[2]
    assert "2 seeds, paired; resnet18, 12,345 parameters, 1 epoch on digits" in lines[2]
    assert "rsa: no significant difference, in 6 comparisons (digits: +2.0 ± 0.6 knn, +2.0 ± 0.6 sklearn points)." in lines[3]
    assert (
        "above pixels in 4 of 6 columns, significantly in 0; all methods above random in 4 of 6" in lines[4]
    )  # few-shot is equal
    assert "byol 7.04e+11 FLOPs, rsa 1.06e+12 FLOPs (1.50 of byol)" in lines[5]
    assert "nothing is missing or stale, every column has one protocol, no run collapsed, every probe converged" in lines[6]


def test_significant_differences_stand_in_the_summary(made: Path, tiny: Params):
    for seed, gain in ((0, 5.0), (1, 5.001)):  # t = 10,001: p = 6e-5
        edit_score(made / f"scores/rsa/s{seed}/probe.json", "knn", value=75.0 + seed + gain)
    text = text_of(made, tiny)
    assert "- **Finding**: rsa: better than byol in 1 (digits knn), in 6 comparisons" in text
    assert text.splitlines()[2] == "**Significantly different from byol: rsa better in 1 of 6 columns.**"
    assert "| rsa − byol | **+5.0 ± 0.0** |" in text


def test_the_tables_hold_every_score_and_difference(made: Path, tiny: Params):
    scores = section(text_of(made, tiny), "## Scores")
    assert rows(scores, "digits (%, higher is better)") == [["knn", "sklearn"]]
    assert rows(scores, "photo_tiles (%, higher is better)") == [["knn", "sklearn", "1_shot", "2_shot"]]
    assert rows(scores, "pixels")[0] == ["45.0 ± 0.0 (2)", "50.0 ± 0.0 (2)"]
    assert rows(scores, "random")[0] == ["56.0 ± 1.4 (2)", "61.0 ± 1.4 (2)"]
    assert rows(scores, "byol") == [
        ["75.5 ± 0.7 (2)", "80.5 ± 0.7 (2)"],
        ["55.5 ± 0.7 (2)", "60.5 ± 0.7 (2)", "30.0 ± 0.0 (2)", "40.0 ± 0.0 (2)"],
    ]
    assert rows(scores, "rsa")[0][1] == "82.5 ± 0.8 (2)"
    assert rows(scores, "rsa − byol") == [["+2.0 ± 0.6"] * 2, ["+2.0 ± 0.6"] * 2 + ["+0.0"] * 2]


def test_the_differences_are_counted_in_full(made: Path, tiny: Params):
    text = section(text_of(made, tiny), "## Differences")
    first, others = (row[1:] for row in rows(text, "rsa − byol") if row[0] == "digits sklearn")
    # mean 2.05, sd 0.0707, t = 41, p = 0.0155, six times that by Holm, 2/4 by signs; detectable 11.55 x 0.0707
    assert first == ["2", "+2.05", "[+1.41, +2.69]", "0.093", "0.82"]
    assert others == ["[+2.00, +2.10]", "0.016", "0.500", "–"]
    assert len(rows(text, "rsa − byol")) == 12
    assert "With 2 seeds it cannot be less than 0.5, so this test alone cannot be significant." in text
    assert "with 2 seeds it covers the true difference in at most 50 % of experiments, not in 95 %" in text
    assert text.count("\n- digits") + text.count("\n- photo_tiles") == 6


def test_a_report_over_missing_cells_says_which_and_is_made(made: Path, tiny: Params):
    for gone in ("scores/rsa/s1/probe.json", "runs/rsa/s0/run.json", "runs/byol/s1/curve.csv"):
        (made / gone).unlink()
    text = text_of(made, tiny)
    missing = section(text, "## Missing")
    assert "| `scores/rsa/s1/probe.json` | does not exist | `dvc repro probe@rsa-1` |" in missing
    assert "| `runs/rsa/s0/run.json` | does not exist | `dvc repro pretrain@rsa-0` |" in missing
    assert "| `runs/byol/s1/curve.csv` | does not exist | `dvc repro pretrain@byol-1` |" in missing
    assert "**3 files missing, damaged or stale**" in text
    assert rows(text, "rsa")[0] == ["77.0 (1)", "82.0 (1)"]
    assert "- digits knn: one seed cannot tell rsa from byol." in text


def test_a_report_is_made_of_scores_alone(made: Path, tiny: Params):
    for file in [*(made / "runs").rglob("*.json"), *(made / "runs").rglob("*.csv")]:
        file.unlink()
    text = text_of(made, tiny, ())
    assert rows(text, "byol")[0] == ["75.5 ± 0.7 (2)", "80.5 ± 0.7 (2)"]
    assert "The runs do not record their cost." in text
    assert "![" not in text


def test_a_report_of_a_single_method_is_made(made: Path, tiny: Params):
    e = tiny.experiment.model_copy(update={"methods": ["byol"]})
    text = text_of(made, tiny.model_copy(update={"experiment": e}))
    assert "what is byol worth?" in text
    assert "## Differences" not in text


def test_scores_that_are_not_comparable_are_named(made: Path, tiny: Params):
    edit_score(made / "scores/rsa/s1/probe.json", "knn", settings={"classifier": "knn", "k": [9], "temperature": 0.07})
    text = text_of(made, tiny)
    assert "- scores/rsa/s1/probe.json: knn was measured with k [9], the others with [5]" in section(text, "## Not comparable")
    assert "**1 score not comparable**" in text
    assert rows(text, "rsa")[0][0] == "77.0 (1)"


def test_best_on_test_has_a_table_of_its_own(made: Path, tiny: Params):
    assert "Best on the test split" not in text_of(made, tiny)
    for seed, best in ((0, 83.0), (1, 84.1)):
        edit_score(made / f"scores/rsa/s{seed}/probe.json", "sklearn", best_on_test=best)
    text = text_of(made, tiny)
    assert "| rsa | digits sklearn | 83.5 ± 0.8 (2) | +1.0 |" in text
    assert rows(text, "rsa")[0][1] == "82.5 ± 0.8 (2)"


def test_a_collapsed_run_is_marked(made: Path, tiny: Params):
    edit_run(made / "runs/rsa/s1/run.json", collapsed=True)
    text = text_of(made, tiny)
    assert "**1 run collapsed**" in text
    assert rows(text, "rsa s1")[1][1] == "**yes**"


def test_every_run_has_a_row_of_provenance(made: Path, tiny: Params):
    edit_run(made / "runs/byol/s0/run.json", code_sha256="0123456789ab")
    text = section(text_of(made, tiny), "### Provenance")
    first, *others = [rows(text, f"{method} s{seed}")[0] for method in ("byol", "rsa") for seed in (0, 1)]
    assert first[:5] == ["random", "62 tensors", f"`{pretraining(tiny, 'byol')[:8]}`", "`dddddddd`", "`01234567`"]
    assert {row[4] for row in others} == {"`cccccccc`"}
    assert len({row[5] for row in (first, *others)}) == 1  # one environment
    assert rows(text, "byol s0")[1] == ["embedding std 0.90, effective rank 40.50", "no", "4 of 6", "4 of 6"]


def test_every_column_says_its_file_and_command(made: Path, tiny: Params):
    text = section(text_of(made, tiny), "### Where each number comes from")
    assert rows(text, "digits knn")[0] == ["`scores/METHOD/sSEED/probe.json`", "`knn`", "`dvc repro probe@METHOD-SEED`"]
    where = ["`scores/METHOD/sSEED/transfer_photo_tiles.json`", "`1_shot`", "`dvc repro transfer@METHOD-SEED-photo_tiles`"]
    assert rows(text, "photo_tiles 1_shot")[0] == where


def test_the_semantic_shift_is_told_where_it_was_measured(made: Path, tiny: Params):
    text = section(text_of(made, tiny), "## Semantic shift")
    assert rows(text, "rsa")[0] == ["0 %", "20.0 ± 0.0 (2)", "50.5 ± 0.7 (2)", "0.20", "0.500"]
    assert rows(text, "rsa")[1] == ["100 %", "5.0 ± 0.0 (2)", "10.5 ± 0.7 (2)", "0.20", "0.500"]
    assert (
        "- rsa: before training, 50.5 % of the aggressive and 20.0 % of the weak views have shifted; at its end, 10.5 %" in text
    )
    assert "![What representation shows](figures/representation.svg)" in text
    for file in (made / "scores").rglob("representation.csv"):
        file.unlink()
    text = text_of(made, tiny)
    assert "## Semantic shift" not in text
    assert "| `scores/rsa/s1/representation.csv` | does not exist | `dvc repro representation_metrics@rsa-1` |" in text


def test_every_figure_is_shown_once_in_its_section(made: Path, tiny: Params):
    others = (
        Figure("views", "views_rsa.svg", "Views of rsa", "From above."),
        Figure("views", "views_byol.svg", "Views of byol", ""),
    )
    text = text_of(made, tiny, (*FIGURES, *others))
    for figure in (*FIGURES, *others):
        assert text.count(f"![{figure.alt}](figures/{figure.file})\n\n{figure.caption}") == 1
    for title, file in (
        ("Scores", "scores.svg"),
        ("Cost", "cost.svg"),
        ("Training", "training.svg"),
        ("Views", "views_byol.svg"),
    ):
        assert f"(figures/{file})" in section(text, f"## {title}")


def test_report_says_how_it_came_about(made: Path, tiny: Params):
    text = text_of(made, tiny)
    for part in ("commit `abc123`", "python 3.13.0, torch 9.9.9.", "Runs: cpu", "knn k=5 T=0.07", "C [0.001, 0.1]"):
        assert part in text
    assert "Not converged" not in text
    assert "{{" not in text
    assert "{%" not in text
    assert "\n\n\n" not in text


def test_every_table_has_as_many_cells_in_each_row(made: Path, tiny: Params):
    text = text_of(made, tiny).partition("```yaml")[0]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 11  # two of scores, two of differences, cost, two of metrics, files, protocols, two of provenance
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
        assert re.fullmatch(r"(\| -+:? )+\|", table.splitlines()[1]), table


FOLDER = {"source": "folder", "raw": "raw.zip", "train": "train", "test": "val"}
NULLS = {"pretrain": None, "test_fraction": None, "train_samples": None, "test_samples": None, "classes": None}


def test_the_report_has_all_params_of_the_experiment(write_params: WriteParams, made: Path):
    """Keys that are null included, so that a reader has to add nothing but where data lies and how stages run."""
    changes = {"experiment.transfer": ["mine"], "datasets.mine": {**FOLDER, **NULLS}}
    p = load(write_params(changes))
    shown = re.search(r"```yaml\n(.*?)```", text_of(made, p), re.DOTALL)
    assert shown is not None
    document = YAML(typ="safe").load(shown[1])
    assert Document.model_validate(document) == as_reported(p)
    assert document.keys() == Params.model_fields.keys() - {"runtime"}
    assert document["datasets"]["mine"] == {key: value for key, value in (FOLDER | NULLS).items() if key != "raw"}
    document["shards"]["max_bad_samples"] = p.shards.max_bad_samples
    for name, dataset in document["datasets"].items():
        dataset["raw"] = p.datasets[name].raw
    again = write_params({**document, "runtime": plain(p.runtime)})
    assert load(again) == p.model_copy(update={"datasets": {name: p.datasets[name] for name in document["datasets"]}})


def test_probes_that_have_not_converged_are_named(made: Path, tiny: Params):
    edit_score(made / "scores/rsa/s0/probe.json", "sklearn", converged=False)
    text = text_of(made, tiny)
    assert "- Not converged: scores/rsa/s0/probe.json: sklearn." in text
    assert "1 probe did not converge" in text


def test_runs_that_differ_in_versions_or_size_are_compared_and_named(made: Path, tiny: Params):
    """So that a seed can be added after an upgrade."""
    assert "had different versions" not in text_of(made, tiny)
    edit_run(made / "runs/rsa/s1/run.json", versions={"python": "3.13.0", "torch": "1.0.0"}, parameters=7)
    text = section(text_of(made, tiny), "### Provenance")
    assert "- torch: 9.9.9 in byol s0, byol s1, rsa s0; 1.0.0 in rsa s1." in text
    assert "- parameters of the encoder: 12345 in byol s0, byol s1, rsa s0; 7 in rsa s1." in text


def test_runs_that_differ_in_their_runtime_are_compared_and_named(made: Path, tiny: Params):
    assert "had different runtime settings" not in text_of(made, tiny)
    edit_run(made / "runs/rsa/s1/run.json", device="cuda", runtime={**RUNTIME, "device": "a GPU"})
    text = section(text_of(made, tiny), "### Provenance")
    assert "\n\n- device was a processor in byol s0, byol s1, rsa s0; a GPU in rsa s1.\n\n" in text
    assert rows(text, "rsa s1")[0][-1] == "1 x cuda"
