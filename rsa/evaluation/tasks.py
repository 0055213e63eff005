"""The tasks that every encoder's features are evaluated on, as task -> score."""

from threadpoolctl import threadpool_limits

from rsa.evaluation.features import Features
from rsa.evaluation.few_shot import few_shot
from rsa.evaluation.knn import knn_probe
from rsa.evaluation.linear import linear_probe
from rsa.evaluation.score import Scores
from rsa.params.probe import KNN, Probe, Transfer
from rsa.params.runtime import Runtime


def probe_tasks(train: Features, test: Features, p: Probe, runtime: Runtime, seed: int) -> Scores:
    """Score every protocol of the `probe` section; a task has the name of its protocol."""
    scores: Scores = {}
    with threadpool_limits(runtime.threads.probe):
        for name, protocol in p.protocols.items():
            if isinstance(protocol, KNN):
                scores[name] = knn_probe(name, protocol, p, train, test, seed)
            else:
                scores[name] = linear_probe(name, protocol, p, train, test, seed, "cuda" if runtime.probe_gpus else None)
    return scores


def transfer_tasks(train: Features, test: Features, probe: Probe, p: Transfer, runtime: Runtime, seed: int) -> Scores:
    """Score the same protocols on another dataset, then few-shot for every number of labels."""
    scores = probe_tasks(train, test, probe, runtime, seed)
    with threadpool_limits(runtime.threads.probe):
        return scores | {f"{k}_shot": few_shot(train, test, k, p.draws, seed) for k in p.labels_per_class}
