"""`rsa recipe` overwrites what is a recipe as it was written, and nothing that somebody has edited."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rsa import recipes
from rsa.commands.recipe import recipe


def run(*arguments: str) -> Result:
    return CliRunner().invoke(recipe, arguments)


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    recipes.write("quickstart", path)
    return path


def test_it_writes_where_nothing_is(tmp_path: Path):
    out = tmp_path / "params.yaml"
    done = run("cifar10", "--out", str(out))
    assert (done.exit_code, done.output) == (0, f"{out}: {recipes.headline('cifar10')}\n")
    assert out.read_text() == recipes.text("cifar10")


def test_a_recipe_as_it_was_written_is_overwritten(params: Path):
    assert run("cifar10", "--out", str(params)).exit_code == 0
    assert params.read_text() == recipes.text("cifar10")


def test_edited_values_are_kept(params: Path):
    edited = params.read_text().replace("epochs: 40 ", "epochs: 41 ").replace("momentum: 0.9\n", "momentum: 0.8\n")
    params.write_text(edited)
    done = run("quickstart", "--out", str(params))
    assert str(done.exception) == (
        f"{params} exists with other values (pretrain.epochs, methods.byol.optimizer.momentum, methods.rsa.optimizer.momentum) "
        "than quickstart's: --force overwrites it"
    )
    assert params.read_text() == edited
    assert "and " in str(run("cifar10", "--out", str(params)).exception)
    assert run("quickstart", "--out", str(params), "--force").exit_code == 0
    assert params.read_text() == recipes.text("quickstart")


def test_edited_comments_are_kept(params: Path):
    params.write_text(params.read_text() + "# mine\n")
    assert "exists with other comments than quickstart's" in str(run("quickstart", "--out", str(params)).exception)


def test_list_has_every_recipe_and_what_it_is_for():
    lines = run("--list").output.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert lines[recipes.names().index("quickstart")].endswith(recipes.headline("quickstart"))


def test_a_recipe_must_be_named():
    assert "name a recipe; --list lists them" in run().output


def test_an_unknown_recipe_is_refused(params: Path):
    assert "(did you mean quickstart?)" in str(run("quickstrat", "--out", str(params)).exception)
