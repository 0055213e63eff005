"""Live monitoring of a run: its curve under live/, and what trackers of experiments get of it.

None is a stage output, and all derive from curve.csv: live/curves/NAME.csv is a link to the curve.csv of the run, and
trackers begin with its rows. A resumed run therefore has no gaps and no duplicate points here either.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from rsa.training.curve import Row
from rsa.training.trackers import TRACKERS

LIVE = Path("live/curves")


class Live:
    """The live files of the run `name`, whose curve at `curve` ends at the step from which the run resumes."""

    def __init__(self, name: str, curve: Path, trackers: Sequence[str]) -> None:
        self.curve = LIVE / f"{name}.csv"
        self.curve.parent.mkdir(parents=True, exist_ok=True)
        self.curve.unlink(missing_ok=True)
        self.curve.symlink_to(curve.resolve())
        self.trackers = [TRACKERS[each](name) for each in trackers]
        self.show(_rows(curve) if trackers else [])

    def show(self, rows: list[Row]) -> None:
        """Publish new rows, which are already in the curve."""
        for tracker in self.trackers:
            tracker.add(rows)

    def close(self) -> None:
        """Remove the link at the end of the run, whose outputs replace it; what trackers have stays."""
        self.curve.unlink(missing_ok=True)
        for tracker in self.trackers:
            tracker.close()


def _rows(curve: Path) -> list[Row]:
    with curve.open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
