"""What can be seen of a run while it goes, also after it was killed."""

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rsa.training.curve import Curve, Row
from rsa.training.live import Live


def rows(first: int, last: int) -> list[Row]:
    return [{"step": step, "loss": 1 / step, "lr": step / 100, "weak": 0.5} for step in range(first, last + 1)]


@pytest.fixture
def curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Curve:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    curve = Curve(Path("work/curve.csv"))
    curve.cut(0)
    return curve


def more(curve: Curve, live: Live, first: int, last: int) -> None:
    curve.append(rows(first, last))
    live.show(rows(first, last))


def killed_and_continued(curve: Curve) -> Live:
    """Steps 1 to 50, of which a checkpoint has 25, then 26 to 75."""
    first = Live("rsa_s0", curve.path, tensorboard=True)
    more(curve, first, 1, 25)
    saved = curve.size
    more(curve, first, 26, 50)
    assert first.events is not None
    first.events.close()  # a kill ends its thread, too
    curve.cut(saved)
    again = Live("rsa_s0", curve.path, tensorboard=True)
    more(curve, again, 26, 75)
    return again


def test_the_live_curve_of_a_continued_run_has_every_step_once(curve: Curve):
    live = killed_and_continued(curve)
    with Path("live/curves/rsa_s0.csv").open() as file:
        assert [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)] == [
            (step, pytest.approx(1 / step)) for step in range(1, 76)
        ]
    live.close()  # else TensorBoard's thread may write when the test has left its folder


def test_tensorboard_of_a_continued_run_has_every_step_once(curve: Curve):
    killed_and_continued(curve).close()
    (events,) = Path("logs/tensorboard/rsa_s0").iterdir()
    seen = EventAccumulator(str(events), purge_orphaned_data=False, size_guidance={"scalars": 0}).Reload()
    assert seen.Tags()["scalars"] == ["loss", "lr", "weak"]
    assert [(event.step, event.value) for event in seen.Scalars("loss")] == [
        (step, pytest.approx(1 / step, rel=1e-6)) for step in range(1, 76)
    ]


def test_when_the_run_has_ended_its_own_files_take_over(curve: Curve):
    live = Live("rsa_s0", curve.path, tensorboard=False)
    more(curve, live, 1, 25)
    live.close()
    assert [path for path in Path("live").rglob("*") if path.is_file()] == []
    assert curve.last()["step"] == 25
    assert not Path("logs").exists()
