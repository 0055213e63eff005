"""Sections `evaluation` and `representation_metrics`: how a frozen encoder sees images, and metrics without a classifier."""

from typing import Annotated

from pydantic import Field

from rsa.params.section import Count, Section


class Evaluation(Section):
    """The central crop of a resized image."""

    resize: Annotated[int, Field(ge=8)]
    crop: Annotated[int, Field(ge=8)]
    batch_size: Count


class RepresentationMetrics(Section):
    """Measures of a representation that need no classifier."""

    samples: Annotated[int, Field(ge=16)]
