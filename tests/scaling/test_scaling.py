"""Predicted bytes against bytes: of shards, an index, a cache, checkpoints and what ranks send."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from rsa import distributed
from rsa.data import cache
from rsa.data.cache import RemoteShards, link_shards
from rsa.data.index import Split
from rsa.data.order import Order
from rsa.data.shards import write_shards
from rsa.methods import build_method
from rsa.methods.method import Method
from rsa.models.backbones import build_backbone
from rsa.models.sync_batch_norm import synchronize
from rsa.params.document import Params
from rsa.params.load import load
from rsa.scaling import counting, formulae, prediction
from rsa.training.checkpoint import Checkpoints, training_state
from rsa.training.forward import forward_of_ranks
from rsa.training.optim import build_optimizer
from tests.conftest import TINY
from tests.data.photos import encoded, photographs, shard_params, source_of

NAMES = ["byol", "rsa"]
WORLD = 4


@pytest.fixture(scope="module")
def tiny_params() -> Params:
    return load(TINY)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 training photographs, 10 to a shard."""
    folder = tmp_path_factory.mktemp("scaling") / "photos"
    folder.mkdir()
    images = {f"photo_{i:03d}": encoded(image, quality=90) for i, image in enumerate(photographs(104))}
    write_shards(source_of(images), shard_params(samples_per_shard=10), {}, folder, folder.parent / "work")
    return folder


def test_a_shard_has_the_predicted_bytes(shards: Path):
    split = Split(shards, "train")
    for number, shard in enumerate(split.shards):
        sizes = split.rows["size"][split.rows["shard"] == number]
        predicted = formulae.shard_bytes(sum(formulae.sample_bytes(int(size)) for size in sizes))
        assert predicted == (shards / "train" / shard["name"]).stat().st_size
    mean = split.rows["size"].mean() + 0.5  # not a whole number: what is filled up is a mean too
    assert len(split) * formulae.sample_bytes(mean) == pytest.approx(sum(shard["bytes"] for shard in split.shards), rel=0.15)


def test_an_index_has_the_predicted_bytes(shards: Path):
    split = Split(shards, "train")
    predicted = formulae.index_bytes(len(split), split.rows.dtype["name"].itemsize)
    assert predicted == (shards / "train" / "index.npy").stat().st_size


