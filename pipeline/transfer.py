"""Stage `transfer`: classifiers on frozen features of another dataset.

out: a JSON file, task -> score (rsa.evaluation.score)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.features import read_features
from rsa.evaluation.score import with_origin
from rsa.evaluation.tasks import transfer_tasks
from rsa.origin import Origin
from rsa.params.probe import Probe, Transfer
from rsa.params.runtime import Runtime


def transfer(probe: Probe, transfer: Transfer, runtime: Runtime, seed: int, features: Path, out: Path, origin: Origin) -> None:
    """Score every protocol and few-shot; `seed` draws the held-out part and the labels."""
    train, test, made_from = read_features(features)
    scores = transfer_tasks(train, test, probe, transfer, runtime, seed)
    write_json(out, with_origin(scores, made_from | origin))


if __name__ == "__main__":
    run(transfer)
