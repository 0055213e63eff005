"""torch.compile of the backbone: the same network, the same names, the same numbers to rounding."""

import pytest
import torch

from rsa.methods import build_method
from rsa.models.backbones import build_backbone, compile_copies
from rsa.params.document import Params
from tests.training.test_loop import batches


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own code
def test_a_compiled_step_gives_the_same_loss_gradients_and_statistics(tiny: Params):
    found = []
    (batch,) = (batch for batch, _ in zip(batches(size=8), range(1), strict=False))
    views = [view.repeat_interleave(3, 1).repeat_interleave(3, 2).permute(0, 3, 1, 2).float() / 255 for view in batch.views]
    for compiled in (False, True):
        torch.manual_seed(0)
        method, _ = build_method(tiny.methods["byol"], build_backbone(tiny.model), tiny.views)
        method.train()
        if compiled:
            compile_copies(method, method.backbone)
        method.losses(method.embed(views, batch.samples), 0.5)["loss"].mean().backward()
        gradients = {name: parameter.grad for name, parameter in method.named_parameters() if parameter.grad is not None}
        found.append((method.state_dict(), gradients))
    for plain, compiled in zip(*found, strict=True):
        assert plain.keys() == compiled.keys()
        for name, tensor in plain.items():
            torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=1e-4, msg=f"{name} differs")
