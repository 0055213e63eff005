"""Stage `transfer`: classifiers on frozen features of another dataset.

out: a JSON file, task -> score (rsa.evaluation.score)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.features import read_features
from rsa.evaluation.tasks import transfer_tasks
from rsa.params.probe import Probe, Transfer
from rsa.params.runtime import Runtime


def transfer(probe: Probe, transfer: Transfer, runtime: Runtime, seed: int, features: Path, out: Path) -> None:
    """Score every protocol and few-shot; `seed` draws the held-out part and the labels."""
    train, test = read_features(features, "train"), read_features(features, "test")
    write_json(out, transfer_tasks(train, test, probe, transfer, runtime, seed))


if __name__ == "__main__":
    run(transfer)
