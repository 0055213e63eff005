"""Stage `transfer`: what frozen features are worth on another dataset.

out: a JSON file, task -> score (rsa.evaluation.score)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.features import read_features
from rsa.evaluation.tasks import transfer_tasks
from rsa.params import Params

READS = ("probe", "transfer")


def transfer(p: Params, seed: int, features: Path, out: Path) -> None:
    """Every protocol and few-shot; `seed` draws the held-out part and the labels."""
    train, test = read_features(features, "train"), read_features(features, "test")
    write_json(out, transfer_tasks(train, test, p.probe, p.transfer, seed))


if __name__ == "__main__":
    run(transfer, READS)
