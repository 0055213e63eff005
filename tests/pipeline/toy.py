"""A stage that a test can hold in the middle or make fail; copied into a project of its own as pipeline/toy.py."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

from pipeline.stage import run
from rsa.params.pretrain import Pretrain
from rsa.params.sections import At


def toy(
    pretrain: Pretrain,
    settings: Annotated[dict[str, Any], At("methods.{method}")],
    method: str,
    count: int,
    act: str,
    source: Path,
    out: Path,
) -> None:
    """Copy the source, in two parts."""
    result = out if out.suffix else out / "result.txt"
    text = source.read_text()
    result.write_text(text[:3])
    match act:
        case "hold":  # until the test sends a line
            print("holding", flush=True)
            sys.stdin.readline()
        case "refuse":
            raise ValueError("count must be small, got more")
        case "overflow":
            raise FloatingPointError("loss must be finite")
        case "os":
            Path("nowhere/file").read_text()
        case "bug":
            raise RuntimeError("our own fault")
        case "import":
            importlib.import_module("rsa.hidden")
    result.write_text(f"{text} {pretrain.epochs} {settings['ema_start']} {count}")


if __name__ == "__main__":
    run(toy)
