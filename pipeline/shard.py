"""Stage `shard`: a source -> WebDataset tars with index and manifest (rsa.data.shards describes the folder)."""

from pathlib import Path

from pipeline.stage import run
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.params import Params

READS = ("datasets.{dataset}", "shards")


def shard(p: Params, dataset: str, out: Path) -> None:
    """Shard one dataset of params.yaml."""
    described = p.datasets[dataset]
    source = open_source(described, p.shards.seed)
    write_shards(source, p.shards, {"dataset": dataset, "source": described.model_dump(mode="json")}, out)


if __name__ == "__main__":
    run(shard, READS)
