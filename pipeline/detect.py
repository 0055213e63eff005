"""Stage `detect`: train a detector on an encoder, frozen or fine-tuned, and take its average precision.

A killed run starts again. out: a JSON file, task -> score
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.detection import detection_scores
from rsa.models.backbones import build_backbone
from rsa.models.encoder import load_encoder
from rsa.params import Params
from rsa.training.device import setup

READS = ("model", "detection.{name}")


def detect(p: Params, name: str, seed: int, encoder: Path, objects: Path, out: Path) -> None:
    """Train and test with the settings of `detection.NAME` on what stage `objects` has made of its data."""
    settings = p.detection[name]
    device = setup(settings.device, settings.threads, seed)
    backbone = load_encoder(build_backbone(p.model), encoder)
    write_json(out, detection_scores(name, settings, backbone, objects, seed, device))


if __name__ == "__main__":
    run(detect, READS)
