"""States that a project can be in, made from one where nothing is left to do, and what must run to bring it up to date."""

import os
import random
import shutil
from collections.abc import Callable
from typing import NamedTuple

from tests.engines.project import PRODUCED, Project
from tests.engines.toy import dump_yaml, load_yaml

Change = Callable[[Project], None]
FEATURES = "features/byol/s0/digits"


class State(NamedTuple):
    """`runs`: patterns of the stages that must run; none where everything comes back as it was."""

    change: Change
    runs: tuple[str, ...] = ()
    fast: bool = False
    alone: bool = False  # cannot be made in any order with others


def edit(name: str, old: str, new: str) -> Change:
    return lambda project: project.edit(name, old, new)


def remove(*names: str) -> Change:
    return lambda project: project.remove(*names)


def overwrite(name: str) -> Change:
    return lambda project: write(project, name)


def write(project: Project, name: str) -> None:
    (project.folder / name).write_text("not what the stage wrote")


def several(*changes: Change) -> Change:
    return lambda project: [change(project) for change in changes] and None


def scramble_times(project: Project) -> None:
    """As after a checkout or a copy without times."""
    order = random.Random(0)
    for top in (*PRODUCED, "pipeline", "rsa", "raw", "params.yaml", "dvc.yaml"):
        path = project.folder / top
        for file in [path] if path.is_file() else path.rglob("*"):
            time = 1e9 + order.random() * 1e6
            os.utime(file, (time, time))


def reverse_params(project: Project) -> None:
    path = project.folder / "params.yaml"
    dump_yaml(dict(reversed(list(load_yaml(path).items()))), path)


