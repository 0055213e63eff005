"""1, 2 and 4 ranks compute the same: real processes, gloo, every method, hard views too."""

import copy
import multiprocessing
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.distributed as dist
from torch import Tensor

from rsa.data.batch import Batch
from rsa.data.normalize import Normalize
from rsa.data.samples import Samples
from rsa.methods import build_method
from rsa.models.sync_batch_norm import SyncBatchNorm, synchronize
from rsa.params.pretrain import Pretrain
from rsa.params.views import LocalViews, Views
from rsa.training.checkpoint import load_training_state, training_state
from rsa.training.loop import train
from rsa.training.optim import build_optimizer
from tests.conftest import IMAGENET
from tests.methods.networks import Backbone
from tests.methods.sections import SECTIONS, section
from tests.training.test_loop import PRETRAIN

STEPS, BATCH = 5, 8
CPU = torch.device("cpu")
VIEWS = Views(
    size=16, crop_scale=(0.5, 1), crop_ratio=(0.75, 1.33), interpolation="linear", flip_prob=0.5,
    jitter={"prob": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}, gray_prob=0.2,
    blur={"prob": (0.5, 0.5), "sigma": (0.1, 1.0), "kernel": "pillow"}, solarize_prob=(0, 0), exact_color=False,
    normalize=IMAGENET,
    local=LocalViews(count=2, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0),
)  # fmt: skip
HARD = {
    "candidates": 3, "local_candidates": 3, "max_combinations": 8,
    "scoring": {"joint_views": True, "precision": "same", "predicted": None, "reuse": False},
}  # fmt: skip
ADAPTIVE = {"schedule": "adaptive", "start": 0.4, "end": 0.0, "window": 64, "after": 0.0}
KINDS = {name: (name, {}) for name in SECTIONS}
KINDS |= {f"{name}, hard views": (name, {"hard_views": HARD}) for name in SECTIONS}
KINDS["ibot, hard views"] = ("ibot", {"hard_views": {**HARD, "local_candidates": None}})  # which selects global views alone
KINDS["rsa, adaptive beta"] = ("rsa", {"beta": ADAPTIVE})

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["tests.training.test_ranks"])


def batches(sizes: list[int], rank: int, world: int, size: int = BATCH) -> Iterator[Batch]:
    """This rank's block of global batches."""
    random = np.random.default_rng(0)
    mine = slice(rank * size // world, (rank + 1) * size // world)
    for iteration in range(STEPS):
        views = [torch.from_numpy(random.integers(0, 256, (size, s, s, 3), dtype=np.uint8)) for s in sizes]
        boxes = random.integers(4, 9, (len(sizes), size, 5))
        whole = Samples(np.arange(size) + iteration * size, torch.arange(size) % 3, boxes, 0, 0)
        yield Batch(iteration, whole[mine], [view[mine] for view in views])


def trained(
    kind: str, rank: int, world: int, dtype: torch.dtype, device: torch.device = CPU
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    torch.set_default_dtype(dtype)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    name, changes = KINDS[kind]
    p = section(name, **changes)
    small = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2, "dynamic_img_size": True}
    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, **small) if name == "ibot" else Backbone()
    method, recipe = build_method(p, backbone, VIEWS)
    method.to(device).train()
    if world > 1:
        synchronize(method)
    optimizer = build_optimizer(method.parameters(), method.constant_lr(), p.optimizer)
    rows: list[dict[str, float]] = []
    sizes = [recipe.crops[view.crop].size for view in recipe.views]
    pretrain = Pretrain.model_validate({**PRETRAIN, "batch_size": BATCH})
    train(
        method, batches(sizes, rank, world), optimizer, pretrain, p.optimizer,
        total_steps=STEPS, normalize=Normalize(IMAGENET, device), stop_on_collapse=False, report=rows.extend,
    )  # fmt: skip
    return {name: tensor.cpu() for name, tensor in method.state_dict().items()}, rows


