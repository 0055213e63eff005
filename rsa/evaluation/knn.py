"""kNN on frozen features (Wu et al. 2018, section 3.4): cosine neighbours, votes weighted by exp(cos / T)."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from rsa.evaluation.features import Features
from rsa.params import KNN


def knn_top1(train: Features, test: Features, p: KNN) -> float:
    """Top-1 accuracy in percent; where the training split is smaller than k, all of it votes."""
    classifier = KNeighborsClassifier(
        n_neighbors=min(p.k, len(train.y)),
        metric="cosine",
        algorithm="brute",
        weights=lambda distances: np.exp((1 - distances) / p.temperature),
    )
    return 100 * float(classifier.fit(train.x, train.y).score(test.x, test.y))
