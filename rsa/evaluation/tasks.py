"""The tasks that every encoder is scored on, and a floor beside it: name -> top-1 in percent and details."""

from typing import Any

from threadpoolctl import threadpool_limits

from rsa.evaluation.features import Features
from rsa.evaluation.few_shot import few_shot
from rsa.evaluation.knn import knn_top1
from rsa.evaluation.linear import linear_probe
from rsa.params import Probe, Transfer

Scores = dict[str, dict[str, Any]]


def probe_tasks(train: Features, test: Features, p: Probe, seed: int) -> Scores:
    """kNN and linear probe."""
    with threadpool_limits(p.threads):
        return {"knn": {"top1": knn_top1(train, test, p.knn)}, "linear": linear_probe(train, test, p.linear, seed)}


def transfer_tasks(train: Features, test: Features, probe: Probe, p: Transfer, seed: int) -> Scores:
    """Linear probe, and few-shot for every number of labels."""
    with threadpool_limits(probe.threads):
        shots = {f"{k}_shot": few_shot(train, test, k, p.draws, seed) for k in p.labels_per_class}
        return {"linear": linear_probe(train, test, probe.linear, seed), **shots}
