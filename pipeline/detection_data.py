"""Stage `detection_data`: the annotated objects of a detection data set, checked, in the format of rsa.data.detection_data.

The images stay where they are; each is known by its sha256, so that other images mean other objects.
out/: train.json, test.json, raw.txt (where the images are)
"""

from pathlib import Path
from typing import Annotated

from pipeline.stage import require_same_path, run
from rsa.data.detection_data import write_objects
from rsa.params.detection import DetectionData
from rsa.params.sections import At


def detection_data(settings: Annotated[DetectionData, At("detection.{name}.data")], name: str, raw: Path, out: Path) -> None:
    """Read the data of `detection.NAME`; `raw` is its `data.raw`, watched like every input."""
    require_same_path("raw", raw, f"detection.{name}.data.raw", settings.raw)
    write_objects(settings, out)


if __name__ == "__main__":
    run(detection_data)
