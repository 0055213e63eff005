"""The same views for any number of ranks and threads, any prefetch depth and batch split; and from any step on."""

import hashlib
import itertools
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image

from rsa.data.decoding import Decoder
from rsa.data.evaluation_images import evaluation_images
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.views import candidate_view_pairs, candidates, crop_of, draw_boxes, multi_crop
from rsa.params.document import Params
from rsa.params.evaluation import Geometry
from rsa.params.views import LocalViews

BATCH, STEPS = 12, 6  # an epoch is 4 steps of the 50 photographs: its border lies between


def loader(split: Split, tiny: Params, **options) -> TrainingViews:
    settings = {"batch_size": BATCH, "seed": 5, "threads": 1, **options}
    return TrainingViews(split, candidate_view_pairs(tiny.views), **settings)


def pixels(views: TrainingViews, steps: int = STEPS) -> list[np.ndarray]:
    """Of every step: (views, B, H, W, 3)."""
    return [np.stack([view.numpy() for view in batch.views]) for batch in itertools.islice(views, steps)]


@pytest.fixture
def straight(train: Split, tiny: Params) -> list[np.ndarray]:
    return pixels(loader(train, tiny))


@pytest.mark.parametrize("world", [2, 4, 5])
def test_any_number_of_ranks(train, tiny, straight, world):
    ranks = [pixels(loader(train, tiny, rank=rank, world=world)) for rank in range(world)]
    for step in range(STEPS):
        np.testing.assert_array_equal(np.concatenate([rank[step] for rank in ranks], axis=1), straight[step])


@pytest.mark.parametrize("options", [{"threads": 2}, {"threads": 4}, {"prefetch": 1}, {"prefetch": 5}])
def test_any_number_of_threads_and_any_prefetch_depth(train, tiny, straight, options):
    for got, want in zip(pixels(loader(train, tiny, **options)), straight, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_samples_views_do_not_depend_on_its_batch(train, tiny, straight):
    by_id = {}
    for batch in itertools.islice(loader(train, tiny), 4):
        by_id |= {id: [view[i].numpy() for view in batch.views] for i, id in enumerate(batch.samples.ids)}
    for batch in itertools.islice(loader(train, tiny, batch_size=7), 5):
        for i, id in enumerate(batch.samples.ids):
            if id in by_id:
                for got, want in zip(batch.views, by_id[id], strict=True):
                    np.testing.assert_array_equal(got[i].numpy(), want)


@pytest.mark.parametrize("start", [1, 3, 4, 5])
def test_continues_at_any_step_at_another_world_size(train, tiny, straight, start):
    ranks = [pixels(loader(train, tiny, rank=rank, world=2, start=start), STEPS - start) for rank in range(2)]
    for step in range(start, STEPS):
        np.testing.assert_array_equal(np.concatenate([rank[step - start] for rank in ranks], axis=1), straight[step])


CHILD = """
import sys, hashlib, itertools
from pathlib import Path
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.params.load import load
from rsa.data.views import candidate_view_pairs

views = candidate_view_pairs(load(Path(sys.argv[2])).views)
loader = TrainingViews(Split(Path(sys.argv[1]), "train"), views, batch_size=12, seed=5, threads=1, start=5)
print(hashlib.sha256(b"".join(view.numpy().tobytes() for view in next(iter(loader)).views)).hexdigest())
"""


def test_continues_in_a_new_process(shards, straight):
    tiny = Path(__file__).parents[1] / "tiny.yaml"
    command = [sys.executable, "-c", CHILD, str(shards), str(tiny)]
    child = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert child.stdout.split()[-1] == hashlib.sha256(straight[5].tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 6), ("batch_size", 24), ("index_sha256", "other shards"), ("recipe_sha256", "another recipe")],
)
def test_a_state_of_other_data_is_refused_with_both_values(train, tiny, key, value):
    here = loader(train, tiny).position(3)
    here.require_same_data(replace(here, iteration=9))
    with pytest.raises(ValueError, match=f"written with {key} {value}, this run uses {getattr(here, key)}"):
        here.require_same_data(replace(here, **{key: value}))


def test_the_position_tells_recipes_apart(train, tiny):
    wider = tiny.model_copy(update={"views": tiny.views.model_copy(update={"crop_scale": (0.1, 1.0)})})
    assert loader(train, tiny).position(0).recipe_sha256 != loader(train, wider).position(0).recipe_sha256


def test_labels_ids_and_boxes_belong_to_the_images(train, tiny):
    batch = next(iter(loader(train, tiny)))
    np.testing.assert_array_equal(batch.samples.labels, train.labels[batch.samples.ids])
    rows = train.rows[batch.samples.ids]
    heights, widths = rows["height"].astype(int), rows["width"].astype(int)
    for number in range(2):
        want = draw_boxes(crop_of(tiny.views), number, 5, batch.samples.ids, np.zeros(BATCH, int), heights, widths)
        np.testing.assert_array_equal(batch.samples.boxes[number], np.column_stack([want.start, want.shape, want.flip]))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("interpolation", "size"), [("linear", 32), ("linear", 96), ("bicubic", 32)])
