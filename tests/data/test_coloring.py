"""Colours are exact: the same bits for any batch, threads and device, and equal to integer arithmetic."""

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from rsa.data.coloring import MATRIX_BITS, apply_colors
from rsa.data.views import Color, Colors, draw_colors, join_colors
from rsa.params.views import Jitter

COUNT = 24
SHAPES = [(32, 32), (15, 13), (40, 9)]


def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, height, width, 3), dtype=np.uint8)


def drawn(exact: bool, **changes: float) -> Colors:
    jitter = Jitter(prob=0.8, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    color = Color(
        jitter, changes.get("gray", 0.2), changes.get("blur", 0.5), (0.1, 2.0), "pillow", changes.get("solarize", 0.3), exact
    )
    return draw_colors(color, 0, 0, np.arange(COUNT), np.zeros(COUNT, int))


def colored(pixels: np.ndarray, colors: Colors) -> np.ndarray:
    return apply_colors(torch.from_numpy(pixels), colors).cpu().numpy()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_sample_has_the_same_bits_in_any_batch_and_with_any_threads(exact, height, width):
    pixels, colors = images(height, width), drawn(exact)
    want = colored(pixels, colors)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for at_once in (1, 5):
                parts = [slice(i, i + at_once) for i in range(0, COUNT, at_once)]
                got = np.concatenate([colored(pixels[part], colors[part]) for part in parts])
                np.testing.assert_array_equal(got, want)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_affine_map_is_integer_arithmetic(height, width):
    pixels, colors = images(height, width), drawn(False, blur=0, solarize=0)
    ((matrices, mean_matrices),) = colors.before
    want = []
    for x, matrix, mean_matrix in zip(pixels.astype(np.int64), matrices, mean_matrices, strict=True):
        unit = 2.0 ** (np.ceil(np.log2(np.abs(matrix).max())) - MATRIX_BITS)
        factors = np.round(matrix / unit).astype(np.int64)
        offset = np.round(mean_matrix @ x.reshape(-1, 3).mean(0) / unit).astype(np.int64)
        exact = (x @ factors.T + offset) * unit  # integers times a power of 2
        want.append(np.clip(np.round(exact), 0, 255))
    difference = colored(pixels, colors) - np.stack(want)
    assert np.abs(difference).max() <= 1  # the mean's last bit, at a tie
    assert np.mean(difference == 0) > 0.999


def test_white_gray_and_black_stay_what_they_are_in_greyscale():
    levels = np.repeat(np.arange(0, 256, 11, dtype=np.uint8), 8 * 8 * 3).reshape(-1, 8, 8, 3)
    colors = Colors(drawn(False, gray=1.0).before, np.zeros(COUNT), [], np.zeros(COUNT), "pillow", np.zeros(COUNT, bool))
    got = colored(levels, colors)
    assert np.ptp(got.reshape(COUNT, -1), axis=1).max() == 0


class Launches(TorchDispatchMode):
    """Counts the kernels that a GPU would get, the transfers to it, and the bytes that its kernels would read and write."""

    kernels, transfers, bytes = 0, 0, 0
    products: set[torch.dtype]

    def __init__(self) -> None:
        super().__init__()
        self.products = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        name = operator.overloadpacket.__name__
        if isinstance(result, torch.Tensor) and result.is_cuda and not (operator.is_view or "empty" in name or "unsafe" in name):
            self.kernels += 1
            if "bmm" in name:
                self.products.add(result.dtype)
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            self.transfers += any(not x.is_cuda and x.ndim > 0 for x in tensors)
            # A selection reads what it writes, whatever it selects from.
            some = (result, result) if name == "index_select" else (result, *tensors)
            self.bytes += sum(x.element_size() * _elements(x) for x in some)
        return result


def _elements(x: torch.Tensor) -> int:
    """The number of elements in memory: those of an expanded dimension are one."""
    return int(np.prod([size for size, stride in zip(x.shape, x.stride(), strict=True) if stride > 0]))


@pytest.mark.parametrize(("exact", "kernels", "traffic"), [(False, 70, 190), (True, 130, 330)])
def test_a_gpu_gets_few_kernels_one_transfer_and_little_traffic_for_both_views(exact, kernels, traffic, monkeypatch):
    """Tensors on a GPU are faked. `traffic`: bytes that kernels read and write for each byte of the images."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    colors = join_colors([drawn(exact, solarize=0), drawn(exact, solarize=0)])
    launches = launched(colors)
    assert 0 < launches.kernels <= kernels
    assert 0 < launches.bytes <= traffic * 2 * COUNT * 224 * 224 * 3
    assert launches.transfers == 1
    assert torch.float32 in launches.products


def test_tf32_rounds_no_product_of_colors(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert launched(drawn(True, solarize=0)).products == {torch.float64}


def launched(colors: Colors) -> Launches:
    with FakeTensorMode(allow_non_fake_inputs=True), Launches() as launches:
        images = torch.empty(len(colors.turns), 224, 224, 3, dtype=torch.uint8, device="cuda")
        assert apply_colors(images, colors).shape == images.shape
    return launches
