"""Stage `floor`: the same tasks for what has learnt nothing, a random-initialised encoder or the pixels themselves.

The random encoder of a seed is the one that every method with that seed starts from.
out/: probe.json, and transfer_DATASET.json for every transfer dataset
"""

import tempfile
from pathlib import Path

from pipeline.stage import run, write_json
from rsa.data.index import Split
from rsa.evaluation.encode import encode_split, frozen, pixels
from rsa.evaluation.features import Features, read_features, write_features
from rsa.evaluation.tasks import probe_tasks, transfer_tasks
from rsa.models.backbones import build_backbone
from rsa.params import Params
from rsa.training.device import setup

READS = ("experiment.dataset", "experiment.transfer", "model", "evaluation", "probe", "transfer")


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


if __name__ == "__main__":
    run(floor, READS)
