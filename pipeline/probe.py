"""Stage `probe`: classifiers on frozen features of the dataset that was pretrained on.

out: a JSON file, task -> score (rsa.evaluation.score)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.features import read_features
from rsa.evaluation.tasks import probe_tasks
from rsa.params.probe import Probe
from rsa.params.runtime import Runtime


def probe(probe: Probe, runtime: Runtime, seed: int, features: Path, out: Path) -> None:
    """Score every protocol; `seed` draws the held-out part."""
    train, test = read_features(features, "train"), read_features(features, "test")
    write_json(out, probe_tasks(train, test, probe, runtime, seed))


if __name__ == "__main__":
    run(probe)
