"""Stage `extract`: the frozen features of an encoder on the training and test split of a dataset.

out/: train.npy, train_labels.npy, test.npy, test_labels.npy, origin.json (see rsa.evaluation.features)
"""

from pathlib import Path
from typing import Annotated

from pipeline.stage import run
from rsa.data.index import Split, image_digests
from rsa.data.normalize import Normalize
from rsa.evaluation.encode import encode_split, frozen
from rsa.evaluation.features import write_features, write_origin
from rsa.models.encoder import open_encoder, origin_of
from rsa.origin import Origin
from rsa.params.evaluation import Evaluation
from rsa.params.model import Model
from rsa.params.runtime import Runtime
from rsa.params.sections import At
from rsa.params.views import ChannelStatistics
from rsa.training.device import setup


def extract(
    model: Model,
    normalize: Annotated[ChannelStatistics, At("views.normalize")],
    evaluation: Evaluation,
    runtime: Runtime,
    encoder: Path,
    shards: Path,
    out: Path,
    origin: Origin,
) -> None:
    """Write the features of both splits of the dataset with the manifest `shards`."""
    device = setup(runtime.device, runtime.threads.evaluation, seed=0, kernels=runtime.kernels)
    encode = frozen(open_encoder(model, encoder), Normalize(normalize, device))
    for name in ("train", "test"):
        split = Split(shards.parent, name)
        write_features(out, name, split.labels, encode_split(encode, split, evaluation, runtime.threads.evaluation, device))
    write_origin(out, origin | origin_of(encoder) | image_digests(shards.parent))


if __name__ == "__main__":
    run(extract)
