"""Live monitoring of a run: its curve under live/, and TensorBoard's event files.

Neither is a stage output, and both derive from curve.csv: live/curves/NAME.csv is a link to the curve.csv of the run,
and the event files are written from it. A resumed run therefore has no gaps and no duplicate points here either.
"""

import csv
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rsa.training.curve import Row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LIVE, TENSORBOARD = Path("live/curves"), Path("logs/tensorboard")


class Live:
    """The live files of the run `name`; its curve at `curve` has been truncated to the step where the run resumes."""

    def __init__(self, name: str, curve: Path, *, tensorboard: bool) -> None:
        self.curve = LIVE / f"{name}.csv"
        self.curve.parent.mkdir(parents=True, exist_ok=True)
        self.curve.unlink(missing_ok=True)
        self.curve.symlink_to(curve.resolve())
        self.events = _events(TENSORBOARD / name, curve) if tensorboard else None

    def show(self, rows: list[Row]) -> None:
        """Publish new rows, which are already in the curve."""
        if self.events is not None:
            _add(self.events, rows)

    def close(self) -> None:
        """Remove the link at the end of the run, whose outputs replace it; TensorBoard's files stay."""
        self.curve.unlink(missing_ok=True)
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
