"""Stage `robustness`: the accuracy of a frozen encoder under common corruptions of the test images.

out: a JSON file, task -> score
"""

from pathlib import Path
from typing import Annotated

from threadpoolctl import threadpool_limits

from pipeline.stage import run, write_json
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.evaluation.encode import frozen
from rsa.evaluation.features import read_features
from rsa.evaluation.robustness import robustness_scores
from rsa.evaluation.score import with_origin
from rsa.models.encoder import open_encoder
from rsa.origin import Origin
from rsa.params.evaluation import Evaluation
from rsa.params.model import Model
from rsa.params.robustness import Robustness
from rsa.params.runtime import Runtime
from rsa.params.sections import At
from rsa.params.views import ChannelStatistics
from rsa.training.device import setup


def robustness(
    model: Model,
    normalize: Annotated[ChannelStatistics, At("views.normalize")],
    evaluation: Evaluation,
    settings: Annotated[Robustness, At("robustness.{dataset}")],
    runtime: Runtime,
    dataset: str,
    seed: int,
    encoder: Path,
    shards: Path,
    features: Path,
    out: Path,
    origin: Origin,
) -> None:
    """Test a linear probe, fitted on the clean `features`, on corrupted images of `shards`; `seed` draws all randomness."""
    threads = runtime.threads.evaluation
    device = setup(runtime.device, threads, seed, kernels=runtime.kernels)
    encode = frozen(open_encoder(model, encoder), Normalize(normalize, device))
    train, test, made_from = read_features(features)
    with threadpool_limits(threads):
        split = Split(shards.parent, "test")
        scores = robustness_scores(settings, evaluation, threads, encode, train, test, split, seed, device)
    write_json(out, with_origin(scores, made_from | origin))


if __name__ == "__main__":
    run(robustness)
