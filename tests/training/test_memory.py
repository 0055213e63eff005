import pytest
import torch

from rsa.training.device import keep_memory
from rsa.training.memory import peak_above

MIB = 1 << 20


def take(mib: int) -> None:
    torch.ones(mib * MIB // 4)
    torch.ones(MIB)


@pytest.mark.parametrize("mib", [100, 300])
def test_the_peak_is_what_was_taken_at_most_at_once(mib: int):
    """Also when freed before the end, after a larger peak, and where the process keeps what it has freed."""
    keep_memory()
    take(500)
    assert peak_above(lambda: take(mib), torch.device("cpu")) / MIB == pytest.approx(mib, rel=0.1)


def test_nothing_takes_nothing():
    assert peak_above(lambda: None, torch.device("cpu")) < 4 * MIB


@pytest.mark.gpu
def test_on_a_gpu_torch_counts():
    assert peak_above(lambda: torch.ones(64 * MIB, device="cuda"), torch.device("cuda")) == pytest.approx(256 * MIB, rel=0.05)
