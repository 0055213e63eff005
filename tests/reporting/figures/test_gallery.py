import json
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawn
from matplotlib.text import Text

from rsa.params.document import Document, Params
from rsa.reporting.figures.gallery import Figure, draw_figures
from rsa.reporting.runs import read_runs
from tests.reporting.figures.conftest import Texts
from tests.reporting.figures.recordings import METHODS, experiment, score_table, write_everything

TASKS = [("digits", "knn"), ("digits", "sklearn"), ("photo_tiles", "knn"), ("photo_tiles", "1_shot")]
MANY = [*TASKS, *((name, task) for name in ("cifar100", "flowers") for task in ("knn", "rsa-imagenet", "finetune_100", "5_shot"))]

EVERYTHING = {
    "scores.svg", "compute.svg", "loss.svg", "schedules.svg", "health.svg", "online.svg", "representation.svg", "shift.svg",
    "hard_views.svg", "choices_rsa_hard.svg", "embedding_map.svg", "confusion.svg", "views_byol.svg", "views_rsa.svg",
}  # fmt: skip

Record = Callable[[list[str]], Document]
Draw = Callable[..., list[Figure]]


@pytest.fixture
def record(tmp_path: Path, tiny: Params) -> Record:
    """Write all that figures are drawn from into tmp_path/runs and tmp_path/scores."""

    def record(methods: list[str]) -> Document:
        p = experiment(tiny, methods, [0, 1])
        write_everything(tmp_path, p)
        return p

    return record


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Draw into tmp_path/figures what lies there."""

    def draw(p: Document, tasks: list[tuple[str, str]] = TASKS, folder: str = "figures") -> list[Figure]:
        (tmp_path / folder).mkdir()
        scores, runs = tmp_path / "scores", tmp_path / "runs"
        made = read_runs(runs, scores, p)
        return draw_figures(p, score_table(p.trained, [0, 1], tasks), made, runs, tmp_path / folder)

    return draw


def test_all_is_drawn_the_same_to_the_byte(record: Record, draw: Draw, tmp_path: Path, texts: Texts):
    p = record(METHODS[:3])
    first, again = draw(p), draw(p, folder="again")
    assert first == again
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert files == {figure.file for figure in first} == EVERYTHING
    for name in files:
        assert (tmp_path / "figures" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    titles = [text for text in texts(tmp_path / "figures/embedding_map.svg") if text.endswith(", PCA")]
    assert titles == [f"{method}, PCA" for method in ("pixels", "random", "byol", "rsa", "rsa_hard")]


@pytest.mark.parametrize(
    ("folder", "name", "lost"),
    [
        ("scores", "representation.csv", {"representation.svg"}),
        ("scores", "embedding_map", {"embedding_map.svg", "confusion.svg"}),
        ("runs", "views.png", {"views_byol.svg", "views_rsa.svg", "choices_rsa_hard.svg"}),
        ("runs", "run.json", {"views_byol.svg", "views_rsa.svg", "choices_rsa_hard.svg", "compute.svg"}),
        ("runs", "curve.csv", {"loss.svg", "schedules.svg", "health.svg", "online.svg", "hard_views.svg"}),
    ],
)
def test_what_is_missing_is_left_out(record: Record, draw: Draw, tmp_path: Path, folder: str, name: str, lost: set[str]):
    p = record(METHODS[:3])
    for file in (tmp_path / folder).glob(f"*/*/{name}"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert EVERYTHING - {figure.file for figure in draw(p)} == lost


def test_nothing_at_all_is_no_figure(tmp_path: Path, tiny: Params):
    p = experiment(tiny, METHODS[:2], [0, 1])
    scores, runs = tmp_path / "scores", tmp_path / "runs"
    assert draw_figures(p, score_table([], [], []), read_runs(runs, scores, p), runs, tmp_path) == []


def test_what_a_run_lacks_is_left_out_and_the_number_of_seeds_says_so(record: Record, draw: Draw, tmp_path: Path, texts: Texts):
    """One run of RSA failed, one of BYOL has not counted its cost."""
    p = record(METHODS[:2])
    shutil.rmtree(tmp_path / "runs/rsa/s0")
    run = tmp_path / "runs/byol/s1/run.json"
    described = json.loads(run.read_text())
    del described["cost"]
    run.write_text(json.dumps(described))
    captions = {figure.file: figure.caption for figure in draw(p)}
    assert {"byol (2 seeds)", "rsa (1 seed)"} <= set(texts(tmp_path / "figures/loss.svg"))
    assert {"byol (1 seed)", "rsa (1 seed)", "10¹² FLOPs"} <= set(texts(tmp_path / "figures/compute.svg"))
    assert "first batch of seed 1" in captions["views_rsa.svg"]


@pytest.mark.parametrize("count", [1, 4, 8])
def test_no_texts_lie_on_each_other(record: Record, draw: Draw, monkeypatch: pytest.MonkeyPatch, count: int):
    """Of one to eight methods and of many tasks. Numbers within maps and confusion matrices are where the data is."""
    clashes: dict[str, list[tuple[str, str]]] = {}

    def look(figure: Drawn, *arguments: object, **settings: object) -> None:
        canvas = FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        unseen = set()  # ticks beyond the ends of their axis are not drawn
        for axis in [one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)]:
            low, high = sorted(axis.get_view_interval())
            unseen |= {label for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high for label in (tick.label1,)}
        shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in unseen]
        boxes = []
        for text in shown:
            assert isinstance(text, Text)
            if text.get_path_effects() or text.get_fontsize() == 6.5:
                continue
            box = text.get_window_extent(canvas.get_renderer())
            boxes.append((text.get_text(), box.padded(-1)))
        for (one, a), (other, b) in combinations(boxes, 2):
            if a.overlaps(b):
                clashes.setdefault(str(len(clashes)), []).append((one, other))
        outside = [name for name, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1]
        assert outside == []

    monkeypatch.setattr(Drawn, "savefig", look)
    draw(record(METHODS[:count]), MANY)
    assert clashes == {}
