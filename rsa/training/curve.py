"""curve.csv: a row per step. A run that continues cuts it back to its checkpoint, so that no step is missing or double."""

import csv
from pathlib import Path

Row = dict[str, float]


class Curve:
    """Rows appended to a file. The last row of those that come together has the most columns; others leave them empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut(self, size: int) -> None:
        """Back to its first `size` bytes."""
        self.path.touch()
        with self.path.open("r+") as file:
            file.truncate(size)

    def append(self, rows: list[Row]) -> None:
        """Add rows."""
        columns = list(rows[-1])
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(columns)
            writer.writerows([f"{row[name]:.9g}" if name in row else "" for name in columns] for row in rows)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def last(self) -> Row:
        """The last row."""
        with self.path.open() as file:
            *_, last = csv.DictReader(file)
        return {name: float(value) for name, value in last.items() if value}
