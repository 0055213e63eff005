"""Accuracy of a frozen encoder on corrupted images (Hendrycks and Dietterich 2019).

The classifier is the linear probe: standardised features, scikit-learn's logistic regression, C chosen on a held-out part of
the clean training split. It never sees a corrupted image. Test images are corrupted as the encoder gets them, resized and
cropped, as in ImageNet-C.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rsa.data.evaluation_images import evaluation_images
from rsa.data.index import Split
from rsa.evaluation.corruptions import corrupt
from rsa.evaluation.encode import Encode
from rsa.evaluation.features import Features
from rsa.evaluation.model_selection import selection_parts
from rsa.evaluation.score import Scores, stamped
from rsa.params.evaluation import Evaluation
from rsa.params.robustness import Robustness
from rsa.training.device import gpu_number


def robustness_scores(
    p: Robustness,
    evaluation: Evaluation,
    threads: int,
    encode: Encode,
    train: Features,
    test: Features,
    split: Split,
    seed: int,
    device: torch.device,
) -> Scores:
    """Return task -> score: the mean accuracy over corruptions and severities, and its ratio to the clean one, in percent.

    `train` and `test` are the features of clean images, `split` the images of `test`; `seed` draws corruptions and held-out part.
    """
    classifier = fit_classifier(train, p, seed)
    hits = {name: dict.fromkeys(p.severities, 0) for name in p.corruptions}
    done = 0
    batch_size, gpu = evaluation.batch_size, gpu_number(device)
    images = evaluation_images(split, evaluation, batch_size=batch_size, threads=threads, gpu=gpu)
    with ThreadPoolExecutor(threads) as pool:
        for batch in images:
            clean, ids = batch.cpu().numpy(), range(done, done + len(batch))
            truth = test.y[done : done + len(batch)]
            done += len(batch)
            for name in p.corruptions:
                corrupted = pool.map(lambda severity: corrupt(clean, ids, name, severity, p.constants, seed), p.severities)  # noqa: B023
                for severity, x in zip(p.severities, corrupted, strict=True):
                    predicted = classifier.predict(encode(torch.from_numpy(x)))
                    hits[name][severity] += int((predicted == truth).sum())
    assert done == len(test.y)
    clean_top1 = 100 * float(classifier.score(test.x, test.y))
    top1 = {name: {str(severity): 100 * n / done for severity, n in counts.items()} for name, counts in hits.items()}
    mean = float(np.mean([value for of_name in top1.values() for value in of_name.values()]))
    protocol = f"corruptions-{p.constants}"
    converged = int(classifier.best_estimator_[-1].n_iter_.max()) < p.max_iter
    details = {"clean_top1": clean_top1, "C": classifier.best_params_["logisticregression__C"], "converged": converged}
    details["corruptions"] = top1
    step = 100 / (done * len(p.corruptions) * len(p.severities))
    return {
        "corrupted": stamped(protocol, p, "top1", mean, step, **details),
        "corrupted / clean": stamped(protocol, p, "percent of clean top1", 100 * mean / clean_top1, 100 * step / clean_top1),
    }


def fit_classifier(train: Features, p: Robustness, seed: int) -> GridSearchCV:
    """Fit the linear probe on all of `train`, with the C that is best on a held-out part (ties: the smallest)."""
    names = [str(label) for label in range(int(train.y.max()) + 1)]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=p.max_iter)),
        {"logisticregression__C": sorted(p.C)},
        cv=[selection_parts(train.y, names, p.held_out, seed)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return search.fit(np.asarray(train.x), train.y)
