"""curve.csv has one row per step. A resumed run truncates it to the checkpoint, so no step is missing or duplicated."""

import csv
from pathlib import Path

Row = dict[str, float]


class Curve:
    """A CSV file that grows by blocks of rows. The last row of a block has all columns; the others may leave some empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut(self, size: int) -> None:
        """Truncate the file to its first `size` bytes."""
        self.path.touch()
        with self.path.open("r+") as file:
            file.truncate(size)

    def append(self, rows: list[Row]) -> None:
        """Append rows to the file."""
        columns = list(rows[-1])
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
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
