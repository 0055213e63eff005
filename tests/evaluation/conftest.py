"""Digits as shards: 16 px, 10 classes, few for training."""

from pathlib import Path

import pytest

from rsa.data.index import Split
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.params.load import load
from tests.conftest import TINY


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "digits"
    folder.mkdir()
    p = load(TINY)
    write_shards(
        open_source(p.datasets["digits"], p.shards.seed), p.shards, {"dataset": "digits"}, folder, folder.parent / "work"
    )
    return folder


@pytest.fixture
def train_split(digits: Path) -> Split:
    return Split(digits, "train")


@pytest.fixture
def test_split(digits: Path) -> Split:
    return Split(digits, "test")