def test_weak_views_are_torchvisions_resized_crops(train, tiny, exact, interpolation, size):
    """To the outermost pixel with exact_color; crops of 96 px grow along one side and shrink along the other."""
    changed = {"exact_color": exact, "interpolation": interpolation, "size": size}
    recipe = candidate_view_pairs(tiny.views.model_copy(update=changed))
    batch = next(iter(TrainingViews(train, recipe, batch_size=BATCH, seed=5, threads=1)))
    mode = tv.InterpolationMode.BICUBIC if interpolation == "bicubic" else tv.InterpolationMode.BILINEAR
    decode, worst = Decoder(), 0
    for i, id in enumerate(batch.samples.ids):
        for crop, box in enumerate(batch.samples.boxes):
            image = Image.fromarray(decode(train.read(int(id))))
            top, left, height, width, flip = box[i]
            want = tv.resized_crop(image, int(top), int(left), int(height), int(width), [size] * 2, mode)
            want = tv.hflip(want) if flip else want
            difference = np.abs(batch.views[crop][i].numpy().astype(int) - np.asarray(want).astype(int))
            assert difference.mean() <= 0.5  # of 255
            worst = max(worst, difference.max())
    assert worst <= ((2 if interpolation == "linear" else 4) if exact else 25)  # divided in 8 bits, twice in a corner


def test_aggressive_views_of_rsa_are_the_views_of_byol(train, tiny):
    rsa = next(iter(loader(train, tiny)))
    byol = next(iter(TrainingViews(train, candidates(tiny.views), batch_size=BATCH, seed=5, threads=1)))
    for got, want in zip(rsa.views[2:], byol.views, strict=True):
        np.testing.assert_array_equal(got, want)


def test_local_views_have_their_own_size(train, tiny):
    local = LocalViews(count=2, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.5)
    recipe = multi_crop(tiny.views.model_copy(update={"local": local}))
    batch = next(iter(TrainingViews(train, recipe, batch_size=BATCH, seed=0, threads=1)))
    size = tiny.views.size
    assert [tuple(view.shape) for view in batch.views] == [(BATCH, size, size, 3)] * 2 + [(BATCH, 8, 8, 3)] * 2


def test_held_batches_are_not_overwritten(train, tiny, straight):
    held = list(itertools.islice(loader(train, tiny), STEPS))
    for batch, want in zip(held, straight, strict=True):
        np.testing.assert_array_equal(np.stack([view.numpy() for view in batch.views]), want)


@pytest.mark.parametrize("interpolation", ["linear", "bicubic"])
def test_evaluation_images_are_torchvisions_resize_and_centre_crop(train, interpolation):
    """To the outermost pixel: whether a crop is the whole short side, or cuts off some or all pixels that the filter mixed."""
    mode = tv.InterpolationMode.BICUBIC if interpolation == "bicubic" else tv.InterpolationMode.BILINEAR
    decode = Decoder()
    stored = [Image.fromarray(decode(train.read(id))) for id in range(len(train))]
    for resize, crop in ((40, 32), (32, 32), (33, 32), (30, 28)):
        p = Geometry(resize=resize, crop=crop, interpolation=interpolation)
        got = torch.cat(list(evaluation_images(train, p, batch_size=16, threads=2))).numpy().astype(int)
        want = np.stack([tv.center_crop(tv.resize(image, resize, mode), [crop, crop]) for image in stored]).astype(int)
        assert np.abs(got - want).mean() <= 0.3
        assert np.abs(got - want).max() <= (1 if interpolation == "linear" else 5)  # Pillow rounds between both sides' passes


def test_how_far_views_are_from_other_views(train: Split, tiny: Params):
    batch = next(iter(loader(train, tiny)))
    assert batch.difference(batch) == {"share": 0, "mean": 0}
    changed = [view.clone() for view in batch.views]
    changed[0][0, 0, 0, 0] = int(changed[0][0, 0, 0, 0]) ^ 16  # one value, by 16
    values = sum(view.numel() for view in batch.views)
    assert batch.difference(replace(batch, views=changed)) == pytest.approx({"share": 1 / values, "mean": 16 / values})


def test_shards_are_read_and_checked_by_another_thread_than_the_one_that_trains(
    train: Split, tiny: Params, monkeypatch: pytest.MonkeyPatch
):
    readers = set()
    read = Split.read
    monkeypatch.setattr(Split, "read", lambda split, id: readers.add(threading.get_ident()) or read(split, id))
    next(iter(loader(train, tiny)))
    assert len(readers) == 1
    assert threading.get_ident() not in readers
