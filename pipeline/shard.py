"""Stage `shard`: a source -> WebDataset tars with index and manifest (rsa.data.shards describes the folder)."""

from pathlib import Path
from typing import Annotated

from pipeline.stage import require_same_path, run
from rsa.data.cache import RemoteShards, link_shards
from rsa.data.shards import write_shards
from rsa.data.sources import PRETRAIN, Dataset, Source, open_source
from rsa.params.sections import At, plain
from rsa.params.shards import Shards


def shard(
    settings: Annotated[Dataset, At("datasets.{dataset}")], shards: Shards, dataset: str, raw: Path, out: Path, work: Path
) -> None:
    """Shard one dataset of params.yaml, or link one that is sharded elsewhere; `raw` is its `raw`, watched like every input."""
    require_same_path("raw", raw, f"datasets.{dataset}.raw", settings.raw)
    if isinstance(settings, RemoteShards):
        link_shards(settings, out)
        return
    source = open_source(settings, shards.seed)
    require_two_classes(source, dataset)
    if source.left_out:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in source.left_out.items())
        print(f"shard: {raw} has files that no split has: {listed}", flush=True)
    write_shards(source, shards, {"dataset": dataset, "raw": str(raw), "source": plain(settings)}, out, work)


def require_two_classes(source: Source, dataset: str) -> None:
    """Raise ValueError, before days of pretraining, if no classifier could be trained on the training split."""
    labels = {sample.label for sample in source.splits["train"]}
    if len(labels) < 2:
        raise ValueError(
            f"split 'train' of {dataset} must have images of at least 2 classes, got {source.classes[min(labels)]!r} alone: "
            f"encoders are scored by classification; images for pretraining alone belong to the split {PRETRAIN!r}"
        )


if __name__ == "__main__":
    run(shard)
