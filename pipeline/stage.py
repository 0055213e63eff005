"""What all stages share: a command line made from the function's signature, outputs that appear whole or not at all, and
a check that nothing the stage read has changed under it.

A stage is a function of the params it declares and of paths and names. `out` is what it writes: a folder, or a file if
the name has a suffix. It is written under `.NAME.partial` beside it and renamed at the end. A stage that takes `work` gets a
folder that outlives a failure or a kill, for the same stage with the same params, code and inputs to continue from.
SIGTERM ends a stage with exit code 75, `try again`.
"""

import argparse
import contextlib
import errno
import hashlib
import inspect
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rsa import params, provenance
from rsa.file_locks import held

STARTED = time.time_ns()
ROOT = Path(__file__).resolve().parents[1]
WORK = Path(".work")  # for what a killed run continues from; outside of every stage's outputs
TRY_AGAIN = 75  # sysexits' EX_TEMPFAIL


def run(
    stage: Callable[..., None],
    reads: tuple[str, ...],
    unwatched: tuple[str, ...] = (),
    part: Callable[..., None] | None = None,
) -> None:
    """Run a stage from the command line; a user's error is printed without a traceback and exits with 1.

    `reads` are the dotted sections of params.yaml that the stage may read, with flags in braces: `methods.{method}`.
    `unwatched` are further ones, which must not change its result: neither DVC nor a run that continues looks at them.
    `part` is given in a process that has a part in a run of the stage elsewhere: it is called with all that the stage is
    called with but `out`, and writes nothing but in `work`.
    """
    flags = _flags(stage)
    name = stage.__name__
    path, out = flags.pop("params"), flags.pop("out")
    sections = [section.format(**flags) for section in reads]
    try:
        _end_at_sigterm()
        watch = Watch(path, sections, [flag for flag in flags.values() if isinstance(flag, Path)], unwatched)
        work = {"work": WORK / name / watch.key({**flags, "out": out})} if "work" in inspect.signature(stage).parameters else {}
        if part is not None:
            part(watch.params, **flags, **work)
            return
        resumed = any(checkpoint for folder in work.values() for checkpoint in folder.glob("*.ckpt"))
        with _whole(out) as partial:
            stage(watch.params, **flags, out=partial, **work)
            watch.check()
        for folder in work.values():
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as why:
        if why.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(f"{name}: error: no space left for {why.filename or out}: free some and run again")
        sys.exit(f"{name}: error: {why}")
    except (ValueError, ArithmeticError) as why:
        sys.exit(f"{name}: error: {why}")
    except SystemExit as why:
        notes = os.environ.get("JOB_NOTES")  # of engines.job: DVC does not pass an exit code on
        if why.code == TRY_AGAIN and notes and part is None:
            (Path(notes) / "again").touch()
        raise
    seconds = round((time.time_ns() - STARTED) / 1e9, 2)
    _log(os.environ.get("DVC_STAGE", name), flags, out, seconds, resumed)
    print(f"{name}: {out} made in {seconds:.1f} s", flush=True)


def _flags(stage: Callable[..., None]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog=f"python -m pipeline.{stage.__name__}", description=inspect.getdoc(stage))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    for flag in list(inspect.signature(stage, eval_str=True).parameters.values())[1:]:
        if flag.name == "work":
            continue
        parser.add_argument(f"--{flag.name}", type=flag.annotation, required=True)
    return vars(parser.parse_args())


class Watch:
    """The params, code and inputs of a stage as it began. DVC hashes them only after the command has run."""

    def __init__(self, path: Path, sections: list[str], inputs: list[Path], unwatched: tuple[str, ...] = ()) -> None:
        self.path, self.sections, self.inputs = path, sections, inputs
        everything = params.load(path)
        self.values = {section: _section(everything, section, path) for section in sections}
        self.params = everything.only([*sections, *unwatched])
        for folder in inputs:
            if not folder.exists():
                raise ValueError(f"{folder} does not exist: run the stage that makes it first (`dvc repro` does)")
        self.files = _listing(inputs)
        self.code = {file: _digest(file) for file in _code()}
        for file in self.code:
            self._older(file)

    def key(self, flags: dict[str, Any]) -> str:
        """A name for everything that determines the stage's result."""
        code = {str(file.relative_to(ROOT)): digest for file, digest in sorted(self.code.items())}
        whole = [self.values, code, sorted(self.files.items()), {key: str(value) for key, value in flags.items()}]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]

    def check(self) -> None:
        """ValueError names what has changed since the stage began."""
        now = params.load(self.path)
        changed = [
            f"{self.path}: {section}" for section in self.sections if _section(now, section, self.path) != self.values[section]
        ]
        changed += [
            str(file.relative_to(ROOT)) for file, digest in self.code.items() if not file.exists() or _digest(file) != digest
        ]
        files = _listing(self.inputs)
        changed += sorted(file for file in files.keys() | self.files.keys() if files.get(file) != self.files.get(file))
        if changed:
            raise ValueError(f"changed while the stage ran: {', '.join(changed)}; its result is not kept, run it again")
        for file in _code() - self.code.keys():  # imported on the way
            self._older(file)

    @staticmethod
    def _older(file: Path) -> None:
        if file.stat().st_ctime_ns > STARTED:
            raise ValueError(f"{file.relative_to(ROOT)} changed while the stage started; run it again")


def _section(document: params.Params, section: str, path: Path) -> Any:
    try:
        return document.section(section)
    except KeyError:
        raise ValueError(f"{path}: {section} is missing") from None


def _code() -> set[Path]:
    files = {Path(file).resolve() for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    return {file for file in files if file.is_relative_to(ROOT / "rsa") or file.is_relative_to(ROOT / "pipeline")}


def code_sha256() -> str:
    """The sha256 of the project's code that this process has loaded."""
    return hashlib.sha256("".join(f"{file.relative_to(ROOT)} {_digest(file)}\n" for file in sorted(_code())).encode()).hexdigest()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _listing(inputs: list[Path]) -> dict[str, tuple[int, int, int]]:
    files = [file for folder in inputs for file in ([folder] if folder.is_file() else folder.rglob("*")) if file.is_file()]
    return {str(file): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]}


def _end_at_sigterm() -> None:
    def end(*_: object) -> None:
        raise SystemExit(TRY_AGAIN)

    signal.signal(signal.SIGTERM, end)
    if (notes := os.environ.get("JOB_NOTES")) and (Path(notes) / "stop").exists():  # it came while this process started
        end()


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A path to write instead of `out`, which replaces `out` at the end; nothing is left of it after an error."""
    partial = out.parent / f".{out.name}.partial"
    with held(WORK / "locks" / quote(str(out), safe=""), f"another run is writing {partial}: wait for it to end"):
        shutil.rmtree(partial, ignore_errors=True)  # of a killed run
        partial.mkdir(parents=True)
        try:
            new = partial / out.name
            if not out.suffix:
                new.mkdir()
            yield new
            if out.is_dir():
                shutil.rmtree(out)
            os.replace(new, out)
        finally:
            shutil.rmtree(partial)


def _log(name: str, flags: dict[str, Any], out: Path, seconds: float, resumed: bool) -> None:
    """Time, place and interruptions go beside the results, not into them: they differ between runs that are equal."""
    entry = {
        "stage": name,
        **{key: str(value) for key, value in flags.items()},
        "out": str(out),
        "seconds": seconds,
        "resumed": resumed,
        "commit": provenance.commit(),
        **provenance.machine(),
    }
    folder = Path("logs")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n")


def write_json(path: Path, value: Any) -> None:
    """JSON as every stage writes it: stable to the byte, no NaN."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
