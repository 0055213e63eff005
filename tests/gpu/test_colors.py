"""Colours on a GPU have the CPU's bits, with TF32, too."""

from typing import Any

import numpy as np
import pytest
import torch

from rsa.data.coloring import apply_colors
from rsa.data.views import Color, draw_colors
from rsa.params.views import Jitter
from tests.gpu.device import GPU

COUNT = 48
JITTER = Jitter(prob=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


@pytest.mark.parametrize("size", [(32, 32), (15, 13), (224, 224)])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kernel", ["pillow", "gaussian", 23])
def test_colors_have_the_cpus_bits(kernel: Any, exact: bool, size: tuple[int, int]):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *size, 3), dtype=np.uint8)
    color = Color(JITTER, 0.2, 0.5, (0.1, 2.0), kernel, 0.3, exact)
    colors = draw_colors(color, 0, 0, np.arange(COUNT), np.zeros(COUNT, int))
    want = apply_colors(torch.from_numpy(images), colors)
    got = apply_colors(torch.from_numpy(images).to(GPU), colors)
    assert got.device.type == GPU.type
    np.testing.assert_array_equal(got.cpu().numpy(), want.numpy())
    torch.set_float32_matmul_precision("high")  # TF32 changes none
    assert torch.equal(apply_colors(torch.from_numpy(images).to(GPU), colors), got)
