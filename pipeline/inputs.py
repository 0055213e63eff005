"""Check, before anything runs, that the files named in params.yaml exist: days may pass until a stage reads them."""

from collections.abc import Iterator
from pathlib import Path

from rsa.params.document import Params
from rsa.params.section import nearest

MANIFEST = "manifest.json"


def require_inputs(p: Params, params: Path, *, unless_made: bool) -> None:
    """Raise ValueError with a line for each file that `params` names and that does not exist.

    With `unless_made`, the output that a stage has made of a file stands in for it, on machines without raw data.
    """
    faults = [
        f"{params}: {key}: {path} does not exist{nearest(path.name, _beside(path))}: put it there, or correct the key"
        for key, path, made in _named(p)
        if not path.exists() and not (unless_made and made is not None and made.exists())
    ]
    if faults:
        raise ValueError("\n".join(faults))


def _named(p: Params) -> Iterator[tuple[str, Path, Path | None]]:
    """Yield key, path, and a file that a stage makes of it."""
    for name in p.datasets:
        yield f"datasets.{name}.raw", Path(p.key_of("datasets", name, "raw")), Path("data/shards") / name / MANIFEST
    for name, detection in p.detection.items():
        yield f"detection.{name}.data.raw", Path(detection.data.raw), Path("data/detection") / name / "train.json"
    yield "pretrain.start.file", Path(p.pretrain.start.file), None


def _beside(path: Path) -> list[str]:
    return [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
