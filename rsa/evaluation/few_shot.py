"""Few-shot: a logistic regression on k labelled images per class, over several random draws of them.

Features are standardised with the statistics of the whole training split, which need no labels.
"""

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rsa.data.splits import by_class
from rsa.evaluation.features import Features


def few_shot(train: Features, test: Features, labels_per_class: int, draws: int, seed: int) -> dict[str, Any]:
    """Mean and standard deviation over draws of the top-1 in percent, and each draw's."""
    scaler = StandardScaler().fit(train.x)
    test_x = scaler.transform(test.x)
    top1 = []
    for draw in range(draws):
        per_class = by_class(train.y, seed * 1000 + draw)
        fewest = min(len(indices) for indices in per_class)
        if fewest < labels_per_class:
            raise ValueError(
                f"transfer.labels_per_class must be at most the smallest class ({fewest} images), got {labels_per_class}"
            )
        chosen = np.concatenate([indices[:labels_per_class] for indices in per_class])
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(train.x[chosen]), train.y[chosen])
        top1.append(100 * float(model.score(test_x, test.y)))
    return {"top1": float(np.mean(top1)), "sd": float(np.std(top1, ddof=1)) if draws > 1 else None, "draws": top1}
