"""The report's page in a browser: nothing is cut off or lies over anything else, on a screen or a phone."""

import json
import re
from pathlib import Path

import pytest

from rsa.params.document import Params
from rsa.reporting.figures.gallery import draw_figures
from rsa.reporting.html import page
from rsa.reporting.report import render
from rsa.reporting.results import Results
from rsa.reporting.runs import read_runs
from rsa.reporting.scores import Scores
from tests.browser import CHROMIUM, dumped
from tests.reporting.experiment import manifest as full_manifest
from tests.reporting.figures.recordings import METHODS, experiment, score_table, write_everything

TASKS = [("digits", "knn"), ("digits", "sklearn"), *(("photo_tiles", task) for task in ("knn", "sklearn", "1_shot", "5_shot"))]
MEASURE = """<script>
const cut = [];
for (const details of document.querySelectorAll("details")) details.open = true;
for (const box of document.querySelectorAll("body, .table, figure, nav, main"))
  if (box.scrollWidth > box.clientWidth + 1)
    cut.push(`${box.className || box.tagName}: ${box.innerText.slice(0, 60)} (${box.scrollWidth} > ${box.clientWidth})`);
const boxes = [...document.querySelectorAll("nav, main > *, figure > *")].map(box => [box, box.getBoundingClientRect()]);
for (const [box, at] of boxes)
  for (const [other, there] of boxes)
    if (box.parentNode === other.parentNode && box !== other && at.top <= there.top && at.bottom > there.top + 1 && there.height)
      cut.push(`${box.innerText.slice(0, 60)} lies over ${other.innerText.slice(0, 60)}`);
document.body.innerHTML = "<pre id=measured></pre>";
document.getElementById("measured").textContent = JSON.stringify(cut);
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")


def measured(text: str, folder: Path, width: int) -> list[object]:
    """Return what the script in the page measures in a window of `width` px."""
    (folder / "page.html").write_text(text)
    # Headless windows are at least 500 px wide: a frame of the width that is wanted shows the page.
    frame = f'<iframe id="f" src="page.html" style="border:0;width:{width}px;height:900px"></iframe>'
    script = (
        "<script>f.onload = () => document.body.textContent = f.contentDocument.getElementById('measured').textContent</script>"
    )
    (folder / "frame.html").write_text(f"<!DOCTYPE html><body>{frame}{script}</body>")
    made = dumped(folder / "frame.html", folder)
    found = re.search(r"<body>(.*?)</body>", made, re.DOTALL)
    assert found is not None, made
    return list(json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")))


@pytest.mark.parametrize("methods", [METHODS[:2], METHODS], ids=["two methods", "eight methods"])
def test_nothing_is_cut_off_or_overlaps(tiny: Params, tmp_path: Path, methods: list[str]):
    p = experiment(tiny, methods, [0, 1, 2])
    write_everything(tmp_path, p)
    table = score_table(methods, [0, 1, 2], TASKS).assign(settings="a", file="scores/byol/s0/probe.json")
    runs = read_runs(tmp_path / "runs", tmp_path / "scores", p)
    (tmp_path / "figures").mkdir()
    figures = draw_figures(p, table, runs, tmp_path / "runs", tmp_path / "figures")
    for (method, seed), run in runs.manifests.items():
        if method in methods:
            run |= full_manifest("byol", seed)
    scores = Scores(table, {"a": {"classifier": "knn", "k": [5], "temperature": 0.07}}, [], [], [])
    text = page(render(p, scores, Results(table, p), runs, figures, "0" * 40), tmp_path)
    for width in (1100, 400):
        assert (width, measured(text.replace("</body>", f"{MEASURE}</body>"), tmp_path, width)) == (width, [])
    wide = text.replace("</main>", "<div class='table'><table><tr><td>" + "x" * 500 + "</table></div></main>")
    assert measured(wide.replace("</body>", f"{MEASURE}</body>"), tmp_path, 1100) != []
    over = text.replace("<h2", "<h2 style='margin-top: -3rem'", 1)
    assert "lies over" in str(measured(over.replace("</body>", f"{MEASURE}</body>"), tmp_path, 1100))
