"""Section `report`: statistics of the report."""

from rsa.params.section import Inside, Name, Section


class Report(Section):
    """Confidence level of intervals, and datasets scored by mean per-class accuracy."""

    confidence: Inside
    mean_per_class: list[Name]
