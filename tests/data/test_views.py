"""Views are distributed as torchvision draws them: two samples, ours and torchvision's, must not be told apart."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from rsa.data.views import (
    TRIES,
    Crop,
    candidate_view_pairs,
    candidates,
    color_of,
    crop_of,
    draw_boxes,
    draw_colors,
    multi_crop,
)
from rsa.params.views import LocalViews

COUNT = 4000


def boxes(crop: Crop, height: int, width: int, count: int = COUNT):
    ids = np.arange(count)
    return draw_boxes(crop, 0, 0, ids, np.zeros(count, int), np.full(count, height), np.full(count, width))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (60, 300)])
def test_boxes_follow_random_resized_crop(height, width):
    crop = Crop(32, (0.2, 1.0), (3 / 4, 4 / 3), "linear", 0.5, exact=False)
    drawn = boxes(crop, height, width)
    torch.manual_seed(0)
    transform, image = v2.RandomResizedCrop(32, crop.scale, crop.ratio), torch.empty(3, height, width)
    theirs = [transform.make_params([image]) for _ in range(COUNT)]
    ours = {"top": drawn.start[:, 0], "left": drawn.start[:, 1], "height": drawn.shape[:, 0], "width": drawn.shape[:, 1]}
    for key, values in ours.items():
        assert stats.ks_2samp(values, [box[key] for box in theirs]).pvalue > 1e-3, key
    area = drawn.shape.prod(1)
    assert stats.ks_2samp(area, [box["height"] * box["width"] for box in theirs]).pvalue > 1e-3


def test_boxes_lie_inside_and_flips_are_fair():
    drawn = boxes(Crop(32, (0.05, 1.0), (3 / 4, 4 / 3), "linear", 0.3, exact=False), 41, 97)
    assert (drawn.start >= 0).all()
    assert (drawn.start + drawn.shape <= [41, 97]).all()
    assert (drawn.shape > 0).all()
    assert stats.binomtest(int(drawn.flip.sum()), COUNT, 0.3).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10)])
def test_an_image_that_no_box_fits_gets_torchvisions_central_crop(height, width):
    crop = Crop(32, (0.9, 1.0), (1.0, 1.0), "linear", 0.0, exact=False)
    drawn = boxes(crop, height, width, 50)
    want = v2.RandomResizedCrop(32, crop.scale, crop.ratio).make_params([torch.empty(3, height, width)])
    assert TRIES == 10  # torchvision's
    assert (drawn.start == [want["top"], want["left"]]).all()
    assert (drawn.shape == [want["height"], want["width"]]).all()


def test_colors_follow_their_probabilities_and_ranges(tiny):
    color = color_of(tiny.views.model_copy(update={"exact_color": True, "solarize_prob": (0.3, 0.0)}), 0)
    drawn = draw_colors(color, 0, 0, np.arange(COUNT), np.zeros(COUNT, int))
    changed = np.any([np.any(step.matrix != np.eye(3), axis=(1, 2)) for step in [*drawn.before, *drawn.after[:3]]], axis=0)
    turned = drawn.turns != 0
    gray = np.any(drawn.after[3].matrix != np.eye(3), axis=(1, 2))
    for happened, prob in (
        (changed, color.jitter.prob),
        (turned, color.jitter.prob),
        (gray, color.gray_prob),
        (drawn.sigma > 0, color.blur_prob),
        (drawn.solarize, color.solarize_prob),
    ):
        assert stats.binomtest(int(happened.sum()), COUNT, prob).pvalue > 1e-3
    low, high = color.blur_sigma
    assert stats.kstest(drawn.sigma[drawn.sigma > 0], "uniform", (low, high - low)).pvalue > 1e-3
    assert stats.kstest(drawn.turns[turned], "uniform", (-color.jitter.hue, 2 * color.jitter.hue)).pvalue > 1e-3


def test_the_four_operations_come_in_all_24_orders_alike(tiny):
    color = color_of(tiny.views.model_copy(update={"exact_color": True}), 0)
    drawn = draw_colors(color, 0, 0, np.arange(COUNT), np.zeros(COUNT, int))
    operations = [drawn.before, drawn.after[:3]]
    brightness, contrast, saturation = (
        np.stack([[kind(step) for step in steps] for steps in operations])  # (2, 3, COUNT): three places before hue, three after
        for kind in (
            lambda step: (step.matrix[:, 0, 1] == 0) & (step.matrix[:, 0, 0] != 1) & (step.mean_matrix[:, 0, 0] == 0),
            lambda step: step.mean_matrix[:, 0, 0] != 0,
            lambda step: step.matrix[:, 0, 1] != 0,
        )
    )
    assert (brightness.sum((0, 1)) == (drawn.turns != 0)).all()
    jittered = drawn.turns != 0
    places = np.stack([each.reshape(6, -1).argmax(0)[jittered] for each in (brightness, contrast, saturation)])
    orders, counts = np.unique(places.argsort(0) + 10 * (places < 3).sum(0), axis=1, return_counts=True)
    assert orders.shape[1] == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_brightness_factors_follow_color_jitter(tiny):
    jitter = tiny.views.jitter.model_copy(update={"prob": 1.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0})
    color = color_of(tiny.views.model_copy(update={"jitter": jitter, "gray_prob": 0.0}), 0)
    drawn = draw_colors(color, 0, 0, np.arange(COUNT), np.zeros(COUNT, int))
    factors = drawn.before[0].matrix[:, 0, 0]
    torch.manual_seed(0)
    theirs = [v2.ColorJitter(brightness=jitter.brightness).make_params([])["brightness_factor"] for _ in range(COUNT)]
    assert stats.ks_2samp(factors, theirs).pvalue > 1e-3


def test_an_aggressive_view_shares_box_and_flip_with_its_weak_view(tiny):
    recipe = candidate_view_pairs(tiny.views)
    assert [view.crop for view in recipe.views] == [0, 1, 0, 1]
    assert [view.color is None for view in recipe.views] == [True, True, False, False]
    assert recipe.crops == candidates(tiny.views).crops


def test_the_asymmetric_pair_of_byol(tiny):
    blur = tiny.views.blur.model_copy(update={"prob": (1.0, 0.1)})
    views = candidates(tiny.views.model_copy(update={"blur": blur, "solarize_prob": (0.0, 0.2)})).views
    assert [view.color.blur_prob for view in views] == [1.0, 0.1]
    assert [view.color.solarize_prob for view in views] == [0.0, 0.2]


def test_multi_crop_has_local_views_of_their_own_size(tiny):
    local = LocalViews(count=6, size=8, crop_scale=(0.05, 0.4), blur_prob=0.5, solarize_prob=0.0)
    recipe = multi_crop(tiny.views.model_copy(update={"local": local}))
    assert [crop.size for crop in recipe.crops] == [tiny.views.size] * 2 + [8] * 6
    assert [view.crop for view in recipe.views] == list(range(8))
    with pytest.raises(ValueError, match=r"views\.local must be set for multi-crop, got null"):
        multi_crop(tiny.views)


def test_two_candidates_are_the_plain_views(tiny):
    assert candidates(tiny.views, 2) == candidates(tiny.views)
    assert candidate_view_pairs(tiny.views, 2) == candidate_view_pairs(tiny.views)
    assert len(candidates(tiny.views, 5).crops) == 5
    assert [view.crop for view in candidate_view_pairs(tiny.views, 3).views] == [0, 1, 2, 0, 1, 2]
    assert crop_of(tiny.views) == candidates(tiny.views, 5).crops[4]
