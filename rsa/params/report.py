"""Section `report`: what is said of the scores."""

from rsa.params.section import Inside, Name, Section


class Report(Section):
    """The confidence of intervals, and where a score is the mean over classes."""

    confidence: Inside
    mean_per_class: list[Name]
