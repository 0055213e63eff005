"""Visualisations of test features: PCA and t-SNE in two dimensions, and the confusion matrix of kNN.

No score depends on them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from rsa.evaluation.features import Features
from rsa.evaluation.knn import knn_predictions
from rsa.evaluation.model_selection import Predictions, select
from rsa.params.probe import KNN, Probe

MOST = 2000  # samples, drawn where there are more
REDUCED = 50  # principal components that t-SNE starts from
PERPLEXITY = 30


def points(test: Features, seed: int) -> pd.DataFrame:
    """Return a row per sample: sample (its index in the split), label, pca_x, pca_y, tsne_x, tsne_y.

    Features have unit length, as kNN's cosine sees them. One thread, so that the same features give the same bits.
    """
    kept = np.arange(len(test.y))
    if len(kept) > MOST:
        kept = np.sort(np.random.default_rng(seed).choice(kept, MOST, replace=False))
    x = normalize(np.asarray(test.x[kept], dtype=np.float64))
    with threadpool_limits(1):
        count = min(REDUCED, *x.shape)
        reduced = PCA(count, svd_solver="full").fit_transform(x)
        perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
        near = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced.astype(np.float32))
    columns = {"pca_x": reduced[:, 0], "pca_y": reduced[:, 1], "tsne_x": near[:, 0], "tsne_y": near[:, 1]}
    return pd.DataFrame({"sample": kept, "label": test.y[kept], **columns})


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> pd.DataFrame:
    """Count the samples (N,) for each pair of classes: truth, predicted, count; pairs that never occur are omitted."""
    pairs, counts = np.unique(np.stack([truth, predicted], axis=1), axis=0, return_counts=True)
    return pd.DataFrame({"truth": pairs[:, 0], "predicted": pairs[:, 1], "count": counts})


def confusion_of_knn(train: Features, test: Features, p: Probe, threads: int, seed: int) -> tuple[str | None, pd.DataFrame]:
    """Return the name and the confusions of the first kNN protocol, from the same predictions as its score.

    Returns None and no rows if `probe.protocols` has no kNN.
    """
    for name, protocol in p.protocols.items():
        if isinstance(protocol, KNN):

            def predict(ks: Sequence[float], train: Features, test: Features, T: float = protocol.temperature) -> Predictions:
                return knn_predictions(train, test, [int(k) for k in ks], T)

            with threadpool_limits(threads):
                choice = select(protocol.k, predict, train, test, p.held_out, False, seed)
            return name, confusion(test.y, choice.predicted)
    nothing = np.empty(0, np.int64)
    return None, pd.DataFrame({"truth": nothing, "predicted": nothing, "count": nothing})
