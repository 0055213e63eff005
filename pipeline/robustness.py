"""Stage `robustness`: the accuracy of a frozen encoder under common corruptions of the test images.

out: a JSON file, task -> score
"""

from pathlib import Path

from threadpoolctl import threadpool_limits

from pipeline.stage import run, write_json
from rsa.data.index import Split
from rsa.evaluation.encode import frozen
from rsa.evaluation.features import read_features
from rsa.evaluation.robustness import robustness_scores
from rsa.models.backbones import build_backbone
from rsa.models.encoder import load_encoder
from rsa.params import Params
from rsa.training.device import setup

READS = ("model", "evaluation", "robustness.{dataset}")


def robustness(p: Params, dataset: str, seed: int, encoder: Path, shards: Path, features: Path, out: Path) -> None:
    """A linear probe on the clean `features`, tested on corrupted images of `shards`; `seed` draws what is random."""
    device = setup(p.evaluation.device, p.evaluation.threads, seed)
    encode = frozen(load_encoder(build_backbone(p.model), encoder), device)
    train, test = read_features(features, "train"), read_features(features, "test")
    with threadpool_limits(p.evaluation.threads):
        scores = robustness_scores(p.robustness[dataset], p.evaluation, encode, train, test, Split(shards, "test"), seed, device)
    write_json(out, scores)


if __name__ == "__main__":
    run(robustness, READS)
