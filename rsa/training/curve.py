"""curve.csv has one row per step. A resumed run has that of its checkpoint, so no step is missing or duplicated."""

import csv
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, float]


class Curve:
    """A CSV file that grows by blocks of rows. It keeps the columns that it begins with.

    These are the terms of the last row of the first block, and `occasional` ones, which come in any row or none.
    """

    def __init__(self, path: Path, occasional: Sequence[str] = ()) -> None:
        self.path, self.occasional = path, occasional

    def restore(self, text: str) -> None:
        """Write the file as it was at a checkpoint, whatever has become of it since."""
        self.path.write_text(text)

    def append(self, rows: list[Row]) -> None:
        """Append rows to the file."""
        with self.path.open() as file:
            columns = next(csv.reader(file), [])
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not columns:
                columns = [name for name in rows[-1] if name not in self.occasional] + [*self.occasional]
                writer.writerow(columns)
            writer.writerows([f"{row[name]:.9g}" if name in row else "" for name in columns] for row in rows)

    @property
    def text(self) -> str:
        """The content of the file."""
        return self.path.read_text()

    def last(self) -> Row:
        """Return the last row."""
        with self.path.open() as file:
            *_, last = csv.DictReader(file)
        return {name: float(value) for name, value in last.items() if value}
