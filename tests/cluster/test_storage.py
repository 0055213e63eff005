"""S3 (moto's server on loopback) under whole commands: DVC's remote, and stages that train on shards kept there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.code import write_code
from rsa.data import remote
from rsa.data.cache import ShardCache
from rsa.data.files import sha256
from rsa.data.shards import write_shards
from rsa.params.load import load
from tests.conftest import TINY
from tests.data.photos import encoded, photographs, shard_params, source_of
from tests.data.s3 import KEY, SECRET, Faulty, faulty, moto
from tests.engines.agreement import assert_nothing_to_do, changes
from tests.engines.conftest import Base, base  # noqa: F401 - a fixture
from tests.engines.imports import ROOT
from tests.engines.project import Project

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def server() -> Iterator[Faulty]:
    with moto() as port, faulty(port) as proxy:
        yield proxy


@pytest.fixture
def s3(server: Faulty) -> Iterator[Faulty]:
    yield server
    server.inject("")


def assert_no_secret(texts: list[str], *folders: Path) -> None:
    """Neither printed nor in any file; the folders hold something at all."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= len(folders)
    for content in [*(text.encode() for text in texts), *(path.read_bytes() for path in files)]:
        assert KEY.encode() not in content
        assert SECRET.encode() not in content


# ---- DVC's remote ----


@pytest.mark.usefixtures("s3")
def test_a_clone_elsewhere_has_nothing_to_do_after_dvc_pull(base: Base, tmp_path: Path):  # noqa: F811
    pytest.importorskip("dvc_s3", reason="dvc-s3 isn't installed")
    here = base.built.copy(tmp_path / "here")
    printed = [
        here.dvc("remote", "add", "--force", "--default", "store", "s3://shards/dvc"),
        here.dvc("remote", "modify", "store", "verify", "true"),
        here.dvc("push", "--verbose"),
        here.call("git", "commit", "--quiet", "--all", "--message", "A remote on S3"),
        here.call("git", "clone", "--quiet", ".", str(tmp_path / "elsewhere")),
    ]
    (tmp_path / "home").mkdir()
    elsewhere = Project(tmp_path / "elsewhere", tmp_path / "home")
    printed.append(elsewhere.dvc("pull", "--verbose"))
    assert_nothing_to_do(elsewhere, thorough=True)
    assert elsewhere.ran() == []
    assert changes(base.built.tree(), elsewhere.tree()) == []
    assert_no_secret(printed, here.folder, elsewhere.folder, tmp_path / "home")


@pytest.fixture
def pushed(s3: Faulty, tmp_path: Path) -> Project:
    """A project with two files, one in a folder, pushed to S3."""
    pytest.importorskip("dvc_s3", reason="dvc-s3 isn't installed")
    (tmp_path / "home").mkdir()
    project = Project(tmp_path / "start", tmp_path / "home")
    project.environment["AWS_MAX_ATTEMPTS"] = "2"
    (project.folder / "shards").mkdir(parents=True)
    for name in ("encoder", "shards/000000.tar"):
        (project.folder / name).write_bytes(np.random.default_rng(len(name)).bytes(100_000))
    project.call("git", "init", "--quiet")
    project.dvc("init", "--quiet")
    project.dvc("remote", "add", "--quiet", "--default", "store", f"s3://shards/{tmp_path.name}")
    project.dvc("remote", "modify", "store", "verify", "true")
    project.dvc("add", "--quiet", "encoder", "shards")
    project.dvc("push", "--quiet")
    return project


def test_a_faulty_remote_never_gives_wrong_data(pushed: Project, s3: Faulty):
    want = {name: (pushed.folder / name).read_bytes() for name in ("encoder", "shards/000000.tar")}
    digest = re.findall(r"md5: (\w+)", (pushed.folder / "encoder.dvc").read_text())[0]
    printed = []
    file = f"{digest[:2]}/{digest[2:]}"
    for fault, match in [
        *((fault, file) for fault in ("forbidden", "error", "cut", "truncated", "altered")),
        ("truncated", ".dir"),
    ]:
        pushed.remove("encoder", "shards", ".dvc/cache")
        s3.inject(fault, match)
        printed.append(pushed.dvc("pull", fails=True))
        assert s3.met, (fault, match)
        assert "ERROR: " in printed[-1]
        assert pushed.dvc("status", "--json").strip() != "{}"
        there = {name: (pushed.folder / name).read_bytes() for name in want if (pushed.folder / name).exists()}
        assert there.items() <= want.items(), (fault, match)
        s3.inject("")
        pushed.dvc("pull")  # it goes on with what is missing
        assert {name: (pushed.folder / name).read_bytes() for name in want} == want
        assert pushed.dvc("status", "--json").strip() == "{}"
    assert_no_secret(printed, pushed.folder, pushed.home)


def test_missing_credentials_for_the_remote_are_named(pushed: Project):
    del pushed.environment["AWS_ACCESS_KEY_ID"], pushed.environment["AWS_SECRET_ACCESS_KEY"]
    pushed.remove("encoder", ".dvc/cache")
    printed = pushed.dvc("pull", fails=True)
    assert "ERROR: failed to connect to s3" in printed
    assert "Unable to locate credentials" in printed
    assert "Traceback" not in printed


# ---- shards ----


