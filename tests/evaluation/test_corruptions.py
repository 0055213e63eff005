"""The corruptions against other ways to compute them, and what holds of all of them."""

import colorsys
import io
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import ndimage
from sklearn.datasets import load_sample_images

from rsa.evaluation.corruption_blurs import enlarge, glass_blur, smear
from rsa.evaluation.corruptions import NUMBERS, _plasma, corrupt
from rsa.evaluation.severities import SEVERITIES
from rsa.params.robustness import Corruption

U8 = NDArray[np.uint8]
NAMES = list(get_args(Corruption))
SIDES = {"imagenet": 224, "tiny_imagenet": 64, "cifar": 32}
# Not ordered by how far the pixels move: the authors change the kind of warp, shuffle or colour between severities.
UNORDERED = {"glass_blur", "elastic_transform", "saturate", "fog"}
UNDRAWN = {
    "brightness",
    "contrast",
    "saturate",
    "defocus_blur",
    "zoom_blur",
    "gaussian_blur",
    "pixelate",
    "jpeg_compression",
}


def photographs(count: int, side: int) -> U8:
    """Cuts of scikit-learn's two photographs, (count, side, side, 3)."""
    random, whole, cuts = np.random.default_rng(0), load_sample_images().images, []
    for i in range(count):
        cut = int(random.integers(224, 420))
        top, left = random.integers(0, whole[0].shape[0] - cut), random.integers(0, whole[0].shape[1] - cut)
        image = Image.fromarray(whole[i % 2][top : top + cut, left : left + cut])
        cuts.append(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(cuts)


def distance(a: U8, b: U8) -> float:
    """Root mean square over all values, in [0, 1]."""
    return float(np.sqrt(((a.astype(float) - b.astype(float)) ** 2).mean())) / 255


def applied(x: U8, name: str, severity: int = 3, constants: str = "cifar", seed: int = 0) -> U8:
    return corrupt(x, range(len(x)), name, severity, constants, seed)


def strength(name: str, severity: int = 3, constants: str = "cifar") -> Any:
    return SEVERITIES[constants][name][severity - 1]


def test_params_and_constants_name_the_same_corruptions():
    assert all(list(of) == list(SEVERITIES["imagenet"]) for of in SEVERITIES.values())
    assert set(NAMES) == set(SEVERITIES["imagenet"])
    assert all(len(values) == 5 for of in SEVERITIES.values() for values in of.values())


@pytest.mark.parametrize("constants", SEVERITIES)
@pytest.mark.parametrize("name", NAMES)
def test_images_stay_images_and_are_changed(name: str, constants: str):
    x = photographs(2, SIDES[constants] if constants != "imagenet" else 96)
    for severity in (1, 5):
        corrupted = applied(x, name, severity, constants)
        assert (corrupted.shape, corrupted.dtype) == (x.shape, np.uint8)
        assert 0.003 < distance(corrupted, x) < 0.6


@pytest.mark.parametrize("constants", SEVERITIES)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNORDERED])
def test_the_distance_to_the_clean_image_grows_with_severity(name: str, constants: str):
    x = photographs(8, SIDES[constants] if constants != "imagenet" else 128)
    distances = [distance(applied(x, name, severity, constants), x) for severity in range(1, 6)]
    assert all(a < b for a, b in pairwise(distances)), distances


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_corrupted_alike_in_any_batch_and_at_any_time(name: str):
    x = photographs(4, 32)
    whole = applied(x, name)
    np.testing.assert_array_equal(applied(x, name), whole)
    np.testing.assert_array_equal(corrupt(x[2:3], [2], name, 3, "cifar", 0), whole[2:3])
    np.testing.assert_array_equal(corrupt(x[::-1], [3, 2, 1, 0], name, 3, "cifar", 0), whole[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_depends_on_seed_and_sample(name: str):
    same = np.repeat(photographs(1, 32), 2, axis=0)
    corrupted = applied(same, name)
    drawn = name not in UNDRAWN
    assert np.array_equal(corrupted[0], corrupted[1]) != drawn
    assert np.array_equal(applied(same, name, seed=1), corrupted) != drawn


def test_severities_and_corruptions_draw_from_streams_of_their_own():
    """gaussian_noise and speckle_noise scale the same normal deviates, which must differ between them and between severities."""
    gray = np.full((1, 32, 32, 3), 128, np.uint8)
    noises = [
        (applied(gray, name, severity)[0].astype(float) - 128).flatten()
        for name in ("gaussian_noise", "speckle_noise")
        for severity in (1, 2)
    ]
    assert np.abs(np.corrcoef(noises) - np.eye(4)).max() < 0.1


# ---- against the formulas of the authors' code, or another library's result ----------------------


def test_noises_have_their_distributions():
    x = np.full((8, 64, 64, 3), 102, np.uint8)  # 0.4
    gaussian = applied(x, "gaussian_noise").astype(float) / 255
    assert gaussian.mean() == pytest.approx(0.4, abs=2e-3)
    assert gaussian.std() == pytest.approx(0.08, rel=0.02)
    speckle = applied(x, "speckle_noise").astype(float) / 255
    assert speckle.std() == pytest.approx(0.4 * 0.12, rel=0.02)
    shot = applied(x, "shot_noise").astype(float) / 255
    assert shot.mean() == pytest.approx(0.4, abs=2e-3)
    assert shot.std() == pytest.approx(np.sqrt(0.4 / 100), rel=0.02)  # Poisson of 40 photons of 100
    impulse = applied(x, "impulse_noise", 5)
    assert (impulse == 255).mean() == pytest.approx(0.07 / 2, rel=0.1)
    assert (impulse == 0).mean() == pytest.approx(0.07 / 2, rel=0.1)
    assert np.isin(impulse, [0, 102, 255]).all()


def test_brightness_and_saturation_are_those_of_hsv_pixel_by_pixel():
    x = photographs(1, 16)
    x[0, 0, :3] = [[0, 0, 0], [128, 128, 128], [255, 0, 0]]  # black, grey, pure
    more, (factor, added) = strength("brightness"), strength("saturate", 5)
    brighter, saturated = applied(x, "brightness")[0], applied(x, "saturate", 5)[0]
    for pixel, got_value, got_saturation in zip(
        x[0].reshape(-1, 3), brighter.reshape(-1, 3), saturated.reshape(-1, 3), strict=True
    ):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        want = np.array(colorsys.hsv_to_rgb(h, s, min(v + more, 1)))
        np.testing.assert_allclose(got_value, 255 * want, atol=0.51)
        want = np.array(colorsys.hsv_to_rgb(h, min(s * factor + added, 1), v))
        np.testing.assert_allclose(got_saturation, 255 * want, atol=0.51)


def test_contrast_keeps_the_mean_and_shrinks_the_rest():
    x = photographs(2, 32)
    for clean, corrupted in zip(x / 255, applied(x, "contrast") / 255, strict=True):
        for channel in range(3):
            mean = clean[..., channel].mean()
            np.testing.assert_allclose(corrupted[..., channel], mean + 0.4 * (clean[..., channel] - mean), atol=0.51 / 255)
    gray = np.repeat(photographs(1, 32).mean(-1, keepdims=True), 3, -1).round().astype(np.uint8)
    pillow = ImageEnhance.Contrast(Image.fromarray(gray[0])).enhance(0.4)
    np.testing.assert_allclose(applied(gray, "contrast")[0], np.asarray(pillow, float), atol=1.01)


def test_jpeg_and_pixelation_are_pillows():
    x = photographs(1, 32)
    buffer = io.BytesIO()
    Image.fromarray(x[0]).save(buffer, "JPEG", quality=58)
    np.testing.assert_array_equal(applied(x, "jpeg_compression")[0], np.asarray(Image.open(buffer)))
    x = photographs(1, 32)
    small = Image.fromarray(x[0]).reduce(2)  # box averages
    got = applied(x, "pixelate", 5, "tiny_imagenet")[0]  # half the side
    np.testing.assert_allclose(got, np.asarray(small, float).repeat(2, 0).repeat(2, 1), atol=1.01)


def test_gaussian_blur_of_a_point_is_a_gaussian():
    x = np.zeros((1, 33, 33, 3), np.uint8)
    x[0, 16, 16] = 255
    sigma = strength("gaussian_blur", 2, "imagenet")
    reach = np.arange(-16, 17)
    line = np.where(abs(reach) <= 4 * sigma, np.exp(-(reach**2) / (2 * sigma**2)), 0)
    want = 255 * np.outer(line, line) / line.sum() ** 2
    np.testing.assert_allclose(applied(x, "gaussian_blur", 2, "imagenet")[0, ..., 0], want, atol=0.51)


@pytest.mark.parametrize(("severity", "constants"), [(1, "imagenet"), (5, "imagenet"), (2, "cifar"), (5, "cifar")])
def test_defocus_blur_is_a_filter_with_a_disk(severity: int, constants: str):
    """The disk as in the authors' code, its edge smoothed by OpenCV's kernel written out; the filter by summing shifts."""
    radius, sigma = strength("defocus_blur", severity, constants)
    reach, width = (8, 3) if radius <= 8 else (radius, 5)
    offsets = np.arange(-reach, reach + 1)
    disk = np.array([[float(dx**2 + dy**2 <= radius**2) for dx in offsets] for dy in offsets])
    weights = np.array([np.exp(-((i - (width - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(width)])
    edge = np.outer(weights, weights) / weights.sum() ** 2
    kernel = ndimage.correlate(disk / disk.sum(), edge, mode="mirror")
    x = photographs(1, 40)
    padded = np.pad(x[0] / 255, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    want = np.zeros((40, 40, 3))
    for i in range(len(offsets)):
        for j in range(len(offsets)):
            want += kernel[i, j] * padded[i : i + 40, j : j + 40]
    np.testing.assert_allclose(applied(x, "defocus_blur", severity, constants)[0] / 255, np.clip(want, 0, 1), atol=0.51 / 255)


def test_glass_blur_of_a_batch_is_the_authors_loop_over_each_image():
    """Their tuple assignment of array rows copies one pixel onto the other, as it does here."""
    x = photographs(2, 24) / 255
    sigma, reach, rounds = 0.4, 2, 2
    randoms = [Generator(Philox(key=[0, id])) for id in range(2)]
    got = glass_blur(x.copy(), (sigma, reach, rounds), randoms)
    for id in range(2):
        random = Generator(Philox(key=[0, id]))
        places = range(24 - reach, reach, -1)
        shifts = random.integers(-reach, reach, (rounds, len(places), len(places), 2), dtype=np.int8).astype(int)
        image = np.stack([ndimage.gaussian_filter(x[id, ..., c], sigma, mode="nearest", truncate=4) for c in range(3)], -1)
        for turn in range(rounds):
            for i, h in enumerate(places):
                for j, w in enumerate(places):
                    dx, dy = shifts[turn, i, j]
                    h_prime, w_prime = h + dy, w + dx
                    image[h, w], image[h_prime, w_prime] = image[h_prime, w_prime], image[h, w]
        want = np.stack([ndimage.gaussian_filter(image[..., c], sigma, mode="nearest", truncate=4) for c in range(3)], -1)
        np.testing.assert_allclose(got[id], want, atol=1e-12)


def test_motion_blur_is_half_a_gaussian_along_its_line():
    point = np.zeros((41, 41, 1))
    point[20, 20] = 1
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 2.0**2))
    weights /= weights.sum()
    right = smear(point, 6, 2.0, angle=0.0)[..., 0]  # reads to the right: the point is smeared to the left
    np.testing.assert_allclose(right[20, 8:21], weights[::-1], atol=1e-12)
    assert right.sum() == pytest.approx(1)
    down = smear(point, 6, 2.0, angle=90.0)[..., 0]
    np.testing.assert_allclose(down[8:21, 20], weights[::-1], atol=1e-12)
    slanted = smear(point, 6, 2.0, angle=45.0)[..., 0]
    np.testing.assert_allclose(np.argwhere(slanted > 0)[:, 0], np.argwhere(slanted > 0)[:, 1])
    flat = np.full((9, 9, 3), 0.3)
    np.testing.assert_allclose(smear(flat, 10, 3, angle=-30.0), flat)  # edges are continued


@pytest.mark.parametrize("side", [16, 32, 33, 224])
@pytest.mark.parametrize("zoom", [1, 1.01, 1.25, 1.75, 2.5, 4.5])
def test_zoom_is_scipys_of_the_middle(side: int, zoom: float):
    x = np.random.default_rng(0).random((side, side, 2))
    kept = int(np.ceil(side / zoom))
    start = (side - kept) // 2
    large = ndimage.zoom(x[start : start + kept, start : start + kept], (zoom, zoom, 1), order=1)
    trim = (len(large) - side) // 2
    np.testing.assert_allclose(enlarge(x, zoom), large[trim : trim + side, trim : trim + side], atol=1e-12)


def test_zoom_blur_is_the_mean_of_its_zooms():
    x = photographs(1, 32)
    zooms = [enlarge(x[0] / 255, 1 + 0.01 * i) for i in range(16)]
    want = (x[0] / 255 + sum(zooms)) / 17
    np.testing.assert_allclose(applied(x, "zoom_blur")[0] / 255, want, atol=0.51 / 255)


def test_fog_lies_between_the_darkened_image_and_white():
    x = photographs(2, 32)
    amount, _ = strength("fog")
    for clean, foggy in zip(x / 255, applied(x, "fog") / 255, strict=True):
        brightest = clean.max()
        least = clean * brightest / (brightest + amount)
        assert (foggy >= least - 0.51 / 255).all()
        assert (foggy <= least + amount * brightest / (brightest + amount) + 0.51 / 255).all()
        heights = (foggy - least).mean(-1)
        assert np.ptp(foggy - least, axis=-1).max() < 1.1 / 255  # grey
        assert heights.max() > 0.8 * amount * brightest / (brightest + amount)


def test_plasma_is_rough_with_its_decay_and_continues_over_its_border():
    def roughness(decay: float) -> float:
        heights = [_plasma(64, decay, Generator(Philox(i))) for i in range(8)]
        assert all(each.min() == 0 and each.max() == 1 for each in heights)
        inside = np.mean([np.abs(np.diff(each, axis=0)) for each in heights])
        border = np.mean([np.abs(each[0] - each[-1]) for each in heights])
        assert border == pytest.approx(inside, rel=0.5)
        return float(inside)

    assert roughness(3.0) < roughness(2.0) < roughness(1.4)


def test_snow_only_whitens():
    x = photographs(2, 32)
    for severity in (1, 5):
        assert (applied(x, "snow", severity).astype(int) >= x.astype(int) - 1).all()


def test_elastic_transform_without_strength_is_an_affine_map_of_the_image():
    """CIFAR's first severity shifts nothing but three points: straight lines stay straight, constants constant."""
    rows, columns = np.mgrid[:32, :32]
    ramp = np.repeat((4 * rows + 3 * columns)[None, ..., None], 3, -1).astype(np.uint8)
    warped = applied(ramp, "elastic_transform", 1)[0, 8:24, 8:24, 0].astype(float)
    y, x = np.mgrid[:16, :16]
    fit = np.stack([x.ravel(), y.ravel(), np.ones(256)], 1)
    plane = fit @ np.linalg.lstsq(fit, warped.ravel(), rcond=None)[0]
    np.testing.assert_allclose(plane, warped.ravel(), atol=1.0)
    flat = np.full((1, 32, 32, 3), 77, np.uint8)
    np.testing.assert_array_equal(applied(flat, "elastic_transform", 5), flat)


def test_numbers_of_the_random_streams_are_for_ever():
    """Another number means other images under the same name."""
    assert NUMBERS["gaussian_noise"] == 0
    assert NUMBERS["jpeg_compression"] == 13
    assert NUMBERS["saturate"] == 16
