"""python -m engines.bare --seconds S --jobs N: pretrain on a machine that has neither DVC nor Snakemake, for a limited time.

The runs are those of the params file, seed by seed, so that whatever is cut off leaves complete seeds. N run at once, sharing
the machine's GPU. When the time is up, or on SIGTERM, the runs that are going on write checkpoints and end; the same command
continues them. `python -m pipeline.finished pack` packs finished runs for another machine.
"""

import argparse
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

TRY_AGAIN = os.EX_TEMPFAIL  # 75, of a stage that was stopped and has written a checkpoint
STOPPED = (TRY_AGAIN, -signal.SIGTERM)  # the latter of one that had hardly begun
GRACE = 30  # seconds for writing checkpoints, after which runs are killed
LOGS = Path("logs")


def commands(params: Path, methods: list[str] | None, seeds: list[int] | None, dvc_yaml: Path) -> Iterator[tuple[str, str]]:
    """Yield name and command of each stage `pretrain` in dvc.yaml, the methods of the first seed first; None means all."""
    document, stage = _read(params), _read(dvc_yaml)["stages"]["pretrain"]
    experiment = document["experiment"]
    for seed, method in itertools.product(seeds or experiment["seeds"], methods or experiment["methods"]):
        values = document | {"item": {"method": method, "seed": seed}}
        yield f"pretrain@{method}-{seed}", f"{_filled_in(stage['cmd'], values)} --params {params}"


def _filled_in(command: str, values: dict[str, Any]) -> str:
    """Replace each `${dotted.name}` by its value."""
    return re.sub(r"\$\{([^}]+)\}", lambda match: str(reduce(getitem, match[1].split("."), values)), command)


def _read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def run(stages: list[tuple[str, str]], jobs: int, seconds: float) -> dict[str, int]:
    """Run the stages, `jobs` at once, for so many seconds; return the exit codes by name of those that were started."""
    ends = time.monotonic() + seconds
    waiting = stages[::-1]
    running: dict[str, subprocess.Popen[bytes]] = {}
    codes: dict[str, int] = {}
    LOGS.mkdir(exist_ok=True)
    try:
        while (waiting or running) and time.monotonic() < ends:
            while waiting and len(running) < jobs:
                name, command = waiting.pop()
                running[name] = _start(name, command)
            time.sleep(0.2)
            codes |= _ended(running)
    finally:
        _stop(running)
        codes |= _ended(running)
    print(f"{sum(code == 0 for code in codes.values())} runs finished, {len(waiting)} were not started", flush=True)
    return codes


def _start(name: str, command: str) -> subprocess.Popen[bytes]:
    with (LOGS / f"{name}.txt").open("ab") as log:
        arguments = [sys.executable, *shlex.split(command)[1:]]
        return subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"DVC_STAGE": name})


def _ended(running: dict[str, subprocess.Popen[bytes]]) -> dict[str, int]:
    """Take out the runs that have ended, and print each one's exit code and last line."""
    codes = {name: code for name, process in running.items() if (code := process.poll()) is not None}
    for name, code in codes.items():
        del running[name]
        lines = (LOGS / f"{name}.txt").read_text(errors="replace").split("\n")
        print(f"{name}: exit code {code}: {next((line for line in reversed(lines) if line.strip()), '')}", flush=True)
    return codes


def _stop(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in running.values():
        process.terminate()
    ends = time.monotonic() + GRACE
    for process in running.values():
        try:
            process.wait(max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    """Bring `code` up to date, run the stages, and return 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="python -m engines.bare", description="Pretrain without DVC and Snakemake.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    parser.add_argument("--methods", nargs="+", help="of experiment.methods (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="of experiment.seeds (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="(default: until all are finished)")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TRY_AGAIN))
    subprocess.run([sys.executable, "-m", "pipeline.code", "--params", flags.params, "--out", "code"], check=True)
    codes = run(list(commands(flags.params, flags.methods, flags.seeds, Path("dvc.yaml"))), flags.jobs, flags.seconds)
    return int(any(code not in (0, *STOPPED) for code in codes.values()))


if __name__ == "__main__":
    sys.exit(main())
