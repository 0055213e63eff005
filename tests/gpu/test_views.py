"""Views on a GPU depend on (seed, epoch, sample, view) alone and are close to the CPU's; a late consumer gets them whole."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("nvidia.dali", reason="needs DALI: views are not tested")

from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.shards import write_shards
from rsa.data.views import candidate_view_pairs, multi_crop
from rsa.params.document import Params
from rsa.params.views import LocalViews
from rsa.training.device import gpu_number
from tests.data.photos import encoded, photographs, shard_params, source_of
from tests.gpu.device import GPU

BATCH, EPOCHS = 12, 2
Views = dict[tuple[int, int], list[Tensor]]  # (epoch, sample) -> views


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """50 JPEGs, most of them with half the resolution of colours, whose upsampling differs between decoders."""
    folder = tmp_path_factory.mktemp("shards") / "photos"
    folder.mkdir()
    images = {f"photo_{i:03d}": encoded(image, quality=90) for i, image in enumerate(photographs(54))}
    write_shards(source_of(images), shard_params(), {"dataset": "photos"}, folder, folder.parent / "work")
    return Split(folder, "train")


def loader(split: Split, p: Params, gpu: int | None, **options: Any) -> TrainingViews:
    local = LocalViews(count=2, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.2)
    views = p.views.model_copy(update={"local": local})
    pairs, crops = candidate_view_pairs(views), multi_crop(views)
    recipe = crops if options.pop("local", False) else pairs
    return TrainingViews(split, recipe, **{"batch_size": BATCH, "seed": 5, "threads": 2, "gpu": gpu, **options})


def by_sample(split: Split, p: Params, device: torch.device = GPU, wait: Callable[[], object] = int, **options: Any) -> Views:
    """The views of the first epochs, from every rank; `wait` is called before each batch is read."""
    found: Views = {}
    world, start = options.pop("world", 1), options.pop("start", 0)
    for rank in range(world):
        views = loader(split, p, gpu_number(device), rank=rank, world=world, start=start, **options)
        read = []
        for batch in islice(views, EPOCHS * views.steps_per_epoch - start):
            wait()
            read.append((batch.samples, [view + 0 for view in batch.views]))  # by a kernel behind what `wait` has queued
        for samples, seen in read:
            found |= {(samples.epoch, int(id)): [view[i].cpu() for view in seen] for i, id in enumerate(samples.ids)}
    return found


def same(got: Views, want: Views) -> bool:
    both = got.keys() & want.keys()
    assert len(both) > BATCH
    return all(torch.equal(a, b) for key in both for a, b in zip(got[key], want[key], strict=True))


OTHERS: list[dict[str, Any]] = [
    {"batch_size": 7}, {"batch_size": 25}, {"world": 2}, {"world": 3}, {"start": 3}, {"prefetch": 1}, {"threads": 1},
]  # fmt: skip


@pytest.mark.parametrize("local", [False, True])
def test_a_view_depends_on_its_sample_alone(photos: Split, tiny: Params, local: bool):
    want = by_sample(photos, tiny, local=local)
    assert same(by_sample(photos, tiny, local=local), want)
    for others in OTHERS:
        assert same(by_sample(photos, tiny, local=local, **others), want), others


def test_a_consumer_that_is_late_gets_the_same_pixels(photos: Split, tiny: Params):
    """Kernels wait on the GPU for 50 ms a batch, while the loader goes on."""

    def wait() -> None:
        if GPU.type == "cuda":
            torch.cuda._sleep(10**8)  # clock cycles

    assert same(by_sample(photos, tiny, wait=wait), by_sample(photos, tiny))


def test_how_far_pixels_are_from_the_cpus(photos: Split, tiny: Params, record_property: Callable[[str, object], None]):
    """Decoder, resizing: of uncoloured and of coloured views, in 255ths."""
    got, want = by_sample(photos, tiny), by_sample(photos, tiny, torch.device("cpu"))
    for kind, views in (("plain", slice(0, 2)), ("coloured", slice(2, 4))):
        pairs = [(a, b) for key in want for a, b in zip(got[key][views], want[key][views], strict=True)]
        apart = torch.stack([(a.int() - b.int()).abs().double() for a, b in pairs])
        share, mean, furthest = (float(value) for value in ((apart > 0).double().mean(), apart.mean(), apart.max()))
        found = f"{share:.1%} of values differ, mean {mean:.3f}, max {furthest:.0f} of 255"
        record_property(f"{kind} views, GPU against CPU", found)
        assert mean < 2
        assert float(apart.flatten(1).mean(1).max()) < 8  # no view is another one
