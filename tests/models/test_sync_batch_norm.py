"""The form for GPUs: with its kernels written again for the CPU, in real processes; and its calls, on fake tensors."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from rsa.models.sync_batch_norm import _counts, _FusedNormalize, synchronize
from tests.training.norm_kernels import norm_kernels

WORLD, BATCH = 2, 6
SHAPES = {"images": (BATCH, 3, 4, 5), "features": (BATCH, 3)}

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["tests.models.test_sync_batch_norm"])


def global_batch(shape: tuple[int, ...]) -> tuple[nn.modules.batchnorm._BatchNorm, Tensor, Tensor]:
    """A norm with its own weights and statistics, and an input and a gradient, of all ranks."""
    torch.manual_seed(0)
    norm = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3, dtype=torch.float64)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data.uniform_(0.5, 2)
    x, g = torch.randn(2, *shape, dtype=torch.float64) * 3 + 1
    return norm, x, g


def rank_of(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    found = {}
    with norm_kernels():
        for name, shape in SHAPES.items():
            norm, x, g = global_batch(shape)
            x, g = (part.chunk(WORLD)[rank] for part in (x, g))
            if len(shape) == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            x.requires_grad_()
            y = _FusedNormalize.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, 0.1, norm.eps)
            y.backward(g)
            found[name] = (y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def require_whole_batch(results: list[dict[str, tuple[torch.Tensor, ...]]], tolerance: float) -> None:
    """Compare the ranks' results with torch's plain batch norm of the whole batch, on the CPU, in float64."""
    for name, shape in SHAPES.items():
        norm, x, g = global_batch(shape)
        x.requires_grad_()
        y = norm(x)
        y.backward(g)
        ys, xs, weights, biases, means, variances = zip(*(result[name] for result in results), strict=True)
        pairs = [(torch.cat(ys), y), (torch.cat(xs), x.grad), (sum(weights), norm.weight.grad), (sum(biases), norm.bias.grad)]
        pairs += [(mean, norm.running_mean) for mean in means] + [(var, norm.running_var) for var in variances]
        for got, want in pairs:
            torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def test_two_ranks_normalize_as_torch_does_the_global_batch(tmp_path: Path):
    ranks = [server.Process(target=rank_of, args=(rank, tmp_path)) for rank in range(WORLD)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]
    require_whole_batch(results, 1e-12)


class Launches(TorchDispatchMode):
    """The names of operators that launch a kernel or a collective."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator._schema.name.split("::")[1]
        if not operator.is_view and name not in ("device", "new_empty"):
            self.names.append(name)
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("affine", [True, False])
def test_on_a_gpu_a_forward_pass_launches_six_operators_one_of_them_collective(affine: bool):
    """Without scale and shift, too: the last norm of MoCo v3's and SimSiam's heads. The first pass fills the counts as well."""
    dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    try:
        with norm_kernels(), FakeTensorMode(allow_non_fake_inputs=True):
            norm = nn.Sequential(nn.BatchNorm2d(3, affine=affine, device="cuda"))
            synchronize(norm)
            x = torch.empty(4, 3, 6, 6, dtype=torch.bfloat16, device="cuda").to(memory_format=torch.channels_last)
            norm(x)
            with Launches() as launches:
                y = norm(x)
    finally:
        dist.destroy_process_group()
        _counts.cache_clear()
    assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
    collective = [name for name in launches.names if "allgather" in name]
    assert len(collective) == 1
    fused = ["batch_norm_stats", "stack", *collective, "batch_norm_gather_stats_with_counts", "batch_norm_elemt"]
    assert launches.names == ["add_", *fused]  # add_ counts the batches, as torch's norms do
