"""Stage `probe`: what frozen features are worth on the dataset that was pretrained on.

out: a JSON file, task -> score (rsa.evaluation.score)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.features import read_features
from rsa.evaluation.tasks import probe_tasks
from rsa.params import Params

READS = ("probe",)


def probe(p: Params, seed: int, features: Path, out: Path) -> None:
    """Every protocol; `seed` draws the held-out part."""
    write_json(out, probe_tasks(read_features(features, "train"), read_features(features, "test"), p.probe, seed))


if __name__ == "__main__":
    run(probe, READS)
