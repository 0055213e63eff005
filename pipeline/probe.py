"""Stage `probe`: classifiers on frozen features of the dataset that was pretrained on.

out: a JSON file, task -> score (rsa.evaluation.score)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.features import read_features
from rsa.evaluation.score import with_origin
from rsa.evaluation.tasks import probe_tasks
from rsa.origin import Origin
from rsa.params.probe import Probe
from rsa.params.runtime import Runtime


def probe(probe: Probe, runtime: Runtime, seed: int, features: Path, out: Path, origin: Origin) -> None:
    """Score every protocol; `seed` draws the held-out part."""
    train, test, made_from = read_features(features)
    scores = probe_tasks(train, test, probe, runtime, seed)
    write_json(out, with_origin(scores, made_from | origin))


if __name__ == "__main__":
    run(probe)
