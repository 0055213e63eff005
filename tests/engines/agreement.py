"""From one state, both engines: what they must have in common (properties 1 and 2 of one pipeline under two engines)."""

import json
import re
from fnmatch import fnmatchcase

from engines.lock_order import recorded
from tests.engines.project import DEVICES, TELL_ALL, Project
from tests.engines.toy import load_yaml


def agree(start: Project, *, thorough: bool) -> tuple[Project, Project]:
    """Run each engine in a copy of `start`, compare everything, and return the copies (by DVC, by Snakemake)."""
    by_dvc = start.copy(start.folder.with_name("by_dvc"))
    by_snakemake = start.copy(start.folder.with_name("by_snakemake"))
    planned = stages_in(by_snakemake.snakemake("--dry-run", *TELL_ALL)) if thorough else None
    assert not by_snakemake.ran(), "a dry run ran something"
    by_dvc.run("dvc")
    started = stages_in(by_snakemake.run("snakemake"))
    assert planned in (started, None)
    assert set(by_snakemake.ran()) <= started
    assert len(set(by_dvc.ran())) == len(by_dvc.ran()), "a stage ran twice"
    assert_same(by_dvc, by_snakemake)
    assert_devices_disjoint(by_snakemake)
    for project in (by_dvc, by_snakemake):
        assert_nothing_to_do(project, thorough=thorough)
    return by_dvc, by_snakemake


def stages_in(printed: str) -> set[str]:
    """Stages whose job Snakemake starts, or would start, by the commands that it prints."""
    return set(re.findall(r"engines\.job (\S+)", printed))


def assert_same(by_dvc: Project, by_snakemake: Project) -> None:
    """The same stages ran, and left the same files, dvc.lock and cache."""
    assert by_snakemake.ran() == by_dvc.ran()
    assert changes(by_dvc.tree(), by_snakemake.tree()) == []
    assert changes(by_dvc.cache(), by_snakemake.cache()) == []


def assert_nothing_to_do(project: Project, *, thorough: bool) -> None:
    """DVC says so (`thorough`: both engines, and they leave everything as it is)."""
    assert project.dvc("status", "--json").strip() == "{}"
    if thorough:
        ran, tree = project.ran(), project.tree()
        assert project.dvc("repro").endswith("Data and pipelines are up to date.\n")
        assert "Nothing to be done" in project.snakemake()
        assert project.ran() == ran
        assert changes(tree, project.tree()) == []


def assert_devices_disjoint(project: Project) -> None:
    """No two stages had a device at the same time."""
    held: dict[str, set[str]] = {}
    for event, stage, devices in project.events():
        if event == "end":
            del held[stage]
        elif event == "start":
            held[stage] = {device for device in devices.split(",") if device}
            assert held[stage] <= set(DEVICES)
            assert not any(held[stage] & held[other] for other in held if other != stage)


def assert_ran(project: Project, patterns: tuple[str, ...]) -> None:
    """Exactly the stages of dvc.lock that match one of the patterns were run, stage `code` aside."""
    every = [stage for stage in recorded(project.folder) if stage != "code"]
    unmatched = [pattern for pattern in patterns if not any(fnmatchcase(stage, pattern) for stage in every)]
    assert not unmatched, f"no stage matches {unmatched}"
    assert project.ran() == sorted(stage for stage in every if any(fnmatchcase(stage, pattern) for pattern in patterns))


def changes(old: dict[str, bytes], new: dict[str, bytes]) -> list[str]:
    """Names of the files that differ."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def without_code(project: Project) -> bytes:
    """dvc.lock without stage `code`, which notes every edit of code and params."""
    stages = load_yaml(project.folder / "dvc.lock")["stages"]
    return json.dumps({name: stage for name, stage in stages.items() if name != "code"}).encode()
