"""The encoder whose features are the pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rsa.data.normalize import Normalize
from rsa.models.backbones import build_backbone, representation
from rsa.models.encoder import open_encoder, progress_of, save_encoder
from rsa.models.pixels import MOST, Pixels
from rsa.params.document import Params
from tests.conftest import IMAGENET, described

CPU = torch.device("cpu")


def images(size: int, count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [8, MOST])
def test_features_are_the_pixels_between_0_and_1_and_as_many(size: int):
    got = representation(Pixels(IMAGENET.mean, IMAGENET.std), Normalize(IMAGENET, CPU)(images(size)))
    want = images(size).permute(0, 3, 1, 2).reshape(6, 3 * size * size) / 255
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert got.dtype == torch.float32


@pytest.mark.parametrize("size", [2 * MOST, 7 * MOST])
def test_larger_images_are_averaged_to_32_px(size: int):
    blocks = images(size).numpy().reshape(6, MOST, size // MOST, MOST, size // MOST, 3).mean((2, 4)) / 255
    got = representation(Pixels(IMAGENET.mean, IMAGENET.std), Normalize(IMAGENET, CPU)(images(size)))
    np.testing.assert_allclose(got, blocks.transpose(0, 3, 1, 2).reshape(6, 3 * 32 * 32), atol=1e-6)


def test_an_image_a_little_larger_has_as_many_features():
    got = representation(Pixels(IMAGENET.mean, IMAGENET.std), Normalize(IMAGENET, CPU)(images(MOST + 1)))
    assert got.shape == (6, 3 * 32 * 32)
    assert float(got.min()) >= -1e-6
    assert float(got.max()) <= 1 + 1e-6


def test_an_encoder_file_says_whether_it_is_the_pixels_or_a_backbone(tiny: Params, tmp_path: Path):
    torch.manual_seed(0)
    backbone = build_backbone(tiny.model).eval()
    save_encoder(Pixels(IMAGENET.mean, IMAGENET.std), tmp_path / "pixels", described(tiny.model))
    save_encoder(backbone, tmp_path / "backbone", described(tiny.model), 0.5)
    x = Normalize(IMAGENET, CPU)(images(16))
    pixels, opened = (open_encoder(tiny.model, tmp_path / name).eval() for name in ("pixels", "backbone"))
    assert isinstance(pixels, Pixels)
    assert torch.equal(representation(pixels, x), representation(Pixels(IMAGENET.mean, IMAGENET.std), x))
    assert torch.equal(representation(opened, x), representation(backbone, x))
    assert (progress_of(tmp_path / "pixels"), progress_of(tmp_path / "backbone")) == (1.0, 0.5)
