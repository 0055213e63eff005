"""Small real photographs as shards."""

from pathlib import Path

import pytest

from rsa.data.index import Split
from rsa.data.shards import write_shards
from tests.data.photos import encoded, photographs, shard_params, source_of


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    return {f"photo_{i:03d}": encoded(image, quality=90) for i, image in enumerate(photographs(54))}


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, images: dict[str, bytes]) -> Path:
    """50 training and 4 test photographs in shards of 16."""
    folder = tmp_path_factory.mktemp("shards") / "photos"
    folder.mkdir()
    write_shards(source_of(images), shard_params(), {"dataset": "photos"}, folder, folder.parent / "work")
    return folder


@pytest.fixture
def train(shards: Path) -> Split:
    return Split(shards, "train")
