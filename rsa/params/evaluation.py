"""Sections `evaluation` and `representation_metrics`: how a frozen encoder sees images, and metrics without a classifier."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, Section
from rsa.params.views import Interpolation


class Geometry(Section):
    """The central crop of a resized image."""

    resize: Annotated[int, Field(ge=8)]
    crop: Annotated[int, Field(ge=8)]
    interpolation: Interpolation

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.crop > self.resize:
            raise ValueError(f"crop must be at most resize ({self.resize}), got {self.crop}")
        return self


class Evaluation(Geometry):
    """How a frozen encoder sees images."""

    batch_size: Count


class RepresentationMetrics(Section):
    """Measures of a representation that need no classifier."""

    samples: Annotated[int, Field(ge=16)]
