"""Section `report`: statistics of the report."""

from typing import Self

from pydantic import model_validator

from rsa.params.section import Inside, Name, Section


class Report(Section):
    """Confidence level of intervals, datasets scored by mean per-class accuracy, and contrasts between methods."""

    confidence: Inside
    mean_per_class: list[Name]
    contrasts: dict[str, dict[Name, float]]

    @model_validator(mode="after")
    def _sums(self) -> Self:
        for name, weights in self.contrasts.items():
            if not weights or abs(sum(weights.values())) > 1e-9:
                raise ValueError(f"contrasts.{name} must have weights that add up to 0, got {weights}")
        return self
