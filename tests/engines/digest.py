"""What every toy stage does (copied into the toy project as pipeline/digest.py).

A test can hold a stage (a file `hold/STAGE`, until it is removed) or make it fail (a file `fail/STAGE`). `ran.log` gets a
line at the start and at the end of each stage, and where it continues a killed run, with the devices that it was given.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds that a held stage waits for its test


def digest(family: str, version: Any, flags: dict[str, Any], outs: list[str]) -> None:
    """Write to every one of `outs` a digest of all that the stage reads."""
    stage, out, work = os.environ.get("DVC_STAGE", family), flags.pop("out"), flags.pop("work", None)
    _log(f"start {stage}")
    if work and any(work.glob("*.ckpt")):
        _log(f"continue {stage}")
    elif work:
        (work / "step.ckpt").touch()
    _hold(stage)
    if Path("fail", stage).exists():
        raise ValueError(f"fail/{stage} exists")
    flags = dict(sorted(flags.items()))
    inputs = {name: value for name, value in flags.items() if isinstance(value, Path)}
    read = {name: {str(file): file.read_text() for file in _files(path)} for name, path in inputs.items()}
    names = {name: value for name, value in flags.items() if name not in read and name != "runtime"}
    everything = json.dumps([family, version, names, read])
    for file in [out / name for name in outs] or ([out] if out.suffix else [out / "first", out / "second"]):
        text = hashlib.sha256(f"{file.name} {everything}".encode()).hexdigest()
        file.write_text(json.dumps({"digest": text}) if file.suffix == ".json" else text)
    _log(f"end {stage}")


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _hold(stage: str) -> None:
    hold = Path("hold", stage)
    if hold.exists():
        Path("hold", f"{stage}.reached").touch()
        patience = time.monotonic() + PATIENCE
        while hold.exists() and time.monotonic() < patience:
            time.sleep(0.02)


def _log(event: str) -> None:
    with open("ran.log", "a") as log:  # a line this short is appended whole
        log.write(f"{event} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
