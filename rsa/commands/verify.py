"""`rsa verify`: check sharded datasets in full."""

from pathlib import Path

import click

from rsa.commands.options import FOLDER


@click.command()
@click.argument(
    "shards",
    nargs=-1,
    required=True,
    type=FOLDER,
    help="Folders that the stage `shard` made, one for each dataset.",
)
def verify(shards: tuple[Path, ...]) -> None:
    """Check sharded datasets in full and name every fault.

    Sizes and sha256 are compared with the manifest, and every image is decoded. Shards that are kept elsewhere are fetched
    into the cache. Exits with 1 if anything is wrong.

    Example: rsa verify data/shards/digits
    """
    from rsa.data.verify import verify as faults_of

    faults = [fault for folder in shards for fault in faults_of(folder)]
    if faults:
        click.echo("\n".join(faults), err=True)
        raise ValueError(f"{len(faults)} faults: run the stage `shard` again (`dvc repro` restores or remakes it)")
    print(f"{', '.join(map(str, shards))}: all shards and samples are as recorded")
