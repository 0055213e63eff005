"""Scores, each recorded with the protocol and settings that it was measured under."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsa.params.section import Section

Score = dict[str, Any]
Scores = dict[str, Score]  # task -> score


def stamped(protocol: str, settings: Section | dict[str, Any], metric: str, value: float, **details: Any) -> Score:
    """Return `value` of `metric` with the protocol's name, its settings and further details."""
    plain = settings.model_dump(mode="json") if isinstance(settings, Section) else settings
    return {"metric": metric, "value": value, **details, "protocol": protocol, "settings": plain}


def accuracy(
    protocol: str, settings: Section | dict[str, Any], truth: NDArray[np.int64], predicted: NDArray[np.int64], **details: Any
) -> Score:
    """Top-1 and mean per-class accuracy, both in percent, of class numbers (N,)."""
    value = top1(truth, predicted)
    return stamped(protocol, settings, "top1", value, mean_per_class=mean_per_class(truth, predicted), **details)


def top1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Top-1 accuracy in percent."""
    return 100 * float((truth == predicted).mean())


def mean_per_class(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Mean per-class accuracy in percent, over the classes that occur."""
    of_class = [float((predicted[truth == label] == label).mean()) for label in np.unique(truth)]
    return 100 * float(np.mean(of_class))
