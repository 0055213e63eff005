"""Stage `objects`: the annotated objects of a detection data set, checked, in one format (rsa.data.objects describes it).

The images stay where they are; each is known by its sha256, so that other images mean other objects.
out/: train.json, test.json
"""

from pathlib import Path
from typing import Annotated

from pipeline.stage import run
from rsa.data.objects import write_objects
from rsa.params.detection import Objects
from rsa.params.sections import At


def objects(settings: Annotated[Objects, At("detection.{name}.data")], name: str, raw: Path, out: Path) -> None:
    """Read the data of `detection.NAME`; `raw` is its `data.raw`, watched like every input."""
    assert raw == Path(settings.raw)
    write_objects(settings, out)


if __name__ == "__main__":
    run(objects)
