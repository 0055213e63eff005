"""Every recipe parses, plans under both engines, and its networks and optimisers build."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo

from engines.plan import plan
from rsa import params
from rsa.methods import METHODS, build_method
from rsa.models.backbones import build_backbone
from rsa.training.optim import build_optimizer
from tests.engines.imports import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_networks_views_and_optimisers_build(recipe: Path):
    """On torch's meta device: no memory, no numbers."""
    p = params.load(recipe)
    for name in p.experiment.methods:
        with torch.device("meta"):
            method, views = build_method(p.methods[name], build_backbone(p.model), p.views)
            optimizer = build_optimizer(method.parameters(), method.constant_lr(), p.methods[name].optimizer)
        assert views.views
        trained = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        assert trained > sum(parameter.numel() for parameter in method.backbone.parameters()) * 0.9


@pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")  # of DVC's own library
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_both_engines_plan_it(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """dvc.yaml resolves with it; the Snakefile gets its jobs from the same plan."""
    for name in ("dvc.yaml", "requirements.lock", "weights"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    shutil.copy(recipe, tmp_path / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    Repo.init(str(tmp_path)).close()
    p = params.load(recipe)
    monkeypatch.chdir(tmp_path)
    stages = plan()
    assert all(stage.stale for stage in stages.values())
    runs = {f"{name}-{seed}" for name in p.experiment.methods for seed in p.experiment.seeds}
    assert {name.partition("@")[2] for name in stages if name.startswith("pretrain@")} == runs
    assert {name.partition("@")[2] for name in stages if name.startswith("shard@")} == set(p.datasets)
    assert "report" in stages


def test_every_method_has_a_recipe_or_is_a_reference():
    used = {p.methods[name].method for p in map(params.load, RECIPES) for name in p.experiment.methods}
    assert used >= METHODS.keys() - {"barlow_twins", "moco_v3", "supervised"}
