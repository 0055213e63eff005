"""Stage `detect`: train a detector on an encoder, frozen or fine-tuned, and measure its average precision.

out: a JSON file, task -> score
"""

from pathlib import Path
from typing import Annotated

from pipeline.stage import run, write_json
from rsa.evaluation.detection import detection_scores
from rsa.models.encoder import open_encoder
from rsa.models.pixels import Pixels
from rsa.params.detection import Detection
from rsa.params.model import Model
from rsa.params.runtime import Runtime
from rsa.params.sections import At
from rsa.params.views import ChannelStatistics
from rsa.training.checkpoint import Checkpoints
from rsa.training.device import setup


def detect(
    model: Model,
    normalize: Annotated[ChannelStatistics, At("views.normalize")],
    settings: Annotated[Detection, At("detection.{name}")],
    runtime: Runtime,
    name: str,
    seed: int,
    encoder: Path,
    data: Path,
    out: Path,
    work: Path,
) -> None:
    """Train and test with the settings of `detection.NAME` on what stage `detection_data` has made of its data.

    `work` keeps checkpoints.
    """
    device = setup(runtime.device, runtime.threads.evaluation, seed, kernels=runtime.kernels)
    backbone = open_encoder(model, encoder)
    if isinstance(backbone, Pixels):  # no layers for a detector to stand on
        write_json(out, {})
        return
    checkpoints = Checkpoints(work, runtime.checkpoint.steps, runtime.checkpoint.minutes)
    write_json(
        out, detection_scores(name, settings, backbone, normalize, data, runtime.threads.evaluation, seed, device, checkpoints)
    )


if __name__ == "__main__":
    run(detect)
