"""What training does on a GPU, against the CPU. Skipped where there is none."""

import pytest
import torch
from torch import Tensor

from rsa.data.normalize import Normalize
from rsa.methods import build_method
from rsa.models.backbones import build_backbone, compile_copies
from rsa.params.document import Params
from rsa.params.pretrain import Pretrain
from rsa.training.device import setup
from rsa.training.loop import train
from rsa.training.optim import build_optimizer
from tests.conftest import IMAGENET
from tests.training.test_loop import PRETRAIN, batches

pytestmark = pytest.mark.gpu
STEPS = 5


@pytest.fixture(autouse=True)
def _restored():
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


def trained(
    tiny: Params, device: str, precision: str = "float32", *, compiled: bool = False
) -> tuple[dict[str, Tensor], list[float]]:
    """The weights and losses of BYOL after a few steps."""
    on = setup(device, 1, 0)
    section = tiny.methods["byol"]
    model = tiny.model.model_copy(update={"small_stem": True})
    method, _ = build_method(section, build_backbone(model), tiny.views)
    method.to(on).to(memory_format=torch.channels_last).train()
    if compiled:
        compile_copies(method, method.backbone)
    optimizer = build_optimizer(method.parameters(), method.constant_lr(), section.optimizer)
    losses: list[float] = []
    pretrain = Pretrain.model_validate({**PRETRAIN, "batch_size": 8, "precision": precision})
    train(
        method, batches(size=8), optimizer, pretrain, section.optimizer,
        total_steps=STEPS, normalize=Normalize(IMAGENET, on), stop_on_collapse=False,
        report=lambda rows: losses.extend(row["loss"] for row in rows),
    )  # fmt: skip
    return {name: tensor.cpu() for name, tensor in method.state_dict().items()}, losses


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_trains_as_the_cpu_does(tiny: Params, compiled: bool):
    """Plain and compiled."""
    (_, want), (_, got) = trained(tiny, "cpu"), trained(tiny, "gpu", compiled=compiled)
    assert got == pytest.approx(want, rel=2e-3)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_two_runs_on_a_gpu_end_in_the_same_bits(tiny: Params, precision: str):
    (first, _), (again, _) = trained(tiny, "gpu", precision), trained(tiny, "gpu", precision)
    assert all(torch.equal(first[name], tensor) for name, tensor in again.items())


def test_images_of_the_cpu_come_through_pinned_memory_unchanged():
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    there = Normalize(IMAGENET, torch.device("cuda"))(images)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), Normalize(IMAGENET, torch.device("cpu"))(images))
