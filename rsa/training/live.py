"""Live monitoring of a run: the files of dvc.yaml's top-level `plots` and `metrics`, and TensorBoard's event files.

None of them is a stage output, and all derive from curve.csv: live/curves/NAME.csv is a link to the curve.csv of the run,
and the event files are written from it. A resumed run therefore has no gaps and no duplicate points here either.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rsa.training.curve import Row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LIVE, TENSORBOARD = Path("live"), Path("logs/tensorboard")
SHOWN = ("step", "loss", "beta", "tau", "lr")  # of a row, in live/metrics/NAME.json


class Live:
    """The live files of the run `name`; its curve at `curve` has been truncated to the step where the run resumes."""

    def __init__(self, name: str, curve: Path, *, tensorboard: bool) -> None:
        self.curve, self.metrics = LIVE / "curves" / f"{name}.csv", LIVE / "metrics" / f"{name}.json"
        for file in (self.curve, self.metrics):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
        self.curve.symlink_to(curve.resolve())
        self.events = _events(TENSORBOARD / name, curve) if tensorboard else None

    def show(self, rows: list[Row]) -> None:
        """Publish new rows, which are already in the curve."""
        partial = self.metrics.with_suffix(".partial")
        partial.write_text(json.dumps({key: rows[-1][key] for key in SHOWN if key in rows[-1]}) + "\n")
        partial.rename(self.metrics)  # readers never see a partial file
        if self.events is not None:
            _add(self.events, rows)

    def close(self) -> None:
        """Remove the live files at the end of the run, whose outputs replace them; TensorBoard's files stay."""
        self.curve.unlink(missing_ok=True)
        self.metrics.unlink(missing_ok=True)
        if self.events is not None:
            self.events.close()


def _events(folder: Path, curve: Path) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    shutil.rmtree(folder, ignore_errors=True)  # from an earlier attempt, some steps of which may be repeated
    writer = SummaryWriter(str(folder))
    with curve.open() as file:
        _add(writer, [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)])
    return writer


def _add(writer: "SummaryWriter", rows: list[Row]) -> None:
    for row in rows:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, int(row["step"]))
