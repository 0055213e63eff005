"""Stage `finetune`: the whole network fine-tuned on a share of a dataset's labels.

out/: scores.json (rsa.evaluation.score), samples.txt (the keys of the labelled images, a line each)
"""

from pathlib import Path
from typing import Annotated

from pipeline.stage import run, write_json
from rsa.data.index import Split, image_digests
from rsa.data.normalize import Normalize
from rsa.evaluation.finetune import finetune as fine_tuned
from rsa.evaluation.finetune import labelled
from rsa.evaluation.score import with_origin
from rsa.models.encoder import open_encoder, origin_of
from rsa.models.pixels import Pixels
from rsa.origin import Origin
from rsa.params.evaluation import Evaluation
from rsa.params.finetune import FinetuneTraining
from rsa.params.model import Model
from rsa.params.runtime import Runtime
from rsa.params.sections import At
from rsa.params.views import ChannelStatistics
from rsa.training.checkpoint import Checkpoints
from rsa.training.device import setup


def finetune(
    model: Model,
    normalize: Annotated[ChannelStatistics, At("views.normalize")],
    evaluation: Evaluation,
    training: Annotated[FinetuneTraining, At("finetune.training")],
    runtime: Runtime,
    encoder: Path,
    shards: Path,
    seed: int,
    percent: int,
    out: Path,
    work: Path,
    origin: Origin,
) -> None:
    """Fine-tune the encoder on `percent` of every class; `seed` draws them, the batches and the crops.

    `work` keeps checkpoints.
    """
    device = setup(runtime.device, runtime.threads.evaluation, seed, kernels=runtime.kernels)
    train = labelled(Split(shards.parent, "train"), percent, seed)
    backbone = open_encoder(model, encoder)
    scores = {}
    if not isinstance(backbone, Pixels):  # they have nothing to tune
        test, threads = Split(shards.parent, "test"), runtime.threads.evaluation
        checkpoints = Checkpoints(work, runtime.checkpoint.steps, runtime.checkpoint.minutes)
        to_input = Normalize(normalize, device)
        scores[f"finetune_{percent}%"] = fine_tuned(
            backbone, training, evaluation, threads, train, test, seed, to_input, checkpoints
        )
    made_from = origin | origin_of(encoder) | image_digests(shards.parent)
    write_json(out / "scores.json", with_origin(scores, made_from))
    (out / "samples.txt").write_text("".join(f"{key}\n" for key in train.keys))


if __name__ == "__main__":
    run(finetune)
