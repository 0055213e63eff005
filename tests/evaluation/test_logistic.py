import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from rsa.evaluation import logistic
from rsa.evaluation.features import Features
from rsa.evaluation.logistic import logistic_predictions
from rsa.evaluation.softmax_regression import SoftmaxRegression
from rsa.evaluation.tasks import probe_tasks
from rsa.params.document import Params
from tests.evaluation.blobs import blobs

CS = [0.001, 0.1, 10.0]


def test_beyond_the_size_that_fits_the_chunked_one_says_the_same(monkeypatch: pytest.MonkeyPatch):
    train, test = blobs(300, 0), blobs(400, 1)
    plain = list(logistic_predictions(train, test, CS, 1000))
    monkeypatch.setattr(logistic, "IN_MEMORY_BYTES", train.x.nbytes - 1)
    monkeypatch.setattr(LogisticRegression, "fit", None)  # not used
    chunked = list(logistic_predictions(train, test, CS, 1000))
    for (C, predicted, converged), (C_too, predicted_too, converged_too) in zip(plain, chunked, strict=True):
        assert (C, converged) == (C_too, converged_too) == (C, True)
        assert (predicted != predicted_too).sum() <= 2  # of 400: both stop at a gradient of 1e-4
    assert len({predicted.tobytes() for _, predicted, _ in plain}) == 3


def test_at_the_size_that_fits_scikit_learn_serves(monkeypatch: pytest.MonkeyPatch):
    train = blobs(60, 0)
    monkeypatch.setattr(logistic, "IN_MEMORY_BYTES", train.x.nbytes)
    monkeypatch.setattr(SoftmaxRegression, "fit", None)  # not used
    assert len(list(logistic_predictions(train, train, CS, 1000))) == 3


@pytest.mark.parametrize("limit", [0, 2**30])
def test_each_c_is_as_if_alone(limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logistic, "IN_MEMORY_BYTES", limit)
    train, test = blobs(120, 0), blobs(90, 1)
    for C, predicted, _ in logistic_predictions(train, test, CS, 1000):
        ((_, alone, _),) = logistic_predictions(train, test, [C], 1000)
        np.testing.assert_array_equal(predicted, alone)


ON_TORCH = """
import sys
import numpy as np
from rsa.evaluation.logistic import logistic_predictions
from tests.evaluation.blobs import blobs
train, test = blobs(300, 0), blobs(400, 1)
found = logistic_predictions(train, test, [0.001, 0.1, 10.0], 1000, sys.argv[1])
np.save(sys.argv[2], [predicted for _, predicted, converged in found if converged])
"""


def differing(device: str, folder: Path) -> np.ndarray:
    """Per C, the number of predictions that differ if scikit-learn fits torch tensors on `device`, in a process of its own."""
    command = [sys.executable, "-c", ON_TORCH, device, str(folder / "found.npy")]
    subprocess.run(command, check=True, env={**os.environ, "SCIPY_ARRAY_API": "1"})
    want = [predicted for _, predicted, _ in logistic_predictions(blobs(300, 0), blobs(400, 1), CS, 1000)]
    return (np.load(folder / "found.npy") != np.stack(want)).sum(1)


def test_on_torch_tensors_scikit_learn_says_the_same(tmp_path: Path):
    assert differing("cpu", tmp_path).max() <= 2


def test_torch_tensors_need_scipys_array_api(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SCIPY_ARRAY_API", raising=False)
    train = Features(np.eye(2, dtype=np.float32), np.array([0, 1]))
    with pytest.raises(ValueError, match="SCIPY_ARRAY_API must be 1 before SciPy is imported"):
        list(logistic_predictions(train, train, CS, 10, "cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tiny: Params, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    train, runtime = blobs(60, 0), tiny.runtime.model_copy(update={"probe_gpus": 1})
    with pytest.raises(ValueError, match=r"runtime\.probe_gpus must be 0 where no GPU is usable, got 1"):
        probe_tasks(train, train, tiny.probe, runtime, 0)
