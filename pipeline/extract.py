"""Stage `extract`: the frozen features of an encoder on the training and test split of a dataset.

out/: train.npy, train_labels.npy, test.npy, test_labels.npy (see rsa.evaluation.features)
"""

from pathlib import Path

from pipeline.stage import run
from rsa.data.index import Split
from rsa.evaluation.encode import encode_split, frozen
from rsa.evaluation.features import write_features
from rsa.models.backbones import build_backbone
from rsa.models.encoder import load_encoder
from rsa.params import Params
from rsa.training.device import setup

READS = ("model", "evaluation")


def extract(p: Params, encoder: Path, shards: Path, out: Path) -> None:
    """Write the features of both splits."""
    device = setup(p.evaluation.device, p.evaluation.threads, seed=0)
    encode = frozen(load_encoder(build_backbone(p.model), encoder), device)
    for name in ("train", "test"):
        split = Split(shards, name)
        write_features(out, name, split.labels, encode_split(encode, split, p.evaluation, device))


if __name__ == "__main__":
    run(extract, READS)
