"""Stage `linear`: a published linear protocol, trained on augmented images of a dataset through a frozen encoder.

out: a JSON file, protocol -> score (rsa.evaluation.score)
"""

from pathlib import Path
from typing import Annotated

from pipeline.stage import run, write_json
from rsa.data.index import Split, image_digests
from rsa.data.normalize import Normalize
from rsa.evaluation.linear_sgd import Frozen, linear_sgd
from rsa.evaluation.score import with_origin
from rsa.models.encoder import open_encoder, origin_of
from rsa.models.pixels import Pixels
from rsa.origin import Origin
from rsa.params.evaluation import Evaluation
from rsa.params.linear import ImageProtocol
from rsa.params.model import Model
from rsa.params.runtime import Runtime
from rsa.params.sections import At
from rsa.params.views import ChannelStatistics
from rsa.training.checkpoint import Checkpoints
from rsa.training.device import setup


def linear(
    model: Model,
    normalize: Annotated[ChannelStatistics, At("views.normalize")],
    evaluation: Evaluation,
    settings: Annotated[ImageProtocol, At("linear.protocols.{protocol}")],
    runtime: Runtime,
    encoder: Path,
    shards: Path,
    seed: int,
    protocol: str,
    out: Path,
    work: Path,
    origin: Origin,
) -> None:
    """Score the encoder under `protocol`; `seed` draws the held-out part, the batches and the crops.

    `work` keeps checkpoints.
    """
    device = setup(runtime.device, runtime.threads.evaluation, seed, kernels=runtime.kernels)
    backbone = open_encoder(model, encoder)
    if isinstance(backbone, Pixels) and settings.pooling != ["avg"]:  # no class token
        write_json(out, {})
        return
    frozen = Frozen(backbone, Normalize(normalize, device), evaluation, runtime.threads.evaluation)
    train, test = Split(shards.parent, "train"), Split(shards.parent, "test")
    checkpoints = Checkpoints(work, runtime.checkpoint.steps, runtime.checkpoint.minutes)
    scores = {protocol: linear_sgd(protocol, settings, frozen, train, test, seed, checkpoints)}
    write_json(out, with_origin(scores, origin | origin_of(encoder) | image_digests(shards.parent)))


if __name__ == "__main__":
    run(linear)
