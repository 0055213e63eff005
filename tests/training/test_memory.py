import pytest
import torch

from rsa.params.pretrain import Pretrain
from rsa.training.device import keep_memory
from rsa.training.memory import explained_shortage, peak_above
from tests.training.test_loop import PRETRAIN

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


def test_a_shortage_names_the_sizes_of_the_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1e9, 80e9))
    pretrain = Pretrain.model_validate({**PRETRAIN, "batch_size": 4096, "accumulate": 2})
    message = r"a GPU's 80 GB are too few for 256 images at once .* 4096 over 8 .* accumulate to 4"
    with pytest.raises(ValueError, match=message), explained_shortage(pretrain, 8):
        raise torch.OutOfMemoryError
