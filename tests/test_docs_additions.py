"""A method, a stage and a source are added as docs say, literally, in a copy of the project."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from rsa.evaluation.features import write_features, write_origin
from tests.conftest import TINY
from tests.engines.project import Project
from tests.pages import copy_checkout, dvc_entry, merged, parsed, titled

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
    copy_checkout(folder)
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
