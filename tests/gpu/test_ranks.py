"""Several processes on GPUs compute what one does: by gloo on one GPU, which NCCL refuses to share, and by NCCL on several."""

import multiprocessing
import os
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rsa import distributed
from rsa.data.normalize import Normalize
from rsa.models.sync_batch_norm import _FusedNormalize
from rsa.training.device import setup
from rsa.training.forward import Forward
from tests.gpu.device import CPU, GPU
from tests.models.test_sync_batch_norm import SHAPES, global_batch, require_whole_batch
from tests.training.norm_kernels import norm_kernels
from tests.training.operators import batches, built, small_recipe
from tests.training.test_ranks import KINDS, trained

WORLD = 2
NCCL = "cpu:gloo,cuda:nccl" if GPU.type == "cuda" else "gloo"
BACKENDS = ["gloo", pytest.param(NCCL, marks=pytest.mark.skipif(torch.cuda.device_count() < WORLD, reason="needs two GPUs"))]


def spawned(function: Callable[..., Any], world: int, backend: str, folder: Path) -> list[Any]:
    """What `function` returns in every process; those of gloo share one GPU."""
    context = multiprocessing.get_context("spawn")  # a forked process can't use CUDA
    ranks = [context.Process(target=joined, args=(function, rank, world, backend, folder)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(200)
        process.kill()
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def joined(function: Callable[..., Any], rank: int, world: int, backend: str, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank if backend != "gloo" else 0)
    device = setup("auto", 1, 0)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    with norm_kernels() if device.type == "cpu" else nullcontext():
        torch.save(function(device), folder / f"{rank}.pt")
    dist.destroy_process_group()


COLLECTIVES: dict[str, tuple[Callable[[Tensor], Any], Any]] = {  # of [1, 2] on the first and [2, 4] on the second rank
    "all_gather_stack": (distributed.all_gather_stack, torch.tensor([[1.0, 2], [2, 4]])),
    "all_gather_with_grad": (lambda x: gathered_and_gradient(x), torch.tensor([[1.0, 2, 2, 4], [2, 4, 4, 8]])),
    "all_reduce_mean": (distributed.all_reduce_mean, torch.tensor([1.5, 3])),
    "AnyRank": (lambda x: flagged(bool(x[0] > 1)), [True, False]),
    "all_gather_object": (lambda x: distributed.all_gather_object(distributed.rank()), [0, 1]),
    "broadcast_from_rank0": (lambda x: distributed.broadcast_from_rank0(lambda: x.cpu()), torch.tensor([1.0, 2])),
}


def flagged(flag: bool) -> list[bool] | None:
    """Flags of all ranks, of which the first is set on one alone."""
    any_rank = distributed.AnyRank()
    any_rank(flag, False)
    return any_rank.flush()


def gathered_and_gradient(x: Tensor) -> Tensor:
    """The gathered values, and on rank r the gradient of all ranks' sums of squares: twice 2 x."""
    x = x.clone().requires_grad_()
    everything = distributed.all_gather_with_grad(x)
    everything.square().sum().backward()
    gradients = distributed.all_gather_stack(x.grad / 4).flatten()
    return torch.stack([everything.detach(), gradients * 2])


def collectives(device: torch.device) -> dict[str, Any]:
    """What each collective gives of CUDA tensors, or the error."""
    x = torch.tensor([1.0, 2.0], device=device) * (1 + distributed.rank())
    found: dict[str, Any] = {}
    for name, (collective, _) in COLLECTIVES.items():
        try:
            value = collective(x)
            found[name] = value.cpu() if isinstance(value, Tensor) else value
        except (RuntimeError, NotImplementedError) as why:
            found[name] = why.__class__(str(why).splitlines()[0])
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_collectives_of_a_gpus_tensors(backend: str, tmp_path: Path):
    without: dict[str, Exception] = {}
    for found in spawned(collectives, WORLD, backend, tmp_path):
        for name, (_, want) in COLLECTIVES.items():
            if isinstance(found[name], Exception):
                without[name] = found[name]
            elif isinstance(want, Tensor):
                assert torch.equal(found[name], want), name
            else:
                assert found[name] == want, name
    if without:
        assert backend == "gloo", without  # training on GPUs is by NCCL, which must have all of them
        pytest.skip(f"{backend} cannot do this with CUDA tensors, all else is right: {without}")


def normalized(device: torch.device) -> dict[str, tuple[Tensor, ...]]:
    """A rank's part of what the fused batch norms give, forward and backward."""
    found, rank, world = {}, distributed.rank(), distributed.world_size()
    for name, shape in SHAPES.items():
        norm, *tensors = global_batch(shape)
        norm.to(device)
        x, g = (tensor.to(device).chunk(world)[rank] for tensor in tensors)
        if len(shape) == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        y = _FusedNormalize.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, 0.1, norm.eps)
        y.backward(g)
        values = (y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
        found[name] = tuple(value.cpu() for value in values)
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_fused_batch_norms_normalize_as_torch_does_the_whole_batch(backend: str, tmp_path: Path):
    require_whole_batch(spawned(normalized, WORLD, backend, tmp_path), 1e-10)


def every_kind(device: torch.device) -> dict[str, Any]:
    return {kind: trained(kind, distributed.rank(), distributed.world_size(), torch.float64, device) for kind in KINDS}


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_ranks_train_as_one_does(backend: str, tmp_path: Path):
    """Every method, hard views too, in float64."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (want,) = spawned(every_kind, 1, "gloo", one)
    for got in spawned(every_kind, WORLD, backend, two):
        for kind in KINDS:
            (state, rows), (want_state, want_rows) = got[kind], want[kind]
            assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in want_rows], rel=1e-9)
            for key, value in want_state.items():
                small = 1e-9 * max(1.0, float(value.abs().max()))
                np.testing.assert_allclose(state[key], value, rtol=1e-9, atol=small, err_msg=f"{kind} {key}")


def alone(device: torch.device) -> tuple[dict[str, tuple[Tensor, ...]], list[Tensor]]:
    """In a group of one: the fused batch norms, and gradients without and with DistributedDataParallel."""
    gradients = []
    for wrapped in (False, True):
        method, recipe, _ = built(small_recipe("cifar10"), "rsa")
        forward: nn.Module = Forward(method.to(device), "float32")
        if wrapped:
            forward = DistributedDataParallel(forward, gradient_as_bucket_view=True, find_unused_parameters=True)
        (batch,) = islice(batches(recipe, 8), 1)
        normalize = Normalize(small_recipe("cifar10").views.normalize, device)
        losses, _ = forward([normalize(view) for view in batch.views], batch.samples, 0.5, 1.0)
        losses["loss"].backward()
        gradients.append(torch.cat([each.grad.flatten() for each in method.parameters() if each.grad is not None]).cpu())
    return normalized(device), gradients


def test_nccl_with_one_process(tmp_path: Path):
    ((norms, (plain, wrapped)),) = spawned(alone, 1, NCCL, tmp_path)
    require_whole_batch([norms], 1e-10)
    assert torch.equal(plain, wrapped)
    assert plain.device == CPU
