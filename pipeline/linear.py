"""Stage `linear`: a published linear protocol, trained on augmented images of a dataset through a frozen encoder.

out: a JSON file, protocol -> score (rsa.evaluation.score)
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.data.index import Split
from rsa.evaluation.linear_sgd import Frozen, linear_sgd
from rsa.models.backbones import build_backbone
from rsa.models.encoder import load_encoder
from rsa.params import Params
from rsa.training.device import setup

READS = (
    "model",
    "evaluation",
    "linear.crop_scale",
    "linear.held_out",
    "linear.best_on_test",
    "linear.precision",
    "linear.protocols.{protocol}",
)


def linear(p: Params, encoder: Path, shards: Path, seed: int, protocol: str, out: Path) -> None:
    """Score the encoder under `protocol`; `seed` draws the held-out part, the batches and the crops."""
    device = setup(p.evaluation.device, p.evaluation.threads, seed)
    backbone = load_encoder(build_backbone(p.model), encoder)
    frozen = Frozen(backbone, device, p.evaluation, p.linear.precision == "bf16")
    described = p.linear.protocols[protocol]
    write_json(
        out, {protocol: linear_sgd(protocol, described, p.linear, frozen, Split(shards, "train"), Split(shards, "test"), seed)}
    )


if __name__ == "__main__":
    run(linear, READS)
