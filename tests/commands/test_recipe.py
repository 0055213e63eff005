"""`rsa recipe` overwrites what is a recipe as it was written, and nothing that somebody has edited."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rsa import recipes
from rsa.commands import commands


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["recipe", *arguments])


def refused(*arguments: str) -> str:
    """The one line that says why."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("rsa recipe: error: ")
    return line.removeprefix("rsa recipe: error: ")


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
    edited = params.read_text().replace("epochs: 16 ", "epochs: 23 ").replace("momentum: 0.9\n", "momentum: 0.8\n")
    params.write_text(edited)
    assert refused("quickstart", "--out", str(params)) == (
        f"{params} exists with other values (pretrain.epochs, methods.byol.optimizer.momentum, methods.rsa.optimizer.momentum) "
        "than quickstart's: --force overwrites it"
    )
    assert params.read_text() == edited
    assert " more) than cifar10's" in refused("cifar10", "--out", str(params))
    assert run("quickstart", "--out", str(params), "--force").exit_code == 0
    assert params.read_text() == recipes.text("quickstart")


def test_edited_comments_are_kept(params: Path):
    params.write_text(params.read_text() + "# mine\n")
    assert "exists with other comments than quickstart's" in refused("quickstart", "--out", str(params))


def test_list_has_every_recipe_and_what_it_is_for():
    lines = run("--list").output.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert lines[recipes.names().index("quickstart")].endswith(recipes.headline("quickstart"))


def test_a_recipe_must_be_named():
    done = run()
    assert done.exit_code == 2
    assert "name a recipe; --list lists them" in done.stderr


def test_an_unknown_recipe_is_refused_with_the_nearest(params: Path):
    assert refused("quickstrat", "--out", str(params)).endswith("got 'quickstrat' (did you mean quickstart?)")
    assert params.read_text() == recipes.text("quickstart")


def test_a_file_that_cannot_be_written_or_is_no_recipe_is_named(tmp_path: Path):
    assert f"{tmp_path}/none/params.yaml" in refused("quickstart", "--out", str(tmp_path / "none" / "params.yaml"))
    (tmp_path / "broken.yaml").write_text("experiment: [")
    done = run("quickstart", "--out", str(tmp_path / "broken.yaml"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"rsa recipe: error: {tmp_path}/broken.yaml is not valid YAML: ")
    assert (tmp_path / "broken.yaml").read_text() == "experiment: ["
