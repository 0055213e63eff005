"""Blurs against Pillow's and torchvision's own on photographs."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image, ImageFilter

from rsa.data.blur import blur, blur_weights
from rsa.params.views import BlurKernel
from tests.data.test_color import COUNT, TILES

SIGMA = np.random.default_rng(2).uniform(0.1, 2.0, COUNT)
SIGMA[:3] = 3.0, 7.5, 20.0


def blurred(kernel: BlurKernel, sigma: np.ndarray = SIGMA, part: slice = slice(None)) -> np.ndarray:
    images = torch.from_numpy(np.stack(TILES)[part]).movedim(3, 1).float().contiguous()
    blur(images, torch.from_numpy(blur_weights(sigma[part], kernel, *images.shape[2:])), kernel=kernel)
    return images.movedim(1, 3).numpy()


def torchvisions(kernels: list[int]) -> np.ndarray:
    images = [torch.from_numpy(tile.copy()).permute(2, 0, 1) for tile in TILES]
    images = [tv.gaussian_blur(image, kernel, float(s)) for image, kernel, s in zip(images, kernels, SIGMA, strict=True)]
    return torch.stack(images).permute(0, 2, 3, 1).numpy().astype(int)


def test_pillow_is_pillows_own():
    """A thousandth of the values differs, by 1."""
    filters = [ImageFilter.GaussianBlur(float(sigma)) for sigma in SIGMA]
    want = np.stack([np.asarray(Image.fromarray(tile).filter(each)) for tile, each in zip(TILES, filters, strict=True)])
    difference = np.abs(blurred("pillow") - want)
    assert difference.max() <= 1
    assert difference.mean() <= 0.002


@pytest.mark.parametrize("kernel", [9, 23])
def test_a_number_is_torchvisions_with_a_kernel_of_that_size(kernel: int):
    difference = np.abs(blurred(kernel) - torchvisions([kernel] * COUNT))
    assert difference.max() <= 1
    assert difference.mean() <= 0.02


def test_gaussian_is_torchvisions_with_a_kernel_up_to_3_sigma():
    difference = np.abs(blurred("gaussian") - torchvisions([2 * int(np.ceil(3 * sigma)) + 1 for sigma in SIGMA]))
    assert difference.max() <= 1
    assert difference.mean() <= 0.02


@pytest.mark.parametrize("kernel", ["pillow", "gaussian", 9])
def test_a_blur_does_not_depend_on_the_batch(kernel: BlurKernel):
    whole = blurred(kernel)
    for i in range(0, COUNT, 5):
        np.testing.assert_array_equal(whole[i], blurred(kernel, part=slice(i, i + 1))[0])


def test_the_three_blurs_are_three_operations():
    sigma = np.full(COUNT, 2.0)
    assert np.abs(blurred("pillow", sigma) - blurred("gaussian", sigma)).mean() > 0.1
    assert np.abs(blurred(3, sigma) - blurred("gaussian", sigma)).mean() > 1
