"""The colour of a view as DALI operators, and the arrays that they take in.

Every per-sample argument is an input on the CPU, whatever device the pixels are on.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, math, types

from rsa.data.views import Color, Colors

STEPS = {False: 1, True: 5}  # of a fast and of an exact colour: see draw_colors
TURNS = {False: 0, True: 4}


def num_color_inputs(color: Color) -> int:
    """How many arrays `color_inputs` returns."""
    return 2 * STEPS[color.exact] + TURNS[color.exact] + (color.blur_prob > 0) + (color.solarize_prob > 0)


def color_inputs(color: Color, drawn: Colors) -> list[Any]:
    """The arrays (B, ...) that `apply_color` takes in, in its order."""
    inputs: list[Any] = []
    for i, step in enumerate(drawn.steps):
        inputs += [step.matrix.astype(np.float32), step.mean_matrix.astype(np.float32)]
        if i < len(drawn.turns):
            inputs.append(drawn.turns[i].astype(np.float32))
    if color.blur_prob > 0:
        inputs.append(drawn.sigma.astype(np.float32))
    if color.solarize_prob > 0:
        inputs.append(drawn.solarize)
    assert len(inputs) == num_color_inputs(color)
    return inputs


def apply_color(pixels: Any, color: Color, inputs: Iterator[Any]) -> Any:
    """uint8 (H, W, 3), coloured."""
    for i in range(STEPS[color.exact]):
        pixels = _affine(pixels, next(inputs), next(inputs))
        if i < TURNS[color.exact]:
            pixels = _turn_hue(pixels, next(inputs))
    if color.blur_prob > 0:
        pixels = _blur(pixels, next(inputs))
    if color.solarize_prob > 0:
        pixels = _solarize(pixels, next(inputs))
    return pixels


def _affine(pixels: Any, matrix: Any, mean_matrix: Any) -> Any:
    mean = fn.reductions.mean(pixels, axes=[0, 1], keep_dims=True).cpu()  # (1, 1, 3)
    offset = fn.reshape(fn.coord_transform(mean, M=mean_matrix), shape=[3])
    return fn.coord_transform(pixels, M=matrix, T=offset, dtype=types.UINT8)  # rounds and saturates


# DALI turns each `if` on a sample's number into a split of the batch; a sample that is left alone costs nothing.


def _turn_hue(pixels: Any, turns: Any) -> Any:
    if turns != 0:
        turned = _turn_hsv(pixels, turns)
    else:
        turned = pixels
    return turned


def _blur(pixels: Any, sigma: Any) -> Any:
    if sigma > 0:
        blurred = fn.gaussian_blur(pixels, sigma=sigma)
    else:
        blurred = pixels
    return blurred


def _solarize(pixels: Any, solarize: Any) -> Any:
    if solarize:
        inverted = fn.cast((pixels < 128) * pixels + (pixels >= 128) * (255 - pixels), dtype=types.UINT8)
    else:
        inverted = pixels
    return inverted


def _turn_hsv(pixels: Any, turns: Any) -> Any:
    """Hue in HSV: of value v and chroma c, a channel is v - c clamp(min(k, 4 - k), 0, 1), k = (n + h) mod 6, n = 5, 3, 1."""
    x = fn.cast(pixels, dtype=types.FLOAT)
    r, g, b = x[:, :, 0:1], x[:, :, 1:2], x[:, :, 2:3]
    v = math.max(r, math.max(g, b))
    c = v - math.min(r, math.min(g, b))
    divisor = math.max(c, 1.0)  # a chroma is 0 or at least 1
    is_r, is_g = fn.cast(v == r, dtype=types.FLOAT), fn.cast(v == g, dtype=types.FLOAT)
    h = is_r * (g - b) / divisor + (1 - is_r) * (is_g * ((b - r) / divisor + 2) + (1 - is_g) * ((r - g) / divisor + 4))
    h = h + 6 * turns
    channels = []
    for n in (5, 3, 1):
        k = h + n
        k = k - 6 * math.floor(k / 6)
        channels.append(v - c * math.clamp(math.min(k, 4 - k), 0.0, 1.0))
    return fn.cast(math.floor(fn.cat(*channels, axis=2) + 0.5), dtype=types.UINT8)
