"""What tests of several folders share: the tiny experiment as params, and edited copies of it as files."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sklearn.linear_model  # noqa: F401 - loads BLAS and OpenMP, which are limited below
import threadpoolctl
import torch
from ruamel.yaml import YAML

from rsa.models.encoder import Description
from rsa.params.document import Params
from rsa.params.load import load
from rsa.params.model import Model
from rsa.params.views import ChannelStatistics

TINY = Path(__file__).parent / "tiny.yaml"
IMAGENET = ChannelStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# pytest-xdist already runs one worker per core: more threads than cores slow lbfgs tenfold.
torch.set_num_threads(1)
threadpoolctl.threadpool_limits(1)


WriteParams = Callable[[dict[str, Any]], Path]


def described(model: Model | dict[str, Any], **changes: Any) -> Description:
    """The description of an encoder with this backbone."""
    values: dict[str, Any] = {
        "method": "byol",
        "seed": 0,
        "model": model,
        "size": 16,
        "interpolation": "linear",
        "normalize": IMAGENET,
        "dataset": "digits",
        "index_sha256": "0" * 64,
        "params_sha256": "1" * 64,
    }
    return Description.model_validate(values | changes)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def tiny() -> Params:
    return load(TINY)


@pytest.fixture
def write_params(tmp_path: Path) -> WriteParams:
    """Write tiny.yaml as params.yaml with some keys changed, by dotted name; the value `...` removes a key."""

    def write(changes: dict[str, Any]) -> Path:
        document = YAML(typ="safe").load(TINY)
        for dotted, value in changes.items():
            *sections, key = dotted.split(".")
            section = document
            for name in sections:
                section = section[name]
            if value is ...:
                del section[key]
            else:
                section[key] = value
        path = tmp_path / "params.yaml"
        YAML(typ="safe").dump(document, path)
        return path

    return write
