"""Stages that are named on Snakemake's command line: forced, or as targets."""

from pathlib import Path

from engines.plan import Stage, asked_to_force, force
from tests.engines.project import Project


def test_forced_stages_run_although_nothing_has_changed(built: Project):
    said = built.snakemake("--forcerun", "probe@rsa-0", "report")
    assert built.ran() == ["probe@rsa-0", "report"]
    assert "Running stage 'probe@rsa-0':\n> python -m pipeline.probe" in said
    for noise in ("Select jobs", "Execute ", "Touching", "lock file", "git add", "dvc push"):
        assert noise not in said
    assert "Nothing to be done" in built.snakemake("probe", "pretrain@rsa-0", "all")


def test_a_stage_is_a_target_with_what_it_needs_alone(written: Project):
    written.snakemake("shard")
    assert written.ran() == ["shard@digits", "shard@photo_tiles"]


def test_what_the_command_line_forces(tmp_path: Path):
    plan = {"code": Stage([], False, {}), "pretrain@a": Stage(["code"], False, {}), "probe@a": Stage(["pretrain@a"], False, {})}
    (tmp_path / "config.yaml").write_text("forcerun: [pretrain]")
    for line, forced in {
        "": set(),
        "--forceall": {*plan},
        "-R pretrain": {"pretrain@a"},
        "-R probe@a": {"probe@a"},
        "-f probe": {"probe@a"},
        f"--profile {tmp_path}": {"pretrain@a"},
        "probe": set(),
    }.items():
        planned = force(plan, asked_to_force(["--cores", "1", *line.split()]))
        assert {name for name, stage in planned.items() if stage.forced} == forced
        first = next((place for place, name in enumerate(plan) if name in forced), len(plan))
        assert [name for name, stage in planned.items() if stage.stale] == list(plan)[first:]
