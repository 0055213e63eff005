"""README and docs name what there is: links, files, commands, params and recipes."""

import importlib
import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from pipeline import finished
from pipeline.stage import flags_of
from rsa import recipes
from rsa.commands import commands
from rsa.params.load import load
from tests.conftest import TINY
from tests.engines.imports import ROOT
from tests.pages import FENCE, PAGES, TRACKED, Block, blocks, dvc_entry, merged, parsed, titled

# ---- links and names -----------------------------------------------------------------------------


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path):
    """Names in capitals stand for others; the recipes make some files."""
    made = {block.title for language in ("python", "yaml") for block in titled(language)}
    known = {*TRACKED, *made} | {str(parent) for name in TRACKED for parent in Path(name).parents}
    tops = {name.partition("/")[0] for name in TRACKED if "/" in name} - {".dvc", "live"}
    names = [name.rstrip("/") for name in re.findall(r"`([\w./-]+)`", FENCE.sub("", page.read_text()))]
    for name in names:
        if name.partition("/")[0] in tops and not re.search(r"\b[A-Z]{3,}", name):
            assert name in known, name
        elif re.fullmatch(r"\w+\.(py|toml)", name):
            assert name in {Path(each).name for each in known}, name


# ---- commands ------------------------------------------------------------------------------------


def command_lines(page: Path) -> Iterator[list[str]]:
    """The commands of blocks without a language and of inline code, as words."""
    text = page.read_text()
    lines = [line for block in blocks(page) if not block.language for line in block.text.splitlines()]
    for line in (*lines, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))):
        for part in re.split(r" && | \| ", line.split(" #")[0]):
            if re.match(r"(\w+\$ |[A-Z_]+=\S+ |\s)*(python|make|dvc|pytest|snakemake) ", part):
                words = shlex.split(part)
                yield words[next(i for i, word in enumerate(words) if word in ("python", "make", "dvc", "pytest", "snakemake")) :]


def check_command(words: list[str]) -> None:
    match words:
        case ["python", "-m", "rsa", "--help"]:
            pass
        case ["python", "-m", "rsa", name, *arguments]:
            command = commands.get_command(click.Context(commands), name)
            assert command is not None, f"no subcommand {name}"
            command.make_context(name, arguments)
        case ["python", "-m", "pipeline.finished", *arguments]:
            finished.parser().parse_args(arguments)
        case ["python", "-m", module, *arguments] if module.startswith("pipeline."):
            stage = getattr(importlib.import_module(module), module.removeprefix("pipeline."))
            assert {word.removeprefix("--") for word in arguments if word.startswith("--")} == set(flags_of(stage))
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module) is not None
        case ["python", script]:
            assert (ROOT / script).is_file()
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text()
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
        case ["pytest", *arguments]:
            assert all((ROOT / word).exists() for word in arguments if "/" in word)
        case ["dvc", *_]:
            stages = parsed((ROOT / "dvc.yaml").read_text())["stages"].keys() | parsed(dvc_entry())
            for word in words:
                if found := re.fullmatch(r"([a-z_]+)@[\w-]+", word):
                    assert found[1] in stages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path):
    found = list(command_lines(page))
    assert found
    for words in found:
        try:
            check_command(words)
        except (AssertionError, click.ClickException) as why:
            pytest.fail(f"{shlex.join(words)}: {getattr(why, 'message', why)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_git_ignores_what_commands_leave(page: Path):
    left = [
        word for words in command_lines(page) for flag, word in itertools.pairwise(words) if flag in ("--out", "--report", "pack")
    ]
    for name in left:
        ignored = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", f"{name}/x"], cwd=ROOT).returncode == 0
        assert ignored or re.search(r"[A-Z]{3,}", name), f"{name}: .gitignore must have what a command of {page.name} leaves"


# ---- params and recipes --------------------------------------------------------------------------


EXAMPLES = [block for page in PAGES for block in blocks(page) if block.language == "yaml" and not block.title]


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: " ".join(block.text.split()[:2]))
def test_examples_of_params_are_valid(block: Block, tmp_path: Path):
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(merged(parsed(TINY.read_text()), parsed(block.text)), path)
    load(path)


RECIPES = [block for block in titled("yaml") if block.title.startswith("recipes/")]


@pytest.mark.parametrize("block", RECIPES, ids=lambda block: block.title)
def test_examples_of_recipes_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "recipes")
    (tmp_path / block.title).write_text(block.text)
    recipes.write(Path(block.title).stem, tmp_path / "params.yaml")
    p = load(tmp_path / "params.yaml")
    assert p.experiment.methods == parsed(block.text)["experiment"]["methods"]
