"""Stage `shard`: a source -> WebDataset tars with index and manifest (rsa.data.shards describes the folder)."""

from pathlib import Path

from pipeline.stage import run
from rsa.data.cache import link_shards
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.params import Params, RemoteShards

READS = ("datasets.{dataset}", "shards")


def shard(p: Params, dataset: str, raw: Path, out: Path, work: Path) -> None:
    """Shard one dataset of params.yaml, or link one that is sharded elsewhere; `raw` is its `raw`, watched like every input."""
    described = p.datasets[dataset]
    if isinstance(described, RemoteShards):
        link_shards(described, out)
        return
    source = open_source(described, p.shards.seed)
    write_shards(source, p.shards, {"dataset": dataset, "raw": str(raw), "source": described.model_dump(mode="json")}, out, work)


if __name__ == "__main__":
    run(shard, READS)
