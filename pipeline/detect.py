"""Stage `detect`: train a detector on an encoder, frozen or fine-tuned, and measure its average precision.

out: a JSON file, task -> score
"""

from pathlib import Path
from typing import Annotated

from pipeline.stage import run, write_json
from rsa.evaluation.detection import detection_scores
from rsa.evaluation.score import with_origin
from rsa.models.encoder import open_encoder, origin_of
from rsa.models.pixels import Pixels
from rsa.origin import Origin, of_file
from rsa.params.detection import DetectorTraining
from rsa.params.model import Model
from rsa.params.runtime import Runtime
from rsa.params.sections import At
from rsa.params.views import ChannelStatistics
from rsa.training.checkpoint import Checkpoints
from rsa.training.device import setup


def detect(
    model: Model,
    normalize: Annotated[ChannelStatistics, At("views.normalize")],
    settings: Annotated[DetectorTraining, At("detection.{name}.training")],
    runtime: Runtime,
    name: str,
    seed: int,
    encoder: Path,
    train: Path,
    test: Path,
    out: Path,
    work: Path,
    origin: Origin,
) -> None:
    """Train and test with the settings of `detection.NAME.training` on `train` and `test` of stage `detection_data`.

    `work` keeps checkpoints.
    """
    device = setup(runtime.device, runtime.threads.evaluation, seed, kernels=runtime.kernels)
    backbone = open_encoder(model, encoder)
    if isinstance(backbone, Pixels):  # no layers for a detector to stand on
        write_json(out, {})
        return
    assert train.parent == test.parent
    checkpoints = Checkpoints(work, runtime.checkpoint.steps, runtime.checkpoint.minutes)
    threads = runtime.threads.evaluation
    scores = detection_scores(name, settings, backbone, normalize, train.parent, threads, seed, device, checkpoints)
    images = {"train_images": of_file(train), "test_images": of_file(test)}
    write_json(out, with_origin(scores, origin | origin_of(encoder) | images))


if __name__ == "__main__":
    run(detect)