def rank_of(kinds: list[str], rank: int, world: int, dtype: torch.dtype, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    results: dict[str, Any] = {kind: trained(kind, rank, world, dtype) for kind in kinds}
    if rank in (0, world - 1):
        torch.save(results, folder / f"world{world}_rank{rank}.pt")
    dist.destroy_process_group()


def train_ranks(kinds: list[str], world: int, dtype: torch.dtype, folder: Path) -> list[dict[str, Any]]:
    """Train on `world` ranks; return what the first and the last rank have at the end."""
    ranks = [server.Process(target=rank_of, args=(kinds, rank, world, dtype, folder)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
        assert process.exitcode == 0
    return [torch.load(folder / f"world{world}_rank{rank}.pt") for rank in (0, world - 1)]


@pytest.fixture
def usual_dtype() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)], ids=["float64", "float32"])
@pytest.mark.parametrize("world", [2, 4])
def test_n_ranks_end_where_one_does(world: int, dtype: torch.dtype, tolerance: float, tmp_path: Path, usual_dtype: None):
    """Losses and every parameter, statistic, centre and window after 5 steps."""
    kinds = list(KINDS) if dtype == torch.float64 else ["byol", "rsa", "simclr"]
    first, last = train_ranks(kinds, world, dtype, tmp_path)
    for kind in kinds:
        want_state, want_rows = trained(kind, 0, 1, dtype)
        for state, rows in (first[kind], last[kind]):
            for row, want in zip(rows, want_rows, strict=True):
                assert row == {key: pytest.approx(value, rel=tolerance, abs=tolerance) for key, value in want.items()}, kind
            assert state.keys() == want_state.keys()
            for key, value in want_state.items():
                small = tolerance * max(1.0, float(value.abs().max()))  # rounding is relative to a tensor's largest entries
                np.testing.assert_allclose(state[key], value, rtol=tolerance, atol=small, err_msg=f"{kind} {key}")


def resumed(rank: int, folder: Path) -> None:
    """Train as one of three ranks, straight and in two parts with everything built anew in between."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    torch.set_num_threads(1)
    p = section("byol")
    pretrain = Pretrain.model_validate({**PRETRAIN, "batch_size": 12, "accumulate": 2})

    def part(first: int, last: int, state: dict[str, Any] | None) -> dict[str, Any]:
        torch.manual_seed(0)
        method, recipe = build_method(p, Backbone(), VIEWS)
        synchronize(method.train())
        optimizer = build_optimizer(method.parameters(), method.constant_lr(), p.optimizer)
        if state is not None:
            load_training_state(copy.deepcopy(state), method, optimizer)
        sizes = [recipe.crops[view.crop].size for view in recipe.views]
        train(
            method, islice(batches(sizes, rank, 3, 12), first, last), optimizer, pretrain, p.optimizer, total_steps=STEPS,
            normalize=Normalize(VIEWS.normalize, torch.device("cpu")), stop_on_collapse=False,
            report=lambda rows: None, start=first,
        )  # fmt: skip
        return training_state(method, optimizer)

    straight, again = part(0, STEPS, None)["model"], part(2, STEPS, part(0, 2, None))["model"]
    assert all(torch.equal(again[key], tensor) for key, tensor in straight.items())
    dist.destroy_process_group()


def test_three_ranks_that_resume_end_in_the_same_bits(tmp_path: Path):
    """With accumulation, too. A sum of three depends on its order, and so on the order of gradients in a bucket."""
    ranks = [server.Process(target=resumed, args=(rank, tmp_path)) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_on_one_rank_it_is_torchs_batch_norm(shape: tuple[int, ...], affine: bool):
    torch.manual_seed(0)
    kind = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    want, got = kind(3, affine=affine), torch.nn.Sequential(kind(3, affine=affine))
    synchronize(got)
    assert isinstance(got[0], SyncBatchNorm)
    x = torch.randn(shape)
    assert torch.equal(got(x), want(x))
    assert all(torch.equal(a, b) for a, b in zip(got[0].state_dict().values(), want.state_dict().values(), strict=True))


def test_a_norm_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match=r"0: only BatchNorm1d and BatchNorm2d can be synchronised; train in one process"):
        synchronize(torch.nn.Sequential(torch.nn.BatchNorm3d(2)))
