"""The checks of `rsa doctor` can fail."""

import pytest
import torch
from torchvision.transforms.v2.functional import resized_crop

from rsa.checks import machine, training, views
from rsa.checks.outcome import FailedError
from rsa.params.document import Params
from rsa.training.checkpoint import load_training_state
from rsa.training.launch import processes


def test_a_resume_that_loses_something_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    def forgetful(state, model, optimizer):
        load_training_state(state, model, optimizer)
        optimizer.state.clear()  # momentum

    monkeypatch.setattr(training, "load_training_state", forgetful)
    with pytest.raises(FailedError, match=r"byol: \d+ tensors differ"):
        training.resuming(tiny)


def test_wrong_colours_fail(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "apply_colors", lambda images, colors: torch.zeros_like(images))
    with pytest.raises(FailedError, match="mean difference from torchvision up to"):
        views.colors(tiny)


def test_a_crop_that_is_not_flipped_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views.tv, "resized_crop", lambda image, *box: resized_crop(image.flip(1), *box))
    with pytest.raises(FailedError, match=r"an image differs from torchvision's by \d+\.\d+ of 255 on average"):
        views.crops(tiny)


def test_more_memory_than_there_is_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "available", lambda: 1_000_000)
    with pytest.raises(
        FailedError, match=r"byol \d\.\d+ GB, rsa .* GB free here, enough for \d+ images: set pretrain.accumulate to \d+ or lower"
    ):
        training.memory(tiny)


def test_memory_grows_with_the_batch_and_shrinks_with_its_parts(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "available", lambda: 10**15)
    alone = tiny.experiment.model_copy(update={"methods": ["pixels", "byol"]})

    def gigabytes(**changes: object) -> float:
        p = tiny.model_copy(update={"experiment": alone, "pretrain": tiny.pretrain.model_copy(update=changes)})
        found = training.memory(p)
        assert "pixels" not in found  # which trains nothing
        return float(found.removeprefix("byol ").partition(" GB for ")[0])

    whole, parts = gigabytes(batch_size=65536), gigabytes(batch_size=65536, accumulate=4)
    assert whole > 2 * parts > 0


def test_a_full_disk_fails(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "FREE_GB", 1e9)
    with pytest.raises(FailedError, match="GB free here, at least"):
        machine.disk(tiny)


def test_a_step_is_timed_from_and_to_an_idle_gpu(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    monkeypatch.setattr(training, "wait_for", lambda device: order.append("wait"))
    monkeypatch.setattr(training.time, "perf_counter", lambda: order.append("clock") or float(len(order)))
    monkeypatch.setattr(training.Run, "train", lambda *arguments: order.append("train"))
    training.step(tiny)
    assert order == ["train", "wait", "clock", "train", "wait", "clock"] * 2  # byol, rsa


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")


def asking(tiny: Params, **changes: object) -> Params:
    return tiny.model_copy(update={"runtime": tiny.runtime.model_copy(update={"device": "auto", **changes})})


def test_the_gpus_of_a_run_are_counted(tiny: Params, eight_gpus: None):
    assert machine.devices(asking(tiny, gpus=2)).endswith(
        "GPU 7; a pretraining run gets 2 of 8: 4 at once with --resources gpu=8"
    )
    assert machine.devices(asking(tiny, device="cpu")).endswith("unused, as runtime.device is cpu")
    with pytest.raises(FailedError, match=r"runtime\.gpus is 16, and torch sees 8 here: GPU 0, "):
        machine.devices(asking(tiny, gpus=16))


@pytest.mark.parametrize(("device", "gpus", "where"), [("auto", 8, "gpu"), ("auto", 1, "cpu"), ("cpu", 8, "cpu")])
def test_ranks_are_compared_on_the_gpus_of_the_run(
    device: str, gpus: int, where: str, tiny: Params, eight_gpus: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    asked: list[tuple[int, str]] = []

    def launch(pretrain, runtime, folder, function, p, name, size, device, out):
        asked.append((runtime.processes, runtime.device))
        assert device == runtime.device
        torch.save({"weight": torch.ones(1)}, out / f"{runtime.processes}.pt")

    monkeypatch.setattr(training, "launch", launch)
    found = training.ranks(asking(tiny, device=device, gpus=min(gpus, 4)))
    count = 4 if (device, gpus) == ("auto", 8) else 2
    assert asked == [(1, where), (count, where)] * 2  # byol, rsa
    assert found.endswith("by NCCL on GPUs" if where == "gpu" else "by gloo on the CPU")


def test_more_processes_than_gpus_are_refused(tiny: Params, eight_gpus: None):
    assert processes(asking(tiny, gpus=4).runtime) == 4
    assert processes(asking(tiny, gpus=16).runtime) == 8
    assert processes(asking(tiny, processes=8).runtime) == 8
    assert processes(asking(tiny, processes=9, device="cpu").runtime) == 9
    with pytest.raises(
        ValueError, match=r"runtime\.processes must be at most the 8 GPUs that this job sees, got 9: lower it, raise"
    ):
        processes(asking(tiny, processes=9).runtime)
