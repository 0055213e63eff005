"""Finished pretraining runs move between machines: what one has trained, another takes over instead of training it.

    python -m pipeline.finished pack FOLDER      writes this machine's finished runs to FOLDER/part-0.tar.xz, part-1.tar.xz, ...
    python -m pipeline.finished import TAR...    lets this checkout's stage `pretrain` take them over

A packed run is its folder in .work (pipeline.work), with the params, code and inputs that it was made from. It is imported only
where the stage would have made it from the same ones. `snakemake` and `dvc repro` then record it without training.
"""

import argparse
import json
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipeline.pretrain import pretrain
from pipeline.stage import flags_of, watch_of
from pipeline.work import ROOT, difference, is_intact

STAGE = "pretrain"
WINDOW = 2**26  # bytes; within it the compressor finds the tensors of the encoder again in the last snapshot
THREADS = 4  # that compress runs at once
PARTS = "part-*.tar.xz"
MADE_FROM = ("params_sha256", "code_sha256", "index_sha256")  # in run.json


def pack(folder: Path, limit: int) -> list[Path]:
    """Write all finished runs into archives of at most `limit` bytes each, or of one larger run; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(PARTS):
        old.unlink()
    parts: list[Path] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for content in pool.map(_compressed, sorted(each.parent for each in ROOT.glob(f"{STAGE}/*/*/finished.json"))):
            if not parts or parts[-1].stat().st_size + len(content) > limit:
                parts.append(folder / f"part-{len(parts)}.tar.xz")
            with parts[-1].open("ab") as part:  # archives one after the other, which `tar --ignore-zeros` reads
                part.write(content)
    return parts


def _compressed(run: Path) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": WINDOW}]
    content = BytesIO()
    with lzma.open(content, "wb", filters=filters) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        tar.add(run, run.relative_to(ROOT))
    return content.getvalue()


def import_runs(archives: Iterable[Path], params: Path) -> list[str]:
    """Put the runs in `archives` where stage `pretrain` takes them over; return the folders that they will be in.

    All are imported or none: ValueError names every run that is damaged, that this checkout would make from other params, code
    or inputs, or that it has made itself.
    """
    ROOT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        for archive in archives:
            _extract(archive, Path(folder))
        runs = sorted(each.parent for each in Path(folder).glob(f"{STAGE}/*/*/finished.json"))
        if not runs:
            raise ValueError(f"{', '.join(map(str, archives))} must hold finished runs, got none")
        faults = [f"{_out(run)} {fault}" for run in runs if (fault := _fault(run, params))]
        if faults:
            raise ValueError("; ".join(faults) + "; nothing was imported")
        for run in runs:
            place = ROOT / run.relative_to(folder)
            shutil.rmtree(place, ignore_errors=True)  # checkpoints, or the same run
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(run, place)
        return [str(_out(run)) for run in runs]


def _extract(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive, "r:xz", ignore_zeros=True) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as why:
        raise ValueError(f"{archive} cannot be read to its end ({why}): copy it again") from None


def _out(run: Path) -> Path:
    return Path(unquote(run.parent.name))


def _fault(run: Path, params: Path) -> str:
    """Return why a run cannot be imported here, or an empty text."""
    if not is_intact(run):
        return "is damaged: copy its archive again"
    identity = json.loads((run / "identity.json").read_text())
    kinds = flags_of(pretrain)
    flags = {name: kinds[name](value) for name, value in identity["flags"].items()}
    try:
        here = watch_of(pretrain, params, flags).identity(flags)
    except ValueError as why:
        return f"is of no run of {params}: {why}"
    if here != identity:
        return f"was made {difference(identity, here)} than here"
    ours, theirs = _manifest(_out(run)), _manifest(run / "finished" / _out(run).name)
    if ours and ours != theirs and all(ours.get(name) == theirs.get(name) for name in MADE_FROM):
        return "has been made here, too, and a run is not overwritten: remove one of the two"
    return ""


def _manifest(run: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((run / "run.json").read_text())
    except FileNotFoundError:
        return {}
    return manifest


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.finished", description="Finished runs move between machines.")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write this machine's finished runs into archives")
    packing.add_argument("folder", type=Path, help="of the archives; older ones in it are replaced")
    packing.add_argument("--mb", type=float, default=1000, help="size of an archive at most (default: %(default)s)")
    importing = commands.add_parser("import", help="let this checkout take over the runs in archives")
    importing.add_argument("archives", type=Path, nargs="+")
    importing.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    return parser


def main() -> None:
    """Pack or import, and print what."""
    flags = parser().parse_args()
    try:
        if flags.command == "pack":
            for part in pack(flags.folder, int(flags.mb * 1e6)):
                print(f"{part}: {part.stat().st_size / 1e6:.1f} MB")
        else:
            for run in import_runs(flags.archives, flags.params):
                print(f"{run}: imported; `snakemake` or `dvc repro` takes it over")
    except (ValueError, OSError) as why:
        sys.exit(f"{flags.command}: error: {why}")


if __name__ == "__main__":
    main()
