"""Stage `representation_metrics`: classifier-free metrics of a run's representation at every snapshot of its training.

out: a CSV file, a row per snapshot, columns progress, those of
rsa.evaluation.representation_metrics.RepresentationMetrics, and origin.KEY for each part of the row's origin (rsa.origin)
"""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from pipeline.stage import run
from rsa.data.index import Split, image_digests
from rsa.data.loader import TrainingViews
from rsa.data.normalize import Normalize
from rsa.data.views import candidate_view_pairs
from rsa.evaluation.encode import frozen
from rsa.evaluation.representation_metrics import representation_metrics as measured
from rsa.models.encoder import open_encoder, origin_of, progress_of
from rsa.origin import Origin
from rsa.params.evaluation import Evaluation, RepresentationMetrics
from rsa.params.model import Model
from rsa.params.runtime import Runtime
from rsa.params.views import Views
from rsa.training.device import gpu_number, setup

CROPS = 4  # of each sample; LiDAR needs several views of one sample


def representation_metrics(
    views: Views,
    model: Model,
    evaluation: Evaluation,
    representation_metrics: RepresentationMetrics,
    runtime: Runtime,
    snapshots: Path,
    shards: Path,
    seed: int,
    out: Path,
    origin: Origin,
) -> None:
    """Measure every snapshot on the same views of the same training images, which `seed` draws."""
    threads = runtime.threads.evaluation
    device = setup(runtime.device, threads, seed, kernels=runtime.kernels)
    normalize = Normalize(views.normalize, device)
    paths = sorted(snapshots.glob("*.safetensors"), key=progress_of)
    encoders = [frozen(open_encoder(model, path), normalize) for path in paths]
    split = Split(shards.parent, "train")
    samples = min(representation_metrics.samples, len(split))
    batch_size = min(evaluation.batch_size, samples)
    recipe = candidate_view_pairs(views, CROPS)
    loader = TrainingViews(
        split, recipe, batch_size=batch_size, seed=seed, threads=threads, gpu=gpu_number(device), drop_last=False
    )
    encoded: list[list[Tensor]] = [[] for _ in encoders]
    labels = []
    for done, loaded in zip(range(0, samples, batch_size), loader, strict=False):
        batch = loaded.head(samples - done)  # the last batch may have more than are wanted
        labels.append(batch.samples.labels.cpu())
        for encode, parts in zip(encoders, encoded, strict=True):
            parts.append(torch.stack([torch.from_numpy(encode(view)) for view in batch.views]))
    rows = []
    for path, parts in zip(paths, encoded, strict=True):
        h = torch.cat(parts, 1)  # (2 CROPS, N, D)
        made_from = origin | origin_of(path) | image_digests(shards.parent)
        metrics = measured(h[:CROPS], h[CROPS:], torch.cat(labels))._asdict()
        rows.append({"progress": progress_of(path), **metrics, **{f"origin.{key}": value for key, value in made_from.items()}})
    pd.DataFrame(rows).to_csv(out, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(representation_metrics)
