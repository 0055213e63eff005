"""Section `robustness`: common corruptions of test images."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, Inside, Positive, Section, require_unique

Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "fog",
    "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    "speckle_noise", "gaussian_blur", "saturate",
]  # fmt: skip


class Robustness(Section):
    """Corruptions, and the classifier that is tested on them."""

    constants: Literal["imagenet", "tiny_imagenet", "cifar"]
    corruptions: Annotated[list[Corruption], Field(min_length=1)]
    severities: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)]
    C: Annotated[list[Positive], Field(min_length=1)]
    held_out: Inside
    max_iter: Count

    @model_validator(mode="after")
    def _once(self) -> Self:
        for key in ("corruptions", "severities"):
            require_unique(key, getattr(self, key))
        return self
