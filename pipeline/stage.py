"""Common machinery of stages: a command line derived from the function's signature, and outputs that are written atomically.

A stage is a function. Its parameters are
- sections of params.yaml: a parameter whose annotation is a section's class is the section of its name, and
  `Annotated[TYPE, At("methods.{method}")]` is the section of that dotted name, with flags in braces;
- `origin`: the digests of its sections, as the beginning of the origin of its result (rsa.origin);
- `work`: a folder that outlives a failure or a kill, for the same stage with the same params, code and inputs to continue from;
- flags of the command line, which are all the others. `out` is what the stage writes: a folder, or a file if the name has a
  suffix. It is written under `.NAME.partial` beside it and renamed at the end. Other paths are inputs.
SIGTERM and Ctrl-C end a stage with exit code 75, `try again`.
"""

import argparse
import contextlib
import errno
import inspect
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import quote

from pipeline.portable import start_again_limited
from pipeline.watch import Watch
from pipeline.work import Work
from rsa import provenance
from rsa.file_locks import held
from rsa.params.section import Section
from rsa.params.sections import At

TRY_AGAIN = os.EX_TEMPFAIL  # 75, of a stage that was stopped and may continue


def run(stage: Callable[..., None], rank: Callable[..., None] | None = None, prepare: Callable[..., None] | None = None) -> None:
    """Run a stage from the command line; a user's error is printed without a traceback and exits with 1.

    `rank` runs instead of `stage` in a process that is a non-leading rank or node of a multi-process run; it takes the same
    arguments except `out` and writes only to `work`. `prepare` is called first, with the flags except `out`.
    """
    started, name = time.monotonic(), stage.__name__
    path, flags = _parse(stage)
    out = flags.pop("out")
    try:
        _exit_on_signals(name)
        if prepare is not None:
            prepare(**flags)
        watch = watch_of(stage, path, flags)
        if getattr(watch.sections.get("runtime"), "portable", False):
            start_again_limited()
        sections = {parameter: watch.sections[dotted.format(**flags)] for parameter, (dotted, _) in sections_of(stage).items()}
        arguments = sections | flags
        work = Work(name, out, watch.identity(flags)) if "work" in inspect.signature(stage).parameters else None
        if rank is not None:
            rank(**arguments, work=work and work.folder)
            return
        resumed = _make(stage, arguments, out, watch, work)
    except OSError as why:
        if why.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(f"{name}: error: no space left for {why.filename or out}: free some and run again")
        sys.exit(f"{name}: error: {why}")
    except (ValueError, ArithmeticError) as why:
        sys.exit(f"{name}: error: {why}")
    except SystemExit as why:
        notes = os.environ.get("JOB_NOTES")  # set by engines.job, as DVC does not forward exit codes
        if why.code == TRY_AGAIN and notes and rank is None:
            (Path(notes) / "again").touch()
        raise
    seconds = round(time.monotonic() - started, 2)
    _log(os.environ.get("DVC_STAGE", name), flags, out, seconds, resumed)
    print(f"{name}: {out} made in {seconds:.1f} s", flush=True)


def watch_of(stage: Callable[..., None], path: Path, flags: dict[str, Any]) -> Watch:
    """Return the params in `path`, the code and the inputs of a stage with these flags, without `out`."""
    wanted = {dotted.format(**flags): kind for dotted, kind in sections_of(stage).values()}
    return Watch(stage.__name__, path, wanted, [flag for flag in flags.values() if isinstance(flag, Path)])


def sections_of(stage: Callable[..., None]) -> dict[str, tuple[str, Any]]:
    """Return the sections that a stage reads as parameter -> (dotted name, type); names keep flags in braces."""
    sections: dict[str, tuple[str, Any]] = {}
    for parameter in inspect.signature(stage, eval_str=True).parameters.values():
        kind = parameter.annotation
        extras = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
        place = next((extra for extra in extras if isinstance(extra, At)), None)
        if place is not None:  # `kind` keeps its Annotated, which may hold the discriminator of a union
            sections[parameter.name] = (place.dotted, place if place.type_of is not None else kind)
        elif inspect.isclass(kind) and issubclass(kind, Section):
            sections[parameter.name] = (parameter.name, kind)
    return sections


def flags_of(stage: Callable[..., None]) -> dict[str, type]:
    """Return the flags of a stage's command line, including `out`, and their types."""
    parameters = inspect.signature(stage, eval_str=True).parameters.values()
    no_flags = {"origin", "work", *sections_of(stage)}
    return {each.name: each.annotation for each in parameters if each.name not in no_flags}


def _parse(stage: Callable[..., None]) -> tuple[Path, dict[str, Any]]:
    parser = argparse.ArgumentParser(prog=f"python -m pipeline.{stage.__name__}", description=inspect.getdoc(stage))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    for name, kind in flags_of(stage).items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    flags = vars(parser.parse_args())
    return flags.pop("params"), flags


def _make(stage: Callable[..., None], arguments: dict[str, Any], out: Path, watch: Watch, work: Work | None) -> bool:
    """Run the stage, or reuse its finished but unrecorded result; return True if it resumed from earlier work."""
    for path in watch.inputs:
        Work.forget_finished(path)  # an input has been recorded by DVC, so its backup is not needed
    with _whole(out) as new:
        if work is not None and work.take_over(new):
            print(f"{stage.__name__}: {out} was finished by an earlier run with the same params, code and inputs", flush=True)
            return True
        resumed = work is not None and work.describe_checkpoints()
        given = {"origin": watch.origin(), "work": work and work.folder}
        wanted = inspect.signature(stage).parameters.keys() & given.keys()
        stage(**arguments, out=new, **{name: given[name] for name in wanted})
        watch.check()
        if work is not None:
            work.keep_finished(new)
    return resumed


def _exit_on_signals(name: str) -> None:
    def end(number: int, _: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # a second signal must not interrupt the shutdown
        print(f"{name}: stopped by {signal.Signals(number).name}: run again", file=sys.stderr, flush=True)
        raise SystemExit(TRY_AGAIN)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if (notes := os.environ.get("JOB_NOTES")) and (Path(notes) / "stop").exists():  # the signal came while this process started
        end(signal.SIGTERM, None)


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `out` at the end, and is removed after an error."""
    partial = out.parent / f".{out.name}.partial"
    with held(Path(".work/locks") / quote(str(out), safe=""), f"another run is writing {partial}: wait for it to end"):
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
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
    """Write time, host and interruptions to logs/: they differ between identical runs, so they are kept out of the results."""
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


def require_same_path(flag: str, given: Path, key: str, value: str) -> None:
    """Raise ValueError unless the path that a flag gives, which DVC watches, is the one that params.yaml has at `key`."""
    if given != Path(value):
        raise ValueError(f"{flag} must be {key} ({value}), got {given}")


def write_json(path: Path, value: Any) -> None:
    """Write JSON as every stage does: stable to the byte, no NaN."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
