"""Progress display of a run: a bar on a terminal, otherwise a plain line at intervals."""

import sys
import time

from rich.progress import BarColumn, Progress, TextColumn

from rsa.training.curve import Row

SHOWN = ("loss", "beta", "tau", "lr", "online_knn", "online_linear")  # terms that are displayed
LINES_APART = 10.0  # seconds between plain lines


class ProgressDisplay:
    """The progress of one run, from `start` of `total` steps."""

    def __init__(self, label: str, start: int, total: int, batch_size: int, *, shown: bool = True) -> None:
        self.label, self.start, self.total, self.batch_size = label, start, total, batch_size
        self.began, self.said = time.monotonic(), -LINES_APART
        self.latest: Row = {}
        self.bar: Progress | None = None
        self.shown = shown
        if start and shown:
            print(f"{label}  continues after step {start}", flush=True)
        if shown and sys.stdout.isatty():
            self.bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self.task = self.bar.add_task(label, total=total, completed=start)
            self.bar.start()

    def show(self, *rows: Row) -> None:
        """Display the state after the last of these rows, each term as it was when a row last had it."""
        for row in rows:
            self.latest |= row
        row = self.latest
        words = self.describe(row, time.monotonic() - self.began)
        if self.bar is not None:
            self.bar.update(self.task, completed=row["step"], description=f"{self.label}  {words}")
        elif self.shown and (time.monotonic() - self.said > LINES_APART or row["step"] == self.total):
            print(f"{self.label}  step {row['step']:.0f}/{self.total}  {words}", flush=True)
            self.said = time.monotonic()

    def describe(self, row: Row, seconds: float) -> str:
        """Format a row, for example `loss 1.234  beta 0.31  tau 0.98  lr 0.2  812 images/s  3 min left`."""
        done = row["step"] - self.start
        terms = [f"{name} {row[name]:.4g}" for name in SHOWN if name in row]
        left = (self.total - row["step"]) * seconds / done
        rate = done * self.batch_size / seconds
        time_left = f"{left / 3600:.1f} h" if left > 5400 else f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
        return "  ".join([*terms, f"{rate:.0f} images/s", f"{time_left} left"])

    def close(self) -> None:
        """Stop the bar and restore the terminal."""
        if self.bar is not None:
            self.bar.stop()
