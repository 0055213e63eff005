"""python -m pipeline.verify data/shards/DATASET...: check sharded datasets in full; names every fault, exits with 1 if any."""

import sys
from pathlib import Path

from rsa.data.verify import verify


def main(folders: list[str]) -> None:
    """Verify each folder."""
    if not folders:
        sys.exit("verify: error: name at least one folder, as data/shards/digits")
    try:
        faults = [fault for folder in folders for fault in verify(Path(folder))]
    except ValueError as why:
        sys.exit(f"verify: error: {why}")
    if faults:
        sys.exit(
            "\n".join(
                [*faults, f"verify: {len(faults)} faults: run the `shard` stage again (`dvc repro` restores or remakes it)"]
            )
        )
    print(f"verify: {', '.join(folders)}: all shards and samples are as recorded")


if __name__ == "__main__":
    main(sys.argv[1:])
