"""Model selection on data held out of the training split.

The classifier with the selected setting is refitted on the whole training split; the test split is evaluated once, at the
end. The image of a class that has only one is never held out. The literature often selects on the test split: `best_on_test`
reports that score too, to quantify its optimism.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsa.data.splits import Indices, held_out
from rsa.evaluation.features import Features
from rsa.evaluation.score import top1

Predictions = dict[float, NDArray[np.int64]]  # setting -> class numbers
# (settings, train, test) -> predictions on test, per setting
Predict = Callable[[Sequence[float], Features, Features], Predictions]


@dataclass(frozen=True)
class Choice:
    """The selected setting, its test predictions, and the held-out accuracies in percent (empty for a single setting)."""

    setting: float
    predicted: NDArray[np.int64]
    held_out_top1: dict[str, float]
    best_on_test: float | None  # percent


def select(
    settings: Sequence[float], predict: Predict, train: Features, test: Features, fraction: float, best_on_test: bool, seed: int
) -> Choice:
    """Select the setting with the highest held-out accuracy (ties: the smallest); `seed` draws the held-out `fraction`."""
    held: dict[float, float] = {}
    if len(settings) > 1:
        names = [str(label) for label in range(int(train.y.max()) + 1)]
        kept, out = (train.part(indices) for indices in selection_parts(train.y, names, fraction, seed))
        held = {setting: top1(out.y, predicted) for setting, predicted in predict(settings, kept, out).items()}
    best = max(held, key=lambda setting: (held[setting], -setting), default=settings[0])
    predictions = predict(settings if best_on_test else [best], train, test)
    optimistic = max(top1(test.y, predicted) for predicted in predictions.values()) if best_on_test else None
    return Choice(best, predictions[best], {str(setting): value for setting, value in held.items()}, optimistic)


def selection_parts(labels: NDArray[np.int64], classes: Sequence[str], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the samples to fit on and the `fraction` of them that is held out; ValueError if no class has two images."""
    kept, out = held_out(labels, classes, fraction, seed, "kept")
    if not len(out):
        found = ", ".join(repr(classes[label]) for label in np.unique(labels))
        raise ValueError(
            "a class must have at least 2 training images, so that a setting can be selected on held-out ones, "
            f"got 1 of each of {found}: add some, or give one setting"
        )
    return kept, out
