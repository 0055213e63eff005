"""What can be seen of a run while it goes, also after it was killed."""

import csv
import importlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rsa.training.curve import Curve, Row
from rsa.training.live import Live


def rows(first: int, last: int) -> list[Row]:
    every = [{"step": step, "loss": 1 / step, "lr": step / 100, "weak": 0.5} for step in range(first, last + 1)]
    return [row | ({"online_knn": row["step"] / 2} if row["step"] % 25 == 0 else {}) for row in every]


@pytest.fixture
def curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Curve:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    curve = Curve(Path("work/curve.csv"))
    curve.restore("")
    return curve


def more(curve: Curve, live: Live, first: int, last: int) -> None:
    curve.append(rows(first, last))
    live.show(rows(first, last))


def killed_and_continued(curve: Curve, *trackers: str) -> Live:
    """Steps 1 to 50, of which a checkpoint has 25, then 26 to 75."""
    first = Live("rsa_s0", curve.path, trackers)
    more(curve, first, 1, 25)
    saved = curve.text
    more(curve, first, 26, 50)
    for tracker in first.trackers:
        tracker.close()  # a kill ends its threads, too
    curve.restore(saved)
    again = Live("rsa_s0", curve.path, trackers)
    more(curve, again, 26, 75)
    return again


def test_the_live_curve_of_a_continued_run_has_every_step_once(curve: Curve):
    live = killed_and_continued(curve)
    with Path("live/curves/rsa_s0.csv").open() as file:
        shown = list(csv.DictReader(file))
    assert [(int(row["step"]), float(row["loss"])) for row in shown] == STEPS
    assert [(int(row["step"]), float(row["online_knn"])) for row in shown if row["online_knn"]] == PROBED
    live.close()  # else TensorBoard's thread may write when the test has left its folder


def test_tensorboard_of_a_continued_run_has_every_step_once(curve: Curve):
    killed_and_continued(curve, "tensorboard").close()
    (events,) = Path("logs/tensorboard/rsa_s0").iterdir()
    seen = EventAccumulator(str(events), purge_orphaned_data=False, size_guidance={"scalars": 0}).Reload()
    assert sorted(seen.Tags()["scalars"]) == ["loss", "lr", "online_knn", "weak"]
    assert [(event.step, event.value) for event in seen.Scalars("online_knn")] == PROBED
    assert [(event.step, event.value) for event in seen.Scalars("loss")] == STEPS


def test_when_the_run_has_ended_its_own_files_take_over(curve: Curve):
    live = Live("rsa_s0", curve.path, [])
    more(curve, live, 1, 25)
    live.close()
    assert [path for path in Path("live").rglob("*") if path.is_file()] == []
    assert curve.last()["step"] == 25
    assert not Path("logs").exists()


STEPS = [(step, pytest.approx(1 / step, rel=1e-6)) for step in range(1, 76)]
PROBED = [(25, 12.5), (50, 25.0), (75, 37.5)]


def leveldb_log(file: bytes, start: int, block: int = 2**15) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: checksum, length and kind, then data; a record may be in several parts."""
    record = b""
    while start + 7 <= len(file):
        if block - start % block < 7:
            start += block - start % block
            continue
        length, kind = struct.unpack("<HB", file[start + 4 : start + 7])
        record += file[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


@pytest.mark.filterwarnings("default")  # of the package
def test_wandb_gets_every_step_once_without_a_network(curve: Curve, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb", reason="needs wandb: that Weights & Biases gets the curve is not tested")
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    killed_and_continued(curve, "wandb").close()
    *_, last = sorted(Path("logs/wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    logged, probed = [], []
    for data in leveldb_log(last.read_bytes(), start=7):
        items = messages.Record.FromString(data).history.item
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
        logged += [(row["_step"], row["loss"])] if "loss" in row else []
        probed += [(row["_step"], row["online_knn"])] if "online_knn" in row else []
    assert logged == STEPS
    assert probed == PROBED


@pytest.mark.filterwarnings("default")  # of the package
def test_mlflow_gets_every_step_once_without_a_server(curve: Curve, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow: that MLflow gets the curve is not tested")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which is undone afterwards
    killed_and_continued(curve, "mlflow").close()
    client = mlflow.MlflowClient(Path("logs/mlflow").resolve().as_uri())
    (experiment,) = (each for each in client.search_experiments() if each.name == "rsa")
    last, _ = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    logged = client.get_metric_history(last.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in logged) == STEPS
    probed = client.get_metric_history(last.info.run_id, "online_knn")
    assert sorted((metric.step, metric.value) for metric in probed) == PROBED
    assert last.info.status == "FINISHED"


def test_a_tracker_that_is_not_installed_is_a_sentence(curve: Curve, monkeypatch: pytest.MonkeyPatch):
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match=f"^runtime.logging: {name} is not installed: `pip install {name}`"):
            Live("rsa_s0", curve.path, [name])
