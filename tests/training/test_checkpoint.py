import hashlib
import os
import signal
from pathlib import Path

import pytest
import torch

from rsa.training.checkpoint import Checkpoints, Preempted, catch_signals, load_training_state, training_state
from rsa.training.curve import Curve

CPU = torch.device("cpu")


def state(step: int) -> dict:
    return {"step": step, "weights": torch.full((100,), float(step))}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "work", steps=10, minutes=60)


def test_the_last_two_are_kept_and_the_newest_is_loaded(checkpoints: Checkpoints):
    assert checkpoints.load(CPU) is None
    for step in (10, 20, 30):
        checkpoints.save(step, state(step))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step_0000000020.ckpt", "step_0000000030.ckpt"]
    loaded = checkpoints.load(CPU)
    assert loaded["step"] == 30
    assert torch.equal(loaded["weights"], state(30)["weights"])


def test_a_full_disk_is_told_as_what_it_is(full_disk: Path):
    checkpoints = Checkpoints(full_disk, steps=10, minutes=60)
    checkpoints.save(10, state(10))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(20, {"weights": torch.zeros(10**5)})
    assert Checkpoints(full_disk, steps=10, minutes=60).load(CPU)["step"] == 10


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "empty"])
def test_a_damaged_newest_falls_back_to_the_one_before_loudly(
    checkpoints: Checkpoints, damage: str, capsys: pytest.CaptureFixture
):
    for step in (10, 20):
        checkpoints.save(step, state(step))
    path = checkpoints.folder / "step_0000000020.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped bit": bytes(content), "cut off": path.read_bytes()[:-1], "empty": b""}[damage])
    assert checkpoints.load(CPU)["step"] == 10
    assert f"WARNING: {path} is damaged (its sha256 differs): the checkpoint before it is used" in capsys.readouterr().err
    assert checkpoints.load(CPU)["step"] == 10  # the damaged one is gone


def test_what_a_killed_writer_left_is_removed(checkpoints: Checkpoints):
    checkpoints.save(10, state(10))
    (checkpoints.folder / "step_0000000020.partial").write_bytes(b"half")
    assert Checkpoints(checkpoints.folder, 10, 60).load(CPU)["step"] == 10
    assert not list(checkpoints.folder.glob("*.partial"))


def test_the_checksum_is_of_the_archive(checkpoints: Checkpoints):
    checkpoints.save(10, state(10))
    digest, _, archive = (checkpoints.folder / "step_0000000010.ckpt").read_bytes().partition(b"\n")
    assert digest.decode() == hashlib.sha256(archive).hexdigest()


def test_due_by_steps_and_by_the_clock(tmp_path: Path):
    by_steps = Checkpoints(tmp_path, steps=10, minutes=60)
    assert [step for step in range(1, 31) if by_steps.due(step)] == [10, 20, 30]
    assert Checkpoints(tmp_path, steps=1000, minutes=1e-9).due(3)


def test_captured_and_restored_training_goes_on_to_the_bit(checkpoints: Checkpoints):
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()  # inputs and dropout from the generator
            optimizer.step()

    one = build()
    steps(*one, 3)
    saved = training_state(*one)
    checkpoints.save(3, saved)
    saved = checkpoints.load(CPU)
    steps(*one, 4)
    other = build()
    load_training_state(saved, *other)
    steps(*other, 4)
    assert all(torch.equal(tensor, other[0].state_dict()[key]) for key, tensor in one[0].state_dict().items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_termination_or_ctrl_c_is_noted_and_then_again_what_it_was(number: signal.Signals):
    before = signal.getsignal(number)
    with catch_signals() as terminated:
        assert not terminated()
        os.kill(os.getpid(), number)
        assert terminated()
    assert signal.getsignal(number) == before


def test_an_interrupted_run_ends_with_a_code_of_its_own():
    with pytest.raises(SystemExit) as ended:
        raise Preempted
    assert ended.value.code == 75


def test_a_checkpoint_whose_files_are_damaged_is_not_used(checkpoints: Checkpoints, capsys: pytest.CaptureFixture):
    for step in (10, 20):
        checkpoints.save(step, state(step))
    assert checkpoints.load(CPU, usable=lambda saved: saved["step"] < 20)["step"] == 10
    assert "step_0000000020.ckpt has files beside it that are missing or damaged" in capsys.readouterr().err


def test_a_restored_curve_has_every_step_once(tmp_path: Path):
    curve = Curve(tmp_path / "curve.csv")
    curve.restore("")
    curve.append([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "rank": 3.5}])
    saved = curve.text
    for damaged in (saved + "3,9,9\n", saved[:-4], ""):  # it has gone on, or was cut off
        curve.path.write_text(damaged)
        curve.restore(saved)
    curve.append([{"step": 3, "loss": 1 / 3, "rank": 1.0}])
    assert curve.path.read_text() == "step,loss,rank\n1,0.5,\n2,0.25,3.5\n3,0.333333333,1\n"
    assert curve.last() == {"step": 3, "loss": 0.333333333, "rank": 1}


def test_a_curve_keeps_the_columns_that_it_begins_with(tmp_path: Path):
    first = [{"step": 1, "online": 7.0, "loss": 0.5}, {"step": 2, "loss": 0.25, "rank": 3.5}]
    for name, occasional in (("with", ["online"]), ("without", [])):
        curve = Curve(tmp_path / f"{name}.csv", occasional)
        curve.path.touch()
        curve.append(first)
    Curve(tmp_path / "with.csv").append([{"step": 3, "loss": 1, "rank": 2}])  # as after a stop, switched off or on meanwhile
    Curve(tmp_path / "without.csv", ["online"]).append([{"step": 3, "online": 9.0, "loss": 1, "rank": 2}])
    assert (tmp_path / "with.csv").read_text() == "step,loss,rank,online\n1,0.5,,7\n2,0.25,3.5,\n3,1,2,\n"
    assert (tmp_path / "without.csv").read_text() == "step,loss,rank\n1,0.5,\n2,0.25,3.5\n3,1,2\n"
