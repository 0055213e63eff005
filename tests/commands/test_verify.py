"""`rsa verify` on sound and damaged shards."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rsa.commands import commands
from rsa.data.shards import write_shards
from tests.data.photos import encoded, photographs, shard_params, source_of


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    images = {f"photo_{i}": encoded(image, quality=90) for i, image in enumerate(photographs(8))}
    write_shards(source_of(images), shard_params(samples_per_shard=10), {}, folder, tmp_path / "work")
    return folder


def verify(*folders: Path) -> Result:
    return CliRunner().invoke(commands, ["verify", *map(str, folders)])


def test_sound_shards_are_as_recorded(shards: Path) -> None:
    found = verify(shards)
    assert (found.exit_code, found.output) == (0, f"{shards}: all shards and samples are as recorded\n")


def test_every_fault_is_named_and_counted(shards: Path) -> None:
    damaged = [shards / "train" / "000000.tar", shards / "test" / "000000.tar"]
    for tar in damaged:
        tar.write_bytes(tar.read_bytes()[:-1])
    found = verify(shards)
    assert found.exit_code == 1
    *faults, last = found.stderr.splitlines()
    assert [fault.partition(":")[0] for fault in faults] == [str(tar) for tar in damaged]
    assert last == (f"rsa verify: error: {len(damaged)} faults: run the stage `shard` again (`dvc repro` restores or remakes it)")


def test_at_least_one_folder_is_wanted() -> None:
    found = verify()
    assert found.exit_code == 2
    assert "Missing argument 'SHARDS...'" in found.stderr
