import pytest
import torch

from rsa.training.device import gpu_number, setup


@pytest.fixture(autouse=True)
def _restored():
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


def test_gpu_on_a_machine_without_one_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device must be cpu or auto on a machine without a usable GPU, got gpu"):
        setup("gpu", 1, 0)


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert setup("auto", 1, 0).type == kind
        assert setup("cpu", 1, 0).type == "cpu"


def test_setup_seeds_torch_and_demands_deterministic_kernels():
    setup("cpu", 1, seed=5)
    first = torch.randn(4)
    setup("cpu", 1, seed=5)
    assert torch.equal(torch.randn(4), first)
    assert torch.are_deterministic_algorithms_enabled()


def test_threads_are_set():
    setup("cpu", 2, 0)
    assert torch.get_num_threads() == 2


def test_dali_gets_no_device_for_the_cpu_and_a_number_for_a_gpu():
    assert gpu_number(torch.device("cpu")) is None
    assert gpu_number(torch.device("cuda")) == 0
    assert gpu_number(torch.device("cuda", 3)) == 3
