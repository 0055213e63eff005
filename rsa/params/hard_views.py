"""Key `hard_views` of a method: configuration of Hard View Selection."""

from typing import Annotated, Literal

from pydantic import Field

from rsa.params.section import Count, Section


class Scoring(Section):
    """Scoring of candidates."""

    joint_views: bool
    precision: Literal["same", "bf16"]
    predicted: Annotated[int, Field(ge=0)] | None
    reuse: bool


class HardViews(Section):
    """Number and scoring of candidates."""

    candidates: Annotated[int, Field(ge=2)]
    local_candidates: Count | None
    max_combinations: Count
    scoring: Scoring
