import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsa.reporting.figures.views import draw_choices, draw_views
from tests.reporting.figures.conftest import Texts


def embedded(path: Path) -> np.ndarray:
    """The picture within a figure."""
    data = re.search(r"data:image/png;base64,([^\"]+)", path.read_text())
    assert data is not None
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as image:
        return np.asarray(image.convert("RGB"))


def picture(path: Path, rows: int, columns: int, side: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (rows * side, columns * side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_views_keep_every_pixel_and_have_names(tmp_path: Path, texts: Texts):
    pixels = picture(tmp_path / "views.png", 2, 8, 16)
    draw_views(tmp_path / "views.png", ["crop 1", "crop 2, coloured"], tmp_path / "figure.svg")
    np.testing.assert_array_equal(embedded(tmp_path / "figure.svg"), pixels)
    assert texts(tmp_path / "figure.svg") == ["crop 1", "crop 2, coloured"]


def test_large_pictures_are_made_smaller(tmp_path: Path):
    picture(tmp_path / "views.png", 2, 8, 224)
    draw_views(tmp_path / "views.png", ["crop 1", "crop 2"], tmp_path / "figure.svg")
    assert embedded(tmp_path / "figure.svg").shape == (288, 1152, 3)


def test_chosen_views_are_framed_refused_ones_pale(tmp_path: Path, texts: Texts):
    picture(tmp_path / "views.png", 3, 4, 16)
    selection = {"rows": [[0, 1], [0, 2], [1, 2], [0, 1]], "score": [4.0, 3.5, 3.25, 1.0], "score_all": [2.0, 1.5, 1.25, 0.75]}
    draw_choices(tmp_path / "views.png", ["one", "two", "three"], selection, tmp_path / "figure.svg")
    svg = (tmp_path / "figure.svg").read_text()
    assert len(re.findall(r"<path [^>]*style=\"fill: none; stroke: #d55e00", svg)) == 8
    assert len(re.findall(r"<path [^>]*style=\"fill: #fffffe; opacity: 0.55", svg)) == 4
    found = texts(tmp_path / "figure.svg")
    assert {"4.00", "3.50", "1.00", "2.00", "0.75"} <= set(found)


def test_a_picture_that_does_not_fit_its_names_is_refused(tmp_path: Path):
    picture(tmp_path / "views.png", 2, 8, 16)
    with pytest.raises(ValueError, match=r"views\.png must have 3 rows of square tiles"):
        draw_views(tmp_path / "views.png", ["one", "two", "three"], tmp_path / "figure.svg")
