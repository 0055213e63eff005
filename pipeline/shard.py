"""Stage `shard`: a source -> WebDataset tars with index and manifest (rsa.data.shards describes the folder)."""

from pathlib import Path

from pipeline.stage import run
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.params import Params

READS = ("datasets.{dataset}", "shards")


def shard(p: Params, dataset: str, raw: Path, out: Path, work: Path) -> None:
    """Shard one dataset of params.yaml; `raw` is its `raw`, watched like every input of a stage."""
    described = p.datasets[dataset]
    source = open_source(described, p.shards.seed)
    write_shards(source, p.shards, {"dataset": dataset, "raw": str(raw), "source": described.model_dump(mode="json")}, out, work)


if __name__ == "__main__":
    run(shard, READS)
