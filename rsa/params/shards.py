"""Section `shards`: how images are stored."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, Section, Seed


class Resize(Section):
    """Larger images are stored smaller."""

    short_side: Annotated[int, Field(ge=8)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]


class Shards(Section):
    """The shuffle, the size of a shard, and what is tolerated."""

    seed: Seed
    samples_per_shard: Count | None
    bytes_per_shard: Count | None
    resize: Resize | None
    max_bad_samples: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.samples_per_shard is None) == (self.bytes_per_shard is None):
            raise ValueError("exactly one of `samples_per_shard` and `bytes_per_shard` must be set, the other null")
        return self
