"""The params.yaml of each recipe (rsa.recipes)."""

import functools
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import modify_yaml
from ruamel.yaml import YAML

from rsa import recipes
from rsa.params.load import load
from rsa.recipes.merge import kind

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes"
DEFAULTS = YAML(typ="safe").load((FOLDER / "defaults.yaml").read_text())

text = functools.cache(recipes.text)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_short_and_says_what_it_reproduces(name: str):
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 45
    head = [line for line in lines if line.startswith("#")]
    for part in ("# Source: ", "# GPU hours: ", "# Published: "):
        assert any(line.startswith(part) for line in head), part
    assert recipes.headline(name) == lines[0].removeprefix("# ")


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_repeats_no_default(name: str):
    """But for `experiment`, which it has in full."""
    recipe = YAML(typ="safe").load((FOLDER / f"{name}.yaml").read_text())
    assert recipe["experiment"].keys() == DEFAULTS["experiment"].keys()
    for section, values in recipe.items():
        if section not in ("experiment", "datasets", "detection", "robustness"):
            assert repeated(values, DEFAULTS[section], section) == []


def repeated(change: Any, default: Any, key: str) -> list[str]:
    if isinstance(change, dict) and isinstance(default, dict):
        if kind(change) not in (None, kind(default)):  # it replaces the default as a whole
            return []
        common = change.keys() & default.keys()
        return [each for below in common for each in repeated(change[below], default[below], f"{key}.{below}")]
    return [key] if change == default and change is not None else []


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_written_as_a_valid_params_yaml_of_which_dvc_changes_edited_lines_alone(name: str, tmp_path: Path):
    path = tmp_path / "params.yaml"
    recipes.write(name, path)
    before = path.read_text()
    assert before == text(name)
    assert before.startswith(f"# {recipes.headline(name)}\n")
    p = load(path)
    assert p.controls == p.experiment.methods[:2] == ["pixels", "random"]
    assert list(p.methods) == p.experiment.methods
    with modify_yaml(str(path)) as document:
        document["pretrain"]["epochs"] = 7
        document["methods"][document["experiment"]["baseline"]]["optimizer"]["clip_each"] = 1.5
    changed = [(old, new) for old, new in zip(before.splitlines(), path.read_text().splitlines(), strict=True) if old != new]
    assert [new.partition("#")[0].strip() for _, new in changed] == ["epochs: 7", "clip_each: 1.5"]


def test_every_key_has_its_comment_from_the_defaults():
    written = text("quickstart")
    for line in (FOLDER / "defaults.yaml").read_text().split("\ndatasets:")[0].splitlines():
        if line.startswith("  ") and "# " in line:
            assert line.partition("# ")[2] in written
    for key, comment in (
        ("  size: 16                      ", "px"),
        ("  logging: []                   ", "trackers that get each run's curve: tensorboard, wandb, mlflow; in logs/, offline"),
        ("    test_fraction: 0.2          ", "of each class: the digits that `digits` holds out"),
        ("detection: {}                   ", "name -> a detector to be trained on the encoder, and its data; {}: none"),
    ):
        assert f"{key}# {comment}\n" in written


def test_no_comment_of_the_defaults_is_lost():
    """All recipes together have each of them."""
    written = "".join(map(text, recipes.names()))
    comments = [line.partition(" # ")[2] for line in (FOLDER / "defaults.yaml").read_text().split("\noptional:")[0].splitlines()]
    assert [comment for comment in comments if comment and f"# {comment}\n" not in written] == []


def test_an_entry_has_the_comments_of_its_kind():
    """An optimiser's are those of the defaults' optimisers of any method, a folder's not those of torchvision's data sets."""
    written = text("imagenet_hard_simsiam")
    assert "      base_lr: 0.05             # per 256 images of a batch\n" in written
    assert "    train: train                # the folder of class folders inside\n" in written
    assert "      candidates: 4             # views of an image" in written


def test_lines_are_not_broken():
    written = text("imagenet_detection")
    assert [line for line in written.splitlines() if line != line.rstrip()] == []
    assert "      - aeroplane\n" in written


def test_params_yaml_is_the_quickstart():
    assert (ROOT / "params.yaml").read_text() == text("quickstart")


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"recipe must be the name of a file in recipes/, got 'cifar01' \(did you mean cifar10"):
        recipes.compose("cifar01")


def test_the_defaults_are_no_recipe():
    assert "defaults" not in recipes.names()
    assert len(recipes.names()) == len(list(FOLDER.glob("*.yaml"))) - 1
