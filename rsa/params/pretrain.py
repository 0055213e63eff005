"""Section `pretrain`: training settings shared by all methods."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, FilePath, Fraction, NonNegative, Precision, Section


class Collapse(Section):
    """Thresholds below which embeddings count as collapsed."""

    after: Fraction
    min_std: NonNegative
    min_rank: NonNegative


class RandomStart(Section):
    """Random weights."""

    weights: Literal["random"]
    file: FilePath


class EncoderStart(Section):
    """The encoder file of another run."""

    weights: Literal["encoder"]
    file: FilePath


class TimmStart(Section):
    """Weights that timm has for the backbone."""

    weights: Literal["timm"]
    file: FilePath
    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None


Start = Annotated[RandomStart | EncoderStart | TimmStart, Field(discriminator="weights")]


class Pretrain(Section):
    """Length, batches and precision."""

    start: Start
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    warmup_epochs: NonNegative
    precision: Precision
    accumulate: Count
    collapse: Collapse

    @model_validator(mode="after")
    def _batches(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size must be a multiple of accumulate ({self.accumulate}), got {self.batch_size}")
        if self.batch_size < 2 * self.accumulate:  # batch norms need two
            raise ValueError(f"accumulate must leave parts of at least 2 of the {self.batch_size} images, got {self.accumulate}")
        return self

    @model_validator(mode="after")
    def _warmup(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than epochs ({self.epochs}), got {self.warmup_epochs}")
        return self

    def lasting(self, epochs: int | None) -> Self:
        """Return these settings for a method's own number of epochs, or themselves for None. ValueError if warmup is longer."""
        if epochs is None:
            return self
        if self.warmup_epochs >= epochs:
            raise ValueError(f"pretrain.warmup_epochs must be less than a method's epochs ({epochs}), got {self.warmup_epochs}")
        return self.model_copy(update={"epochs": epochs})
