"""DVC shows a run that is going on, and what it shows makes no stage stale."""

import json

from tests.engines.project import Project


def test_dvc_follows_a_run_and_calls_nothing_stale(built: Project):
    live = built.folder / "live"
    (live / "curves").mkdir(exist_ok=True)
    (built.folder / "curve.csv").write_text("step,loss,tau\n1,4.5,0.9\n2,4.25,0.91\n")  # the run's, elsewhere
    (live / "curves" / "rsa_s7.csv").symlink_to(built.folder / "curve.csv")
    (live / "metrics" / "rsa_s7.json").write_text('{"step": 2, "loss": 4.25}')
    shown = json.loads(built.dvc("metrics", "show", "--json"))
    assert shown[""]["data"]["live/metrics/rsa_s7.json"] == {"data": {"step": 2, "loss": 4.25}}
    (workspace, *_) = json.loads(built.dvc("exp", "show", "--json"))
    assert workspace["data"]["metrics"]["live/metrics/rsa_s7.json"] == {"data": {"step": 2, "loss": 4.25}}
    plot = json.loads(built.dvc("plots", "show", "--show-vega", "live/curves"))
    assert [(point["step"], point["loss"]) for point in plot["data"]["values"]] == [("1", "4.5"), ("2", "4.25")]
    assert "up to date" in built.dvc("status")
    assert "failed to load" not in built.dvc("metrics", "diff")


def test_live_files_are_not_gits(built: Project):
    (built.folder / "live" / "curves").mkdir()
    (built.folder / "live" / "curves" / "rsa_s7.csv").touch()
    (built.folder / "live" / "metrics" / "rsa_s7.json").touch()
    (built.folder / "live" / "metrics" / "none.json").write_text("{ }")
    seen = built.call("git", "status", "--porcelain", "--", "live")
    assert seen.split() == ["M", "live/metrics/none.json"]
