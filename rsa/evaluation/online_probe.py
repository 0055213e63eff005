"""Online probe: how well classes can be told apart by an encoder that is still being trained.

It is for watching a run, and its numbers are no scores: it sees images of the split `train` alone, never the test split. A kNN
and a linear classifier are fitted on the features of some of them and tested on others, whose labels are held out. Those images
are held out of the classifiers, not of pretraining, which goes on as it would without the probe: the probe works on a copy of
the encoder and draws no random number of the run's.
"""

import copy

import numpy as np
from torch import nn

from rsa.data.evaluation_images import evaluation_images
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.splits import held_out
from rsa.evaluation.encode import frozen
from rsa.evaluation.weighted_knn import weighted_knn
from rsa.params.evaluation import Geometry
from rsa.training.device import gpu_number

HELD_OUT = 0.2  # of the images of each class
NEIGHBORS, TEMPERATURE = 20, 0.07
PENALTIES = np.logspace(0, 4, 5)  # of the ridge regression, of which leave-one-out chooses one
BATCH = 256  # images forwarded at once


class OnlineProbe:
    """The probe of a run: `samples` images of `split`, seen as `geometry` says; `seed` draws them and the held-out part.

    ValueError if they are too few for a classifier.
    """

    def __init__(self, split: Split, samples: int, geometry: Geometry, normalize: Normalize, seed: int, threads: int) -> None:
        random = np.random.Generator(np.random.Philox(key=[seed, 1]))
        self.images = split.subset(np.sort(random.permutation(len(split))[:samples]))
        self.fitted, self.tested = held_out(self.images.labels, split.classes, HELD_OUT, seed, "kept")
        if not len(self.tested) or len(np.unique(self.images.labels[self.fitted])) < 2:
            raise ValueError(
                "runtime.online_probe.samples must draw 2 classes, and 2 images of one of them, "
                f"got {samples} of {len(split)} images of {len(split.classes)} classes: raise it"
            )
        self.geometry, self.normalize, self.threads = geometry, normalize, threads

    def __call__(self, backbone: nn.Module) -> dict[str, float]:
        """Return the top-1 accuracy in percent of both classifiers, each with its column of the curve."""
        from sklearn.linear_model import RidgeClassifierCV  # 2 s, which a run without the probe does without
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits

        encode, gpu = frozen(copy.deepcopy(backbone), self.normalize), gpu_number(self.normalize.device)
        images = evaluation_images(self.images, self.geometry, batch_size=BATCH, threads=self.threads, gpu=gpu)
        x, y = np.concatenate([encode(batch) for batch in images]), self.images.labels
        fit, fit_labels, test = x[self.fitted], y[self.fitted], x[self.tested]
        with threadpool_limits(self.threads, "blas"):
            # In closed form: its time is bounded, however many classes there are, while other ranks wait.
            linear = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES)).fit(fit, fit_labels)
            predicted = {
                "online_knn": weighted_knn(fit, fit_labels, test, [NEIGHBORS], TEMPERATURE)[NEIGHBORS],
                "online_linear": linear.predict(test),
            }
        return {name: 100 * float((classes == y[self.tested]).mean()) for name, classes in predicted.items()}
