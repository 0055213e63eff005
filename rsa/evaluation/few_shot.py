"""Few-shot: a logistic regression on k labelled images per class, over several random draws of them.

A class with fewer images gives all that it has. Features are standardised with the statistics of the whole training split, which
need no labels.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rsa.data.splits import by_class
from rsa.evaluation.features import Features
from rsa.evaluation.logistic import fit
from rsa.evaluation.score import Score, mean_per_class, stamped, step_per_class, top1

PROTOCOL = "few-shot"  # standardised features, logistic regression with C = 1, mean over draws
MAX_ITER = 1000
SEED_STRIDE = 1000  # between the seeds of draws, so that two seeds of an experiment share no draw


def few_shot(train: Features, test: Features, labels_per_class: int, draws: int, seed: int) -> Score:
    """Return the mean top-1 over draws in percent, with its deviation, each top-1, and the number of smaller classes."""
    scaler = StandardScaler().fit(train.x)
    test_x = scaler.transform(test.x)
    accuracies, per_class_accuracies, converged = [], [], True
    for draw in range(draws):
        per_class = by_class(train.y, seed * SEED_STRIDE + draw)
        chosen = np.concatenate([indices[:labels_per_class] for indices in per_class])
        model = LogisticRegression(max_iter=MAX_ITER)
        converged &= fit(model, scaler.transform(train.x[chosen]), train.y[chosen])
        predicted = model.predict(test_x)
        accuracies.append(top1(test.y, predicted))
        per_class_accuracies.append(mean_per_class(test.y, predicted))
    details = {"sd": float(np.std(accuracies, ddof=1)) if draws > 1 else None, "draws": accuracies, "converged": converged}
    if small := int((np.bincount(train.y)[np.unique(train.y)] < labels_per_class).sum()):
        details["smaller_classes"] = small
    mean = {
        "mean_per_class": float(np.mean(per_class_accuracies)),
        "mean_per_class_step": step_per_class(test.y) / draws,
    }
    settings = {"labels_per_class": labels_per_class, "draws": draws}
    step = 100 / (len(test.y) * draws)
    return stamped(PROTOCOL, settings, "top1", float(np.mean(accuracies)), step, **mean, **details)
