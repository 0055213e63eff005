import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsa.reporting.figures.style import DARK, INK, PAPER
from rsa.reporting.html import STYLE, page

REPORT = """# byol, rsa on digits

RSA is better by **2.1 ± 0.6** points, see [scores.csv](scores.csv) and <https://example.org/paper>.

## Scores

| method | digits knn | digits linear |
| --- | ---: | ---: |
| byol | 75.5 ± 0.7 (2) | 1 & 2 < 3 |
| rsa | **76.5** | x |

![Scores of every seed](figures/scores.svg)

A point per seed.

## Scores

![Views of byol](figures/views.png)

- text with ![small](figures/views.png) within

<details><summary>params.yaml</summary>

```yaml
seeds: [0, 1]  # <not a tag>
```

| key | value |
| --- | --- |
| hidden | yes |

</details>
"""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="864pt" height="40pt"><rect width="800" height="40" fill="{}"/></svg>'


class Reader(HTMLParser):
    """Elements, what they refer to, and whether every one is closed."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/scores.svg").write_text(SVG.format("#0072b2"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "figures/views.png")
    return tmp_path


def outside(text: str) -> list[str]:
    """What a browser would fetch to show the page."""
    read = Reader(text)
    fetched = [
        value for _, attributes in read.elements for name, value in attributes.items() if name in ("src", "srcset", "data")
    ]
    fetched += [attributes.get("href") for attributes in read.of("link")]
    styles = " ".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    return [f for f in fetched if not (f or "").startswith("data:")] + re.findall(r"url\([^)]*\)|@import[^;]*", styles)


def test_the_page_needs_nothing_else(folder: Path):
    text = page(REPORT, folder)
    assert outside(text) == []
    assert Reader(text).of("script") == []
    assert outside(text.replace("</main>", '<img src="https://example.org/a.png"></main>')) == ["https://example.org/a.png"]
    assert outside(text.replace("<style>", "<style>@import 'a.css';")) == ["@import 'a.css'"]


def test_every_figure_is_within_it_as_it_is(folder: Path):
    images = Reader(page(REPORT, folder)).of("img")
    assert [image["alt"] for image in images] == ["Scores of every seed", "Views of byol", "small"]
    files = ["scores.svg", "views.png", "views.png"]
    for image, file, kind in zip(images, files, ["svg+xml", "png", "png"], strict=True):
        head, _, data = (image["src"] or "").partition(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(data) == (folder / "figures" / file).read_bytes()


def test_every_table_and_cell_is_within_it(folder: Path):
    text = page(REPORT, folder)
    assert len(Reader(text).of("table")) == 2
    assert '<td style="text-align:right" data-heading="digits knn">75.5 ± 0.7 (2)</td>' in text
    assert "1 &amp; 2 &lt; 3" in text
    assert '<td data-heading="key">hidden</td>' in text


def test_details_survive_and_what_is_in_them_is_markdown(folder: Path):
    text = page(REPORT, folder)
    assert re.search(r"<details><summary>params.yaml</summary>\s*<pre><code class=\"language-yaml\">seeds", text)
    assert "# &lt;not a tag&gt;" in text


def test_headings_have_anchors_of_their_own_and_are_listed(folder: Path):
    read = Reader(page(REPORT, folder))
    names = [attributes["id"] for tag, attributes in read.elements if re.fullmatch("h[1-6]", tag)]
    assert names == ["byol-rsa-on-digits", "scores", "scores-1"]
    links = [attributes["href"] for attributes in read.of("a")]
    assert links[:2] == ["#scores", "#scores-1"]  # contents
    assert {link for link in links if (link or "").startswith("#")} == {f"#{name}" for name in names}
    assert {"scores.csv", "https://example.org/paper"} <= set(links)
    assert "<title>byol, rsa on digits</title>" in page(REPORT, folder)


def test_a_picture_that_is_not_there_is_named(folder: Path):
    with pytest.raises(ValueError, match=r"got figures/lost\.png"):
        page("![lost](figures/lost.png)", folder)
    with pytest.raises(ValueError, match=r"got https://example\.org/a\.png"):
        page("![far](https://example.org/a.png)", folder)


def test_the_page_has_the_colours_of_its_figures():
    style = STYLE.read_text()
    light, dark = re.findall(r"--ink: (#\w+); --faint: #\w+; --paper: (#\w+)", style)[:2]
    assert light == (INK, "#ffffff")  # PAPER but for one 255th, by which it is told from other whites
    assert PAPER == "#fffffe"
    assert dark == (DARK[INK], DARK[PAPER])


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("scheme", "paper"), [(1, (255, 255, 255)), (0, (13, 17, 23))], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_it_light_and_dark(folder: Path, scheme: int, paper: tuple[int, int, int], width: int):
    """The background, the figure's own, and nothing wider than the window."""
    (folder / "report.html").write_text(page(REPORT, folder))
    picture = folder / "shown.png"
    assert CHROMIUM is not None
    subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--blink-settings=preferredColorScheme={scheme}",
         f"--window-size={width},900", f"--screenshot={picture}", (folder / "report.html").as_uri()],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert tuple(pixels[2, 2]) == paper
    assert (pixels == (0, 114, 178)).all(axis=2).any()  # the figure
    assert (pixels[:, -4:] == paper).all()  # nothing reaches the right edge
