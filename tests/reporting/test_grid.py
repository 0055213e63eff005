"""The commands beside score files name stages that DVC knows."""

import subprocess
import sys

from rsa.params.document import Params
from rsa.reporting.grid import command, score_files
from tests.engines.imports import ROOT
from tests.engines.toy import load_yaml


def stage_names() -> set[str]:
    """Ask DVC for the names of this project's stages, with the params that lie here."""
    python = [sys.executable, "-m", "dvc", "stage", "list", "--name-only", "--all"]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_commands_name_stages_that_dvc_knows(tiny: Params):
    names = stage_names()
    quickstart = tiny.experiment.model_copy(update={"dataset": "translated_digits", "transfer": ["small_digits"]})
    for file in score_files(tiny.model_copy(update={"experiment": quickstart})):
        for method in ("byol", "rsa", "pixels", "random"):
            assert command(method, 0, file).removeprefix("dvc repro ") in names


def test_a_command_has_the_items_in_the_order_of_the_stages_matrix():
    stages = load_yaml(ROOT / "dvc.yaml")["stages"]
    want = {
        "probe": ["method", "seed"],
        "transfer": ["method", "seed", "dataset"],
        "linear": ["method", "seed", "dataset", "protocol"],
        "finetune": ["method", "seed", "dataset", "percent"],
        "detect": ["method", "seed", "detection"],
        "robustness": ["method", "seed", "dataset"],
        "representation_metrics": ["method", "seed"],
    }
    assert {name: list(stages[name]["matrix"]) for name in want} == want
    assert command("rsa", 1, "detect_voc07.json") == "dvc repro detect@rsa-1-voc07"
    assert command("rsa", 1, "robustness_photo_tiles.json") == "dvc repro robustness@rsa-1-photo_tiles"


def test_a_dataset_may_have_an_underscore_where_protocols_have_none():
    assert command("rsa", 1, "linear_photo_tiles_rsa-small.json") == "dvc repro linear@rsa-1-photo_tiles-rsa-small"
    assert command("rsa", 1, "finetune_photo_tiles_10/scores.json") == "dvc repro finetune@rsa-1-photo_tiles-10"