def lose_a_cached_file(project: Project) -> None:
    """One object of the cache, which the workspace still has."""
    digest = project.lock().decode().split("path: runs/byol/s0/encoder.safetensors\n")[-1].split("md5: ")[1].split()[0]
    (project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()


def lose_some(project: Project) -> None:
    """Deleted, corrupted, and with junk in its folder."""
    project.remove("scores/byol/s0/probe.json", "runs/rsa/s0")
    for name in ("scores/byol/s0/transfer_photo_tiles.json", "features/rsa/s0/digits/first", "reports/junk"):
        write(project, name)


def lose_many(project: Project) -> None:
    """At least one result of every kind of stage."""
    lose_some(project)
    project.remove(FEATURES)
    for name in ("data/shards/digits/first", "data/shards/photo_tiles/junk", "scores/random/s0/embedding_map/first"):
        write(project, name)


def lose_results(project: Project) -> None:
    for top in PRODUCED:
        shutil.rmtree(project.folder / top)


def leave_leftovers(project: Project) -> None:
    """What an experiment with other methods, seeds and datasets had written."""
    for name in ("runs/simclr/s0/run.json", "scores/byol/s7/probe.json", "data/shards/old/manifest.json", "scores/byol/s0/notes"):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(project, name)


def run_then(change: Change, then: Change) -> Change:
    """Make a change, let DVC follow it, make the other."""

    def both(project: Project) -> None:
        change(project)
        project.run("dvc")
        (project.folder / "ran.log").unlink()
        then(project)

    return both


beta = edit("params.yaml", "start: 0.4", "start: 0.3")
beta_back = edit("params.yaml", "start: 0.3", "start: 0.4")
more_seeds = edit("params.yaml", "seeds: [0]", "seeds: [0, 1]")
fewer_seeds = edit("params.yaml", "seeds: [0, 1]", "seeds: [0]")
fewer_methods = edit("params.yaml", "methods: [pixels, random, byol, rsa]", "methods: [pixels, random, byol]")
more_methods = edit("params.yaml", "methods: [pixels, random, byol]", "methods: [pixels, random, byol, rsa]")

OF_RSA = (
    "pretrain@rsa-*",
    "extract@rsa-*",
    "probe@rsa-*",
    "embedding_map@rsa",
    "transfer@rsa-*",
    "representation_metrics@rsa-*",
    "report",
)
OF_RUNS = ("pretrain@*", "extract@*", "probe@*", "embedding_map@*", "transfer@*", "representation_metrics@*", "report")
OF_TILES = ("shard@photo_tiles", "extract@*-photo_tiles", "transfer@*-photo_tiles", "report")
PROTOCOL = """    mine: {lr: [0.1], lr_per_256: true, optimizer: sgd, momentum: 0.9, nesterov: false, weight_decay: 0.0,
      epochs: 1, batch_size: 32, schedule: {schedule: cosine}, normalize: none, blocks: [1], pooling: [avg], start: torch,
      crop_interpolation: linear, geometry: null,
      crop_scale: [0.1, 1.0], precision: float32, held_out: 0.1, best_on_test: false}
"""
OF_MINE = """  mine:
    method: mine
"""

STATES = {
    "nothing that matters changed": State(
        several(
            scramble_times,
            edit("params.yaml", "experiment:", "# a comment\nexperiment:"),
            reverse_params,
            edit("dvc.yaml", "meta: {gpu: 1", "meta: {gpu: 0"),
        )
    ),
    "nothing that a result depends on changed": State(
        several(
            edit("params.yaml", "  gpus: 1", "  gpus: 2"),
            edit("params.yaml", "on_collapse: stop", "on_collapse: mark"),
        )
    ),
    # edits
    "beta edited": State(beta, OF_RSA, fast=True),
    "param of all runs edited": State(edit("params.yaml", "flip_prob: 0.0", "flip_prob: 0.5"), OF_RUNS),
    "code of a stage edited": State(edit("pipeline/probe.py", "VERSION = 1", "VERSION = 2"), ("probe@*", "report")),
    "code of a stage edited, same results": State(edit("pipeline/extract.py", "VERSION = 1", "VERSION = 1 + 0"), ("extract@*",)),
    "code of all stages edited, same results": State(
        edit("rsa/params/sections.py", "import hashlib", "import hashlib, sys"), ("*",)
    ),
    "a method's file edited": State(edit("rsa/methods/rsa.py", "VERSION = 1", "VERSION = 2"), OF_RSA),
    "the loop edited": State(edit("rsa/loop.py", "LOOP = 1", "LOOP = 2"), OF_RUNS),
    "the report's style edited, same results": State(edit("rsa/reporting/report.css", "{", " {"), ("report",)),
    "comments and docstrings edited, a method, a section of methods and a dataset added": State(
        several(
            edit("rsa/params/sections.py", "import hashlib\n", "import hashlib  # to name a result\n\n\n"),
            edit("rsa/loop.py", "What every run imports.", "What all runs import."),
            edit("pipeline/stage.py", '"""Common machinery of s', '"""Other words: '),
            lambda project: (project.folder / "rsa/methods/mine.py").write_text("VERSION = 1\n"),
            edit("params.yaml", "  pixels: {method: pixels}", OF_MINE + "  pixels: {method: pixels}"),
            edit("params.yaml", "  protocols: {}", "  protocols:\n" + PROTOCOL),
        ),
        fast=True,
    ),
    "leftovers of another experiment": State(leave_leftovers, ("report",)),
    "command edited": State(edit("dvc.yaml", "python -m pipeline.transfer", "python -B -m pipeline.transfer"), ("transfer@*",)),
    "raw data edited": State(overwrite("raw/photo_tiles"), OF_TILES),
    "grid grown": State(more_seeds, ("*@*-1*", "report")),
    "grid shrunk": State(fewer_methods, ("report",)),
    "many things changed": State(
        several(
            fewer_methods,
            edit("pipeline/probe.py", "VERSION = 1", "VERSION = 1 + 0"),
            edit("dvc.yaml", "python -m pipeline.transfer", "python -B -m pipeline.transfer"),
            remove(FEATURES),
        ),
        (*(f"{stage}@{name}-*" for stage in ("probe", "transfer") for name in ("byol", "pixels", "random")), "report"),
        fast=True,
    ),
    # losses
    "many results lost": State(lose_many),
    "one result deleted": State(remove("runs/byol/s0/run.json")),
    "dvc.lock and all results deleted": State(several(remove("dvc.lock"), lose_results)),
    # DVC calls a result that its cache has lost stale, even where the workspace still has it
    "a file of the cache lost": State(lose_a_cached_file, ("pretrain@byol-0",)),
    "caches and DVC's own notes lost": State(remove(".dvc/cache", ".dvc/tmp"), ("*",)),
    # back again
    "beta switched back, and some results lost": State(run_then(beta, several(beta_back, lose_some)), alone=True),
    "grid grown and shrunk again": State(run_then(more_seeds, fewer_seeds), ("report",), alone=True),
    "grid shrunk and grown again": State(run_then(fewer_methods, more_methods), alone=True),
}
