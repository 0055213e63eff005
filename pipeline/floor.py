"""Stage `floor`: the same tasks for what has learnt nothing, a random-initialised encoder or the pixels themselves.

The random encoder of a seed is the one that every method with that seed starts from.
out/: probe.json, transfer_DATASET.json for every transfer dataset; of the random encoder also what `linear`, `finetune` and
`robustness` write
"""

import tempfile
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from pipeline.stage import run, write_json
from rsa.data.index import Split
from rsa.evaluation.encode import encode_split, frozen, pixels
from rsa.evaluation.features import Features, read_features, write_features
from rsa.evaluation.finetune import finetune, labelled
from rsa.evaluation.linear_sgd import Frozen, linear_sgd
from rsa.evaluation.robustness import robustness_scores
from rsa.evaluation.tasks import probe_tasks, transfer_tasks
from rsa.models.backbones import build_backbone
from rsa.params import Params
from rsa.training.device import setup

READS = (
    "experiment.dataset",
    "experiment.transfer",
    "model",
    "evaluation",
    "probe",
    "transfer",
    "linear",
    "finetune",
    "robustness",
)


def floor(p: Params, floor: str, seed: int, data: Path, out: Path) -> None:
    """Score the floor `random` or `pixels` on every dataset of the experiment, whose shards lie in `data`."""
    device = setup(p.evaluation.device, p.evaluation.threads, seed)
    encode = pixels if floor == "pixels" else frozen(build_backbone(p.model), device)

    def features(dataset: str, folder: Path) -> tuple[Features, Features]:
        folder.mkdir()
        for name in ("train", "test"):
            split = Split(data / dataset, name)
            write_features(folder, name, split.labels, encode_split(encode, split, p.evaluation, device))
        return read_features(folder, "train"), read_features(folder, "test")

    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        train, test = features(p.experiment.dataset, Path(scratch) / "probe")
        write_json(out / "probe.json", probe_tasks(train, test, p.probe, seed))
        for dataset in p.experiment.transfer:
            train, test = features(dataset, Path(scratch) / dataset)
            write_json(out / f"transfer_{dataset}.json", transfer_tasks(train, test, p.probe, p.transfer, seed))
        for dataset, section in p.robustness.items() if floor == "random" else ():
            clean = features(dataset, Path(scratch) / f"robustness_{dataset}")
            split = Split(data / dataset, "test")
            with threadpool_limits(p.evaluation.threads):
                scores = robustness_scores(section, p.evaluation, encode, *clean, split, seed, device)
            write_json(out / f"robustness_{dataset}.json", scores)
    if floor == "random":
        score_untrained(p, seed, data, out)


def score_untrained(p: Params, seed: int, data: Path, out: Path) -> None:
    """What `linear` and `finetune` do, from random weights: fine-tuning is then training from scratch."""
    device = setup(p.evaluation.device, p.evaluation.threads, seed)

    def untrained() -> nn.Module:
        torch.manual_seed(seed)
        return build_backbone(p.model)

    for dataset in p.linear.datasets:
        train, test = Split(data / dataset, "train"), Split(data / dataset, "test")
        for name, protocol in p.linear.protocols.items():
            frozen_encoder = Frozen(untrained(), device, p.evaluation, p.linear.precision == "bf16")
            score = linear_sgd(name, protocol, p.linear, frozen_encoder, train, test, seed)
            write_json(out / f"linear_{dataset}_{name}.json", {name: score})
    for dataset in p.finetune.datasets:
        train, test = Split(data / dataset, "train"), Split(data / dataset, "test")
        for percent in p.finetune.label_percents:
            score = finetune(untrained(), p.finetune, p.evaluation, labelled(train, percent, seed), test, seed, device)
            folder = out / f"finetune_{dataset}_{percent}"
            folder.mkdir()
            write_json(folder / "scores.json", {f"finetune_{percent}%": score})


if __name__ == "__main__":
    run(floor, READS)
