"""What is not the experiment's is moved aside, and nothing else, whatever lies there."""

from pathlib import Path

import pytest

from rsa.params.document import Document, Params
from rsa.reporting.grid import score_files
from rsa.reporting.leftovers import put_aside
from tests.reporting.experiment import as_reported

SCORES, RUNS = Path("scores"), Path("runs")  # as dvc.yaml names them


@pytest.fixture
def p(tiny: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Document:
    """The experiment with every kind of score, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    finetune = tiny.finetune.model_copy(update={"datasets": ["photo_tiles"]})
    return as_reported(tiny.model_copy(update={"finetune": finetune}))


def write(*files: str) -> None:
    for name in files:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)


def tree() -> dict[str, str | None]:
    """Every file with what is in it, and every folder."""
    return {str(path): path.read_text() if path.is_file() else None for path in sorted(Path().rglob("*"))}


def of_the_experiment(p: Document) -> list[str]:
    """All that the stages leave for it."""
    cells = [f"{method}/s{seed}" for method in p.experiment.methods for seed in p.experiment.seeds]
    run = ("encoder.safetensors", "snapshots/00000000.safetensors", "snapshots/00000009.safetensors", "views.png", "run.json")
    scores = (*score_files(p), "finetune_photo_tiles_10/samples.txt", "representation.csv")
    files = [f"runs/{cell}/{name}" for cell in cells for name in (*run, "curve.csv")]
    files += [f"scores/{cell}/{name}" for cell in cells for name in scores]
    maps = ("points.csv", "confusion.csv", "about.json")
    return files + [f"scores/{method}/s0/embedding_map/{name}" for method in p.experiment.methods for name in maps]


def test_nothing_of_the_experiment_is_moved(p: Document):
    write(*of_the_experiment(p))
    assert any("finetune_photo_tiles_1/" in name for name in tree())
    before = tree()
    assert put_aside(p, SCORES, RUNS) == []
    assert tree() == before


def test_all_else_is_moved_to_its_place_below_leftovers(p: Document):
    theirs = [
        "runs/simsiam/s0/encoder.safetensors",  # another method
        "runs/byol/s7/snapshots/00000009.safetensors",  # another seed
        "scores/byol/s7/probe.json",
        "scores/floors/pixels-0.json",  # of an older version
        "scores/rsa/s0/transfer_flowers.json",  # another dataset
        "scores/rsa/s0/linear_digits_lightly.json",
        "scores/rsa/s1/finetune_digits_10/scores.json",
        "scores/rsa/s1/finetune_digits_10/samples.txt",
        "scores/rsa/s0/probe.json.orig",  # junk
        "scores/notes.txt",
        "runs/rsa/encoder.safetensors",
    ]
    mine = of_the_experiment(p)
    write(*mine, *theirs)
    moved = put_aside(p, SCORES, RUNS)
    assert sorted(map(str, moved)) == sorted(theirs)
    found = {name: text for name, text in tree().items() if text is not None}
    assert found == {name: name for name in mine} | {f"leftovers/{name}": name for name in theirs}


def test_folders_that_are_empty_then_are_removed(p: Document):
    write("runs/simsiam/s0/snapshots/00000009.safetensors", "scores/simsiam/s0/probe.json", "scores/rsa/s0/probe.json")
    Path("runs/simsiam/s1/logs").mkdir(parents=True)
    put_aside(p, SCORES, RUNS)
    folders = {name for name, text in tree().items() if text is None and not name.startswith("leftovers")}
    assert folders == {"runs", "scores", "scores/rsa", "scores/rsa/s0"}


def test_a_second_call_moves_nothing(p: Document):
    write(*of_the_experiment(p), "runs/simsiam/s0/run.json", "scores/notes.txt")
    assert len(put_aside(p, SCORES, RUNS)) == 2
    before = tree()
    assert put_aside(p, SCORES, RUNS) == []
    assert tree() == before


def test_what_is_left_over_once_more_replaces_what_was(p: Document):
    for text in ("old", "new"):
        write("scores/notes.txt")
        Path("scores/notes.txt").write_text(text)
        assert put_aside(p, SCORES, RUNS) == [Path("scores/notes.txt")]
    assert Path("leftovers/scores/notes.txt").read_text() == "new"


def test_what_a_stage_is_writing_stays_even_where_it_has_written_nothing_yet(p: Document):
    """`pretrain` has its folder from the first second and fills it in the last."""
    write(
        "scores/rsa/s0/.probe.json.partial/probe.json",
        "scores/other/s0/.representation.csv.partial/representation.csv",
    )
    Path("runs/rsa/.s0.partial/s0").mkdir(parents=True)
    before = tree()
    assert put_aside(p, SCORES, RUNS) == []
    assert tree() == before


def test_links_are_moved_as_links_and_kept_where_they_are_the_experiments(p: Document):
    """DVC may link outputs to its cache."""
    write("cache/aa", "cache/bb")
    for name in ("runs/rsa/s0/run.json", "runs/rsa/s9/run.json"):
        Path(name).parent.mkdir(parents=True)
        Path(name).symlink_to(Path("cache/aa").absolute())
    assert put_aside(p, SCORES, RUNS) == [Path("runs/rsa/s9/run.json")]
    assert Path("runs/rsa/s0/run.json").read_text() == Path("leftovers/runs/rsa/s9/run.json").read_text() == "cache/aa"
    assert Path("leftovers/runs/rsa/s9/run.json").is_symlink()


def test_folders_that_are_not_there_are_none(p: Document):
    assert put_aside(p, SCORES, RUNS) == []
    assert tree() == {}
