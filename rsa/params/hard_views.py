"""Key `hard_views` of a method: how Hard View Selection chooses."""

from typing import Annotated, Literal

from pydantic import Field

from rsa.params.section import Count, Section


class Scoring(Section):
    """How candidates are scored."""

    precision: Literal["same", "bf16"]
    predicted: Annotated[int, Field(ge=0)] | None
    reuse: bool


class HardViews(Section):
    """How many candidates there are, and how they are scored."""

    candidates: Annotated[int, Field(ge=2)]
    local_candidates: Count | None
    max_combinations: Count
    scoring: Scoring