@pytest.mark.parametrize("held", [2, 5, 8])
def test_a_cache_that_holds_some_shards_misses_the_predicted_share(
    held: int, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fetched = []

    def download(url: str, path: Path) -> None:
        fetched.append(url)
        path.write_bytes(Path(url).read_bytes())

    monkeypatch.setattr(cache, "download", download)
    files = [shard["bytes"] for shard in Split(shards, "train").shards]
    limit = held * max(files)
    where = {"raw": str(shards / "manifest.json"), "url": str(shards), "cache": str(tmp_path / "cache"), "cache_bytes": limit}
    (tmp_path / "linked").mkdir()
    link_shards(RemoteShards.model_validate({"source": "remote_shards", **where}), tmp_path / "linked")
    split = Split(tmp_path / "linked", "train")
    order = Order(len(split), 10, 0)
    for i in range(4 * order.steps_per_epoch):
        if i == order.steps_per_epoch:
            fetched.clear()  # the first epoch fills the cache
        for id in order.batch(i)[0]:
            split.read(int(id))
    assert len(fetched) / (3 * len(split)) == pytest.approx(formulae.missed(limit, sum(files)), abs=0.06)


@pytest.mark.parametrize("samples", [5, 50, 500])
def test_an_empty_cache_fetches_the_predicted_share_of_shards(samples: int):
    shards = 40
    orders = [Order(4000, samples, seed) for seed in range(50)]
    found = [len(set(order.batch(0)[0] // 100)) / shards for order in orders]
    assert np.mean(found) == pytest.approx(formulae.touched(samples, shards), rel=0.05)


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest, tiny_params: Params) -> tuple[str, Method]:
    model, _ = build_method(tiny_params.methods[request.param], build_backbone(tiny_params.model), tiny_params.views)
    return request.param, model.train()


def take_step(p: Params, model: Method, images: int = 4) -> None:
    counting._step(model, [p.views.size] * (4 if hasattr(model, "beta") else 2), images, False)


def tensors_in(state: object) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list):
        for value in state.values() if isinstance(state, dict) else state:
            yield from tensors_in(value)


def test_a_checkpoint_has_the_predicted_bytes(method: tuple[str, Method], tiny_params: Params, tmp_path: Path):
    name, model = method
    optimizer = build_optimizer(model.parameters(), model.constant_lr(), tiny_params.methods[name].optimizer)
    take_step(tiny_params, model)
    optimizer.step()
    state = training_state(model, optimizer)
    counts = counting.count(tiny_params, name)
    predicted = formulae.checkpoint_bytes(counts.parameters, counts.buffers, counts.trained, counts.states)
    assert predicted == sum(tensor.nbytes for part in ("model", "optimizer") for tensor in tensors_in(state[part]))
    Checkpoints(tmp_path, 1, 1).save(1, state)
    assert predicted < next(tmp_path.glob("*.ckpt")).stat().st_size < predicted + 1000 * len(list(tensors_in(state)))


def bytes_of_buckets(model: Method) -> list[int]:
    """The sizes of the messages by which DistributedDataParallel averages gradients."""
    sent: list[int] = []

    def note(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        sent.append(bucket.buffer().nbytes)
        averaged: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        averaged.set_result(bucket.buffer())
        return averaged

    forward = forward_of_ranks(model, "float32")
    forward.register_comm_hook(None, note)
    every = sum(parameter.sum() for parameter in model.parameters() if parameter.requires_grad)
    forward.module.method.embed = lambda views, samples: ()
    forward.module.method.losses = lambda embedded, progress: {"loss": every}
    forward([torch.zeros(1)], None, 0.5, 1.0)[0]["loss"].backward()
    return sent


def test_ranks_send_the_predicted_bytes(method: tuple[str, Method], tiny_params: Params, monkeypatch: pytest.MonkeyPatch):
    name, model = method
    sent: list[int] = []
    dist.init_process_group("fake", rank=0, world_size=WORLD, store=FakeStore())  # sends nothing to nobody
    try:
        monkeypatch.setattr(dist, "all_reduce", lambda x, *more: sent.append(x.nbytes))
        monkeypatch.setattr(distributed, "_gather_into", lambda out, x: sent.append(x.nbytes) or out.copy_(x.repeat(WORLD)))
        synchronize(model)
        take_step(tiny_params, model)
        norms, exchanges = sum(sent), len(sent)
        sent.clear()
        gradients = sum(bytes_of_buckets(model))
    finally:
        dist.destroy_process_group()
    counts = counting.count(tiny_params, name)
    assert gradients == formulae.gradient_bytes(counts.trained)
    assert norms == formulae.batch_norm_bytes(counts.forward_channels, counts.backward_channels)
    assert exchanges == counts.norms


def test_a_ring_sends_each_part_to_everyone_but_its_owner_twice():
    assert formulae.ring_bytes(800, 1) == 0
    assert formulae.ring_bytes(800, 2) == 800
    assert formulae.ring_bytes(800, 8) == 2 * 7 * 100


@pytest.mark.parametrize("candidates", [3, 4])
def test_scoring_candidates_costs_their_forward_through_both_networks(candidates: int, tiny_params: Params):
    plain = counting.count(counting.with_hard_views(tiny_params, "byol", None), "byol")
    hard = counting.count(counting.with_hard_views(tiny_params, "byol", candidates), "byol")
    # A plain step has two views: forward through both networks, and backward, twice a forward, through the online one.
    # The first convolution needs no gradient of its input, and the predictor is the online network's alone: little of both.
    assert hard.flop / plain.flop == pytest.approx(1 + candidates * 2 / (2 * 4), rel=0.03)
    assert hard.trained == plain.trained
    assert hard.activations == pytest.approx(plain.activations, rel=0.01)
    assert hard.backward_channels == plain.backward_channels
    assert hard.forward_channels > plain.forward_channels


def test_what_is_kept_for_the_backward_pass_grows_with_the_batch(tiny_params: Params):
    model, _ = build_method(tiny_params.methods["byol"], build_backbone(tiny_params.model), tiny_params.views)
    kept = []
    for images in (8, 16):
        with counting._kept_bytes(model.train()) as bytes_kept:
            take_step(tiny_params, model, images)
        kept.append(bytes_kept())
    assert (kept[1] - kept[0]) / 8 == pytest.approx(counting.count(tiny_params, "byol").activations, rel=0.01)


def test_predictions_scale(tiny_params: Params):
    counts = counting.count(tiny_params, "byol")
    given = prediction.Given(1000, 500.5, 24, 2, 0.001)
    two, four = (prediction.predict(tiny_params, counts, given, gpus) for gpus in (2, 4))
    hours = next(label for label in two if label.startswith("hours of"))
    assert two[hours] == pytest.approx(2 * four[hours])
    assert two[hours] == pytest.approx(31 * 32 * counts.flop / (2 * 1e9) / 3600)  # 31 steps of 32 images, 1 epoch, 1 GFLOP/s each
    assert two["shards"] == four["shards"] == 5
    assert four["GB from S3 in all, all nodes"] == 2 * two["GB from S3 in all, all nodes"]  # two nodes of two
    assert all(np.isfinite(value) for value in two.values())
    slow = prediction.Given(1000, 500.5, 24, 2, 0.001, launches=60.0, exchange=0.5)
    one, four = (prediction.predict(tiny_params, counts, slow, gpus) for gpus in (1, 4))
    assert one["seconds of a step"] == 60  # bound by launches, and there is nobody to exchange with
    assert four["seconds of a step"] == 60 + 0.5 * counts.norms
    assert four["exchanges of batch norms in a step"] == counts.norms
