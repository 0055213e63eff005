"""python benchmarks/gpu.py [--rows A1,H] [--out FOLDER] [--minutes 3] [--device cpu --quick]: the speed of the GPU path.

Every number is printed, and written to FOLDER/gpu.md and FOLDER/gpu.json, as soon as it is measured. A row that fails or takes
longer than it may is named there, and the next one has a new process. FOLDER/profile.txt says what bounds a step, waits.txt
which lines make the CPU wait. Neither DVC nor Snakemake is needed; without DALI the rows that need it are skipped.
`--device cpu --quick` takes tiny sizes on a machine without a GPU: it shows that the rows run, and no speed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gpu_rows.process import DONE, Worker, shards_written
from benchmarks.gpu_rows.setting import Measurement, Setting
from benchmarks.gpu_rows.table import Results

LEAST = 5.0  # seconds that must be left for a row to begin


class Row(NamedTuple):
    """The seconds that a row may take, and whether it needs DALI."""

    seconds: float
    dali: bool = False


ROWS = {  # in the order of their worth
    "A1": Row(40), "A2": Row(30), "A5": Row(40, dali=True), "A4": Row(40, dali=True), "B": Row(30, dali=True), "E": Row(40),
    "H": Row(50, dali=True), "C": Row(40), "D": Row(40), "F": Row(30), "G": Row(30), "A3": Row(120), "E2": Row(90),
}  # fmt: skip


def measure(names: list[str], setting: Setting, results: Results, deadline: float) -> None:
    """Measure rows until the deadline, in one process as long as none fails."""
    first = Worker(setting)
    worker: Worker | None = first
    if setting.dali and any(ROWS[name].dali for name in names) and (written := shards_written(setting)) != DONE:
        results.note(f"shards failed: {written}")
    results.machine = first.machine()
    for name in names:
        left = deadline - time.monotonic()
        if ROWS[name].dali and not setting.dali:
            results.note(f"{name} skipped: DALI cannot be imported here")
            continue
        if left < LEAST:
            results.note(f"{name} skipped: the time given with --minutes is over")
            continue
        if worker is None:
            worker = Worker(setting)
            worker.machine()
        started = time.monotonic()
        for found in worker.measure(name, min(ROWS[name].seconds, left)):
            seconds = time.monotonic() - started
            if isinstance(found, Measurement):
                results.add(found)
            elif found == DONE:
                results.note(f"{name} took {seconds:.1f} s")
            else:
                results.note(f"{name} failed after {seconds:.1f} s: {found}")
                worker.stop()
                worker = None
                break
    if worker is not None:
        worker.stop()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="names, with commas")
    parser.add_argument("--out", type=Path, default=Path("gpu_benchmark"), help="folder for the results")
    parser.add_argument("--minutes", type=float, default=3.0, help="after which no row begins")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    flags = parser.parse_args()
    names = flags.rows.split(",")
    if unknown := set(names) - set(ROWS):
        parser.error(f"--rows must name some of {', '.join(ROWS)}, got {', '.join(sorted(unknown))}")
    deadline = time.monotonic() + 60 * flags.minutes
    flags.out.mkdir(parents=True, exist_ok=True)
    results = Results(flags.out)
    dali = subprocess.run([sys.executable, "-c", "import nvidia.dali"], capture_output=True, check=False).returncode == 0
    with tempfile.TemporaryDirectory(prefix="rsa_gpu_") as scratch:
        setting = Setting(flags.device, flags.quick, dali, Path(scratch), flags.out.resolve())
        try:
            measure(names, setting, results, deadline)
        except RuntimeError as why:
            sys.exit(f"gpu.py: error: {why}")
    print(f"\n{(flags.out / 'gpu.md').read_text()}")


if __name__ == "__main__":
    main()
