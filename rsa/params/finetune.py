"""Section `finetune`: fine-tuning the whole network."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, Name, NonNegative, Pair, Positive, Precision, Range, Section, require_ordered


class FinetuneOptimizer(Section):
    """AdamW, whose learning rate is warmed up and then falls along half a cosine."""

    base_lr: Positive
    end_lr: NonNegative
    betas: Pair
    weight_decay: NonNegative
    clip_norm: Positive | None


class FinetuneTraining(Section):
    """Training of the network."""

    epochs: Count
    batch_size: Count
    warmup_epochs: NonNegative
    optimizer: FinetuneOptimizer
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    crop_scale: Range
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    precision: Precision

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        require_ordered("crop_scale", self.crop_scale, 1e-3, 1)
        return self


class Finetune(Section):
    """Grid of datasets and label percentages."""

    datasets: list[Name]
    label_percents: list[Annotated[int, Field(ge=1, le=100)]]
    training: FinetuneTraining
