"""Section `views`: how images are augmented for pretraining."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, Fraction, Pair, Positive, Range, Section, require_ordered


class Jitter(Section):
    """torchvision's ColorJitter, with a probability."""

    prob: Fraction
    brightness: Fraction
    contrast: Fraction
    saturation: Fraction
    hue: Annotated[float, Field(ge=0, le=0.5)]


BlurKernel = Literal["pillow", "gaussian"] | Annotated[int, Field(ge=3)]  # see rsa/data/blur.py
Interpolation = Literal["linear", "bicubic"]  # with antialiasing


class Blur(Section):
    """A Gaussian blur."""

    prob: Pair
    sigma: Range
    kernel: BlurKernel

    @model_validator(mode="after")
    def _sound(self) -> Self:
        require_ordered("sigma", self.sigma, 0.01, 100)
        if isinstance(self.kernel, int) and self.kernel % 2 == 0:
            raise ValueError(f"kernel must be an odd number of px, got {self.kernel}")
        return self


class ChannelStatistics(Section):
    """Mean and standard deviation of each channel of the pixels in [0, 1]."""

    mean: Annotated[tuple[Fraction, Fraction, Fraction], Field(strict=False)]
    std: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]


class LocalViews(Section):
    """The local views of multi-crop."""

    count: Count
    size: Annotated[int, Field(ge=8)]
    crop_scale: Range
    blur_prob: Fraction
    solarize_prob: Fraction

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        require_ordered("crop_scale", self.crop_scale, 1e-3, 1)
        return self


class Views(Section):
    """Crops and colours."""

    size: Annotated[int, Field(ge=8)]
    crop_scale: Range
    crop_ratio: Range
    interpolation: Interpolation
    flip_prob: Fraction
    jitter: Jitter
    gray_prob: Fraction
    blur: Blur
    solarize_prob: Pair
    exact_color: bool
    normalize: ChannelStatistics
    local: LocalViews | None

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        require_ordered("crop_scale", self.crop_scale, 1e-3, 1)
        require_ordered("crop_ratio", self.crop_ratio, 0.01, 100)
        smallest = min(self.size, self.local.size if self.local else self.size)
        if isinstance(self.blur.kernel, int) and self.blur.kernel >= 2 * smallest:
            raise ValueError(f"blur.kernel must be below twice the smallest view ({smallest} px), got {self.blur.kernel}")
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the views in px, by their key."""
        return {"views.size": self.size} | ({"views.local.size": self.local.size} if self.local else {})
