"""Section `linear`: linear classifiers trained on augmented images through a frozen encoder."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rsa.params.evaluation import Geometry
from rsa.params.section import (
    Count,
    Inside,
    Name,
    NonNegative,
    Positive,
    Precision,
    ProtocolName,
    Range,
    Section,
    require_ordered,
)
from rsa.params.views import Interpolation


class Steps(Section):
    """The learning rate is multiplied by `factor` at some epochs."""

    schedule: Literal["steps"]
    at: list[Count]
    factor: Inside


class HalfCosine(Section):
    """The learning rate falls along half a cosine."""

    schedule: Literal["cosine"]


class ImageProtocol(Section):
    """Training and selection of the classifiers."""

    lr: Annotated[list[Positive], Field(min_length=1)]
    lr_per_256: bool
    optimizer: Literal["sgd", "lars"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: NonNegative
    epochs: Count
    batch_size: Count
    schedule: Annotated[Steps | HalfCosine, Field(discriminator="schedule")]
    normalize: Literal["none", "l2_standardize"]
    start: Literal["normal", "torch"]
    blocks: Annotated[list[Count], Field(min_length=1)]
    pooling: Annotated[list[Literal["avg", "cls", "cls_avg"]], Field(min_length=1)]
    crop_scale: Range
    crop_interpolation: Interpolation
    geometry: Geometry | None
    precision: Precision
    held_out: Inside
    best_on_test: bool

    @model_validator(mode="after")
    def _sound(self) -> Self:
        require_ordered("crop_scale", self.crop_scale, 1e-3, 1)
        if self.nesterov and (self.optimizer == "lars" or not self.momentum):
            raise ValueError("nesterov must be false unless the optimizer is sgd with momentum")
        return self


class Linear(Section):
    """Every protocol is run on every dataset."""

    datasets: list[Name]
    protocols: dict[ProtocolName, ImageProtocol]
