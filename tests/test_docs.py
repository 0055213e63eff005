"""README and docs do what they say: recipes are followed literally in a copy of the project, links and commands exist."""

import importlib
import itertools
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline import finished
from pipeline.stage import flags_of
from rsa import recipes
from rsa.commands import commands
from rsa.evaluation.features import write_features, write_origin
from rsa.params.load import load
from tests.conftest import TINY
from tests.engines.imports import ROOT
from tests.engines.project import Project

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRACKED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\0")[:-1]
FENCE = re.compile(r'^```(\w*)(?: title="([^"\n]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PLAN = """
import json
from engines.plan import plan, update_code
update_code()
print(json.dumps({name: stage.stale for name, stage in plan().items()}))
"""
MAKE_UP = """
from pathlib import Path
from dvc.repo import Repo
with Repo() as repo:
    stages = list(repo.index.stages)
    for path in [Path(each.fs_path) for part in ("deps", "outs") for stage in stages for each in getattr(stage, part)]:
        if path.exists():
            continue
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True)
"""


class Block(NamedTuple):
    """A fenced block: its language, the file that it is for, and its text."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def titled(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language and block.title]


def merged(base: Any, change: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return base | {key: merged(base.get(key), value) for key, value in change.items()}


def parsed(text: str) -> Any:
    return YAML(typ="safe").load(text)


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


# ---- a method, a stage and a source, added as docs say -------------------------------------------


def dvc_entry() -> str:
    """The entry of the new stage in dvc.yaml."""
    (entry,) = (block.text for block in titled("yaml") if block.title == "dvc.yaml")
    return entry


def patch(text: str, diff: str) -> str:
    """A text with the hunks of a diff applied; hunks are parted by @@ and found by their lines."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kinds) for kinds in (" -", " +"))
        if old not in text:  # the last line may be the beginning of one
            old, new = old.removesuffix("\n"), new.removesuffix("\n")
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the file"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with all that docs add, and the fingerprints of its code."""
    folder = tmp_path_factory.mktemp("docs") / "project"
    copy = Project(folder, folder.parent / "home")
    for name in TRACKED:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    params = merged(parsed(TINY.read_text()), {"experiment": {"seeds": [0], "transfer": []}})
    del params["datasets"]["photo_tiles"]
    for block in titled("yaml"):
        if block.title == "params.yaml":
            params = merged(params, parsed(block.text))
    YAML(typ="safe").dump(params, folder / "params.yaml")
    for block in titled("python"):
        assert not (folder / block.title).exists()
        (folder / block.title).write_text(block.text)
    for block in titled("diff"):
        (folder / block.title).write_text(patch((folder / block.title).read_text(), block.text))
    copy.edit("dvc.yaml", "\n  report:\n", f"\n{dvc_entry()}\n  report:\n")
    draw_birds(folder / params["datasets"]["birds"]["raw"], params["datasets"]["birds"]["file"])
    copy.call("git", "init", "--quiet", "--initial-branch", "main")
    copy.dvc("repro", "--quiet", "--single-item", "code")
    return copy


def draw_birds(folder: Path, table: str) -> None:
    """Images of two classes, and the file that lists them."""
    rows = ["path,label,split"]
    for label, color in (("robin", "red"), ("jay", "blue")):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            name = f"{label}/{number}.png"
            Image.new("RGB", (8 + number, 8), color).save(folder / name)
            rows.append(f"{name},{label},{'test' if number > 2 else 'train'}")
    (folder / table).write_text("\n".join(rows) + "\n")


def test_a_source_can_be_added(project: Project):
    project.dvc("repro", "--quiet", "--single-item", "shard@birds")
    manifest = json.loads((project.folder / "data/shards/birds/manifest.json").read_text())
    assert manifest["classes"] == ["jay", "robin"]
    assert {name: split["samples"] for name, split in manifest["splits"].items()} == {"train": 6, "test": 4}
    assert "as recorded" in project.call("python", "-m", "rsa", "verify", "data/shards/birds")


def test_a_stage_can_be_added(project: Project):
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(40, 8)).astype(np.float32), np.arange(40) % 4
    features = project.folder / "features/byol/s0/digits"
    features.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        write_features(features, split, labels, iter([x]))
    write_origin(features, {})
    project.dvc("repro", "--quiet", "--single-item", "class_norms@byol-0")
    head, *rows = (project.folder / "features/byol/s0/class_norms.csv").read_text().splitlines()
    assert head == "label,images,mean_norm"
    for label, row in enumerate(rows):
        mean = np.sqrt((x[labels == label] ** 2).sum(1)).mean()
        assert [float(value) for value in row.split(",")] == pytest.approx([label, 10, mean], rel=1e-5)
    project.call("python", "-m", "pytest", "tests/engines/test_dvc_yaml.py", "-k", "class_norms or every_stage or short")


def planned(project: Project) -> tuple[set[str], set[str]]:
    """The names of all stages, and of those that are stale."""
    stages = json.loads(project.call("python", "-c", PLAN).splitlines()[-1])
    return set(stages), {name for name, stale in stages.items() if stale}


def test_a_method_can_be_added_and_changed_without_the_others(project: Project):
    for stage in ("shard@digits", "pretrain@align_uniform-0"):
        project.dvc("repro", "--quiet", "--single-item", stage)
    last = (project.folder / "runs/align_uniform/s0/curve.csv").read_text().splitlines()
    assert {"loss", "alignment", "uniformity"} <= set(last[0].split(","))
    project.call("python", "-c", MAKE_UP)
    project.dvc("commit", "--force", "--quiet")
    project.call("git", "add", "--all")
    project.call("git", "-c", "user.name=docs", "-c", "user.email=docs@localhost", "commit", "--quiet", "--message", "recorded")

    file, fingerprint = "rsa/methods/align_uniform.py", "code/pretrain/align_uniform"
    project.edit(file, "import math\n", "import math  # of pairs\n")
    stages, stale = planned(project)
    assert stale == set()

    project.edit(file, "exponents = 4 * ", "exponents = 4.0 * ")
    of_method = {name for name in stages if "@align_uniform" in name}
    assert {name.partition("@")[0] for name in of_method} >= {
        "pretrain",
        "extract",
        "probe",
        "representation_metrics",
        "class_norms",
    }
    assert planned(project)[1] == {*of_method, "report"}

    assert fingerprint in project.dvc("status", "pretrain@align_uniform-0")
    project.dvc("get", ".", fingerprint, "--rev", "HEAD", "--out", "before")
    difference = project.call("diff", "before", fingerprint, fails=True)
    assert {line.split("  ")[1] for line in difference.splitlines() if line[0] in "<>"} == {file}


@pytest.mark.slow
def test_a_new_method_is_covered_by_the_general_tests(project: Project):
    files = [f"tests/methods/test_{name}.py" for name in ("choice", "networks", "hard_views")]
    project.call("python", "-m", "pytest", *files, "-k", "align_uniform or every_file")
