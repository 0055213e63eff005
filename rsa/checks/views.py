"""Checks of views: crops and colours of photographs against torchvision's."""

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image
from sklearn.datasets import load_sample_images

from rsa.checks.outcome import FailedError
from rsa.data.color import BRIGHTNESS, HUE, jitter_steps
from rsa.data.coloring import apply_colors
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.data.sources.embedded import PhotoTiles
from rsa.data.views import Colors, weak_views
from rsa.params.document import Params
from rsa.training.device import choose_device, gpu_number

PHOTOS = 16
TOLERANCE = 2.0  # mean absolute difference from torchvision's pixels, of 255


def crops(p: Params) -> str:
    """Check that photographs that went through shards and DALI are cut, resized and flipped as torchvision does it."""
    recipe, count = weak_views(p.views), PHOTOS
    dataset = PhotoTiles(source="photo_tiles", raw="requirements.lock", tile=96, stride=48)
    device = choose_device(p.runtime.device)
    with tempfile.TemporaryDirectory() as folder:
        shards, work = Path(folder) / "shards", Path(folder) / "work"
        shards.mkdir()
        write_shards(open_source(dataset, 0), p.shards, {}, shards, work)
        split = Split(shards, "train")
        loader = TrainingViews(split, recipe, batch_size=count, seed=0, threads=1, gpu=gpu_number(device))
        batch = next(iter(loader))
        images = [np.array(Image.open(io.BytesIO(bytes(split.read(int(id))))).convert("RGB")) for id in batch.samples.ids]
    worst = 0.0
    for image, (top, left, height, width, flip), ours in zip(images, batch.samples.boxes[0], batch.views[0].cpu(), strict=True):
        size = [p.views.size] * 2
        want = tv.resized_crop(torch.from_numpy(image).permute(2, 0, 1), int(top), int(left), int(height), int(width), size)
        want = (want.flip(2) if flip else want).permute(1, 2, 0)
        worst = max(worst, float((ours.int() - want.int()).abs().float().mean()))
    if worst > TOLERANCE:
        raise FailedError(f"an image differs from torchvision's by {worst:.2f} of 255 on average")
    return f"{count} images differ from torchvision's by at most {worst:.2f} of 255 on average ({device.type})"


def colors(p: Params) -> str:
    """Check that each operation of colour jitter alone, done exactly, changes photographs as torchvision's does."""
    tiles = np.stack([image[top : top + 128, 100:228] for image in load_sample_images().images for top in (0, 200)])
    count, factor, turn = len(tiles), 1.3, 0.07
    order, ones, none = np.tile(np.arange(4), (count, 1)), np.ones(count), np.zeros(count)
    worst = 0.0
    for operation, theirs in enumerate((tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)):
        factors = [np.full(count, factor) if i == operation else ones for i in range(BRIGHTNESS, HUE)]
        before, after = jitter_steps(factors[0], factors[1], factors[2], order)
        turns = np.full(count, turn) if operation == HUE else none
        ours = apply_colors(torch.from_numpy(tiles), Colors(before, turns, after, none, p.views.blur.kernel, none > 0))
        want = theirs(torch.from_numpy(tiles).permute(0, 3, 1, 2), turn if operation == HUE else factor).permute(0, 2, 3, 1)
        worst = max(worst, float((ours.int() - want.int()).abs().float().mean()))
    if worst > TOLERANCE:
        raise FailedError(f"mean difference from torchvision up to {worst:.2f} of 255")
    return f"mean difference from torchvision at most {worst:.2f} of 255"
