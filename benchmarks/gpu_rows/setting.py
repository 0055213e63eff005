"""The settings of a benchmark and its measurements; without torch, as the process that starts the others needs none."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

LARGE, SMALL = "large", "small"  # folders of shards: photographs of 500x375 px, and of 32 px


class Measurement(NamedTuple):
    """One number of the table; `row` and `what` name it."""

    row: str
    what: str
    value: float
    unit: str


@dataclass(frozen=True)
class Setting:
    """Where the rows run and how large they are."""

    device: str  # cuda | cpu
    quick: bool  # tiny sizes, to see that everything runs
    dali: bool  # whether DALI can be imported
    scratch: Path  # for shards and runs; removed at the end
    out: Path  # for results

    def steps(self, warm: int, measured: int) -> tuple[int, int]:
        """Return the numbers of steps before and while measuring."""
        return (2, 3) if self.quick else (warm, measured)

    def threads(self, count: int) -> int:
        """Return the number of threads for data."""
        return 2 if self.quick else count