class Stages:
    """Stages run as commands in a folder of their own, with `photos` as the dataset."""

    def __init__(self, folder: Path, dataset: dict[str, object]) -> None:
        self.folder, self.printed = folder, list[str]()
        folder.mkdir()
        document = YAML(typ="safe").load(TINY)
        document["datasets"]["photos"] = dataset
        YAML(typ="safe").dump(document, folder / "params.yaml")
        (folder / "weights").mkdir()
        (folder / "weights" / "none").touch()
        (folder / "code").mkdir()
        write_code(load(folder / "params.yaml"), folder / "code")

    def run(self, stage: str, fails: bool = False, without: str = "", **flags: object) -> str:
        """What the stage printed."""
        environment = {name: value for name, value in os.environ.items() if not without or not name.startswith(without)}
        arguments = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
        done = subprocess.run(
            [sys.executable, "-m", f"pipeline.{stage}", *arguments],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
            | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]},
            capture_output=True,
            text=True,
        )  # fmt: skip
        self.printed += [done.stdout, done.stderr]
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    def shard(self, **options: object) -> str:
        return self.run("shard", dataset="photos", raw="manifest.json", out="data/shards/photos", **options)  # type: ignore[arg-type]

    def pretrain(self, **options: object) -> str:
        named = {"shards": "data/shards/photos/manifest.json", "start": "weights/none", "out": "runs"}
        return self.run("pretrain", method="byol", seed=0, **named, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 photographs in shards of 16, as the stage would have left them."""
    folder = tmp_path_factory.mktemp("made") / "photos"
    folder.mkdir()
    images = {f"photo_{i:03d}": encoded(image, quality=90) for i, image in enumerate(photographs(100))}
    write_shards(source_of(images), shard_params(), {"dataset": "photos"}, folder, folder.parent / "work")
    return folder


@pytest.fixture
def stages(s3: Faulty, made: Path, tmp_path: Path) -> Stages:
    """A project that links the shards on S3; its cache holds two of them."""
    fsspec.filesystem("s3").put(str(made), f"s3://shards/{tmp_path.name}", recursive=True)
    largest = max(path.stat().st_size for path in made.rglob("*.tar"))
    where = {"raw": "manifest.json", "url": f"s3://shards/{tmp_path.name}", "cache": "$SCRATCH/shards"}
    os.environ["SCRATCH"] = str(tmp_path / "scratch")
    stages = Stages(tmp_path / "stages", {"source": "remote_shards", **where, "cache_bytes": 2 * largest})
    shutil.copy(made / "manifest.json", stages.folder)
    return stages


def test_training_through_faults_is_training_on_local_shards(stages: Stages, made: Path, s3: Faulty, tmp_path: Path):
    s3.inject("cut", "train/000003.tar", times=2)
    stages.shard()
    stages.pretrain()
    assert len(s3.met) == 2
    local = Stages(tmp_path / "local", {"source": "digits", "raw": "requirements.lock", "size": 16, "test_fraction": 0.5})
    shutil.copytree(made, local.folder / "data/shards/photos")
    local.pretrain()
    for name in ("encoder.safetensors", "curve.csv", "views.png", "run.json"):
        assert sha256(stages.folder / "runs" / name) == sha256(local.folder / "runs" / name)
    assert_no_secret(stages.printed, stages.folder, tmp_path / "scratch")


def test_stages_end_in_one_line(stages: Stages, s3: Faulty, tmp_path: Path):
    url = f"s3://shards/{tmp_path.name}"
    printed = stages.shard(fails=True, without="AWS_")
    assert re.fullmatch(
        rf"shard: error: {url}/\w+/index\.npy must be readable, got: Unable to locate credentials; set AWS.*\n", printed
    )
    s3.inject("forbidden")
    printed = stages.shard(fails=True)
    assert re.fullmatch(rf"shard: error: {url}/\w+/index\.npy must be readable, got: AccessDenied.*; set AWS.*\n", printed)
    s3.inject("")
    stages.shard()
    s3.inject("forbidden", ".tar")
    printed = stages.pretrain(fails=True)
    assert re.fullmatch(rf"pretrain: error: {url}/train/00000\d\.tar must be readable, got: AccessDenied.*; set AWS.*\n", printed)
    assert not (stages.folder / "runs").exists()
    assert_no_secret(stages.printed, stages.folder, tmp_path / "scratch")


def test_a_webdataset_on_s3_is_sharded_through_faults(s3: Faulty, made: Path, tmp_path: Path):
    fsspec.filesystem("s3").put(str(made / "train"), f"s3://shards/{tmp_path.name}", recursive=True)
    s3.inject("reset", ".tar", times=4)
    where = {"raw": "manifest.json", "train": f"s3://shards/{tmp_path.name}/*.tar", "test": None, "test_fraction": 0.1}
    stages = Stages(tmp_path / "stages", {"source": "webdataset", **where, "image": ["jpg"], "label": "cls"})
    shutil.copy(made / "manifest.json", stages.folder)
    stages.shard()
    assert len(s3.met) == 4
    manifest = json.loads((stages.folder / "data/shards/photos/manifest.json").read_text())
    assert sum(split["samples"] for split in manifest["splits"].values()) == 96
    assert json.loads((stages.folder / "data/shards/photos/source.json").read_text())["bad"] == []
    assert_no_secret(stages.printed, stages.folder)


@pytest.mark.parametrize("fault", ["slow", "cut"])
def test_a_large_shard_comes_in_parts(fault: str, s3: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(remote.OPTIONS["s3"]["config_kwargs"], "read_timeout", 2)  # slow takes longer, and never stops
    content = np.random.default_rng(0).bytes(120 << 20)
    (tmp_path / "large.tar").write_bytes(content)
    fsspec.filesystem("s3").put(str(tmp_path / "large.tar"), f"s3://shards/{tmp_path.name}/large.tar")
    s3.inject(fault, "large.tar", times=2)
    cache = ShardCache(f"s3://shards/{tmp_path.name}", tmp_path / "cache", len(content))
    with cache.open("large.tar", len(content), sha256(tmp_path / "large.tar")) as file:
        assert file.read() == content
    assert len(s3.met) == 2
