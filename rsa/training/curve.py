"""curve.csv has one row per step. A resumed run truncates it to the checkpoint, so no step is missing or duplicated."""

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

    def cut(self, size: int) -> None:
        """Truncate the file to its first `size` bytes."""
        self.path.touch()
        with self.path.open("r+") as file:
            file.truncate(size)

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
    def size(self) -> int:
        """The size of the file in bytes."""
        return self.path.stat().st_size

    def last(self) -> Row:
        """Return the last row."""
        with self.path.open() as file:
            *_, last = csv.DictReader(file)
        return {name: float(value) for name, value in last.items() if value}
