"""Scores, each recorded with the protocol and settings that it was measured under.

A score has a step: the most that one more right prediction adds to it, in points. Scores are whole numbers of steps, which
the statistics of the report take into account (rsa.reporting.statistics).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsa.origin import Origin
from rsa.params.section import Section

Score = dict[str, Any]
Scores = dict[str, Score]  # task -> score


def stamped(protocol: str, settings: Section | dict[str, Any], metric: str, value: float, step: float, **details: Any) -> Score:
    """Return `value` of `metric` with its step (0 if it counts no predictions), the protocol's name and settings, and details."""
    plain = settings.model_dump(mode="json") if isinstance(settings, Section) else settings
    return {"metric": metric, "value": value, "step": step, **details, "protocol": protocol, "settings": plain}


def with_origin(scores: Scores, origin: Origin) -> Scores:
    """Return the scores, each with what it was made from."""
    return {task: score | {"origin": origin} for task, score in scores.items()}


def accuracy(
    protocol: str, settings: Section | dict[str, Any], truth: NDArray[np.int64], predicted: NDArray[np.int64], **details: Any
) -> Score:
    """Return a score with the top-1 and the mean per-class accuracy, both in percent, of class numbers (N,)."""
    mean = {"mean_per_class": mean_per_class(truth, predicted), "mean_per_class_step": step_per_class(truth)}
    return stamped(protocol, settings, "top1", top1(truth, predicted), 100 / len(truth), **mean, **details)


def top1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the top-1 accuracy in percent."""
    return 100 * float((truth == predicted).mean())


def mean_per_class(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the mean per-class accuracy in percent, over the classes that occur."""
    of_class = [float((predicted[truth == label] == label).mean()) for label in np.unique(truth)]
    return 100 * float(np.mean(of_class))


def step_per_class(truth: NDArray[np.int64]) -> float:
    """Return the points that one image of the smallest class adds to the mean per-class accuracy."""
    _, counts = np.unique(truth, return_counts=True)
    return 100 / (len(counts) * int(counts.min()))
