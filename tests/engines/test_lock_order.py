"""The order of stages in dvc.lock after parallel jobs, also of a run that was killed."""

from pathlib import Path

from dvc.utils.serialize import dump_yaml

from engines.lock_order import recorded, remember_order, restore_order


def record(root: Path, *names: str) -> None:
    dump_yaml(str(root / "dvc.lock"), {"schema": "2.0", "stages": {name: {"cmd": f"echo {name}"} for name in names}})


def test_a_run_and_one_that_continues_a_killed_one_restore_the_same_order(tmp_path: Path) -> None:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    record(tmp_path, "b", "a")
    for killed in (False, True):
        remember_order(tmp_path)
        if killed:
            record(tmp_path, "c", "b", "a")  # in the order in which jobs ended, without one that was cut off
            remember_order(tmp_path)
        record(tmp_path, "d", "c", "a", "b")
        restore_order(["a", "b", "c", "d", "e"], tmp_path)
        assert recorded(tmp_path) == ["b", "a", "c", "d"]
        assert not (tmp_path / ".dvc/tmp/order.json").exists()
        record(tmp_path, "b", "a")
