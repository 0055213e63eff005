from pathlib import Path

import pandas as pd

from rsa.reporting.figures.features import draw_confusion
from tests.reporting.figures.conftest import Texts


def table(counts: dict[tuple[int, int], int]) -> pd.DataFrame:
    return pd.DataFrame([(a, b, count) for (a, b), count in counts.items()], columns=["truth", "predicted", "count"])


def test_cells_are_percent_of_the_true_class(tmp_path: Path, texts: Texts):
    counts = {(0, 0): 3, (0, 1): 1, (1, 1): 7, (1, 0): 3, (3, 3): 5}  # class 2 has no samples
    draw_confusion({"byol": table(counts)}, tmp_path / "confusion.svg")
    found = texts(tmp_path / "confusion.svg")
    assert {"75", "25", "70", "30", "100"} <= set(found)
    assert not any("nan" in text for text in found)


def test_of_many_classes_the_most_confused_pairs_are_listed(tmp_path: Path, texts: Texts):
    counts = {(label, label): 10 for label in range(150)}
    counts |= {(7, 99): 10, (120, 3): 5, (4, 5): 1}
    draw_confusion({"byol": table(counts), "rsa": table(counts)}, tmp_path / "confusion.svg")
    found = [text for text in texts(tmp_path / "confusion.svg") if "taken for" in text]
    assert found[:3] == ["7 taken for 99", "120 taken for 3", "4 taken for 5"]
    assert len(found) == 6  # three of either method: pairs that never happened are no confusions
