"""The online probe: it changes nothing of a run, and finds what classifiers of others find on the encoder of that step."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file
from sklearn.linear_model import RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.splits import held_out
from rsa.evaluation.online_probe import OnlineProbe
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.evaluation import Geometry
from tests.conftest import IMAGENET
from tests.pipeline.conftest import RunStage

ONLINE = ["online_knn", "online_linear"]
PROBED = [22, 44, 55]  # steps: 11 are an epoch


def pretrain(run: RunStage, out: str, every_epochs: int, samples: int = 1000, processes: int = 1) -> pd.DataFrame:
    """The curve of a run of 5 epochs."""
    document = YAML(typ="safe").load(Path("params.yaml"))
    document["pretrain"]["epochs"] = 5
    document["runtime"] |= {"snapshots": [0.0, 0.4, 0.8, 1.0], "processes": processes, "timeout_minutes": 1}
    document["runtime"]["online_probe"] = {"every_epochs": every_epochs, "samples": samples}
    YAML(typ="safe").dump(document, Path("params.yaml"))
    run("pretrain", method="byol", seed=0, shards="data/digits", start="weights/none", out=out)
    return pd.read_csv(Path(out) / "curve.csv")


def files(out: str) -> dict[str, bytes]:
    """All that a run has made but its curve."""
    return {str(file.relative_to(out)): file.read_bytes() for file in Path(out).rglob("*.*") if file.name != "curve.csv"}


def training_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The split `train` as other libraries read it."""
    images, labels = [], []
    for shard in sorted(Path("data/digits/train").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                if member.name.endswith(".cls"):
                    labels.append(int(content))
                else:
                    images.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    return np.stack(images), np.array(labels)


def recomputed(encoder: Path, tiny: Params) -> list[float]:
    """Accuracies in percent by scikit-learn alone, on the held-out fifth of all training images."""
    images, labels = training_images()
    statistics = tiny.views.normalize
    x = (images / 255 - np.array(statistics.mean)) / np.array(statistics.std)
    backbone = build_backbone(tiny.model).eval()
    backbone.load_state_dict(load_file(encoder))
    with torch.no_grad():
        h = backbone(torch.tensor(x, dtype=torch.float32).permute(0, 3, 1, 2)).numpy()
    kept, out = held_out(labels, [str(label) for label in range(10)], 0.2, seed=0)
    vote = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07))
    scaler = StandardScaler().fit(h[kept])
    linear = RidgeClassifierCV([1, 10, 100, 1000, 10000]).fit(scaler.transform(h[kept]), labels[kept])
    right = [vote.fit(h[kept], labels[kept]).predict(h[out]), linear.predict(scaler.transform(h[out]))]
    return [100 * float((predicted == labels[out]).mean()) for predicted in right]


def test_a_probed_run_is_the_same_run_and_says_how_far_it_is(run: RunStage, tiny: Params):
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    bare = pretrain(run, "bare", every_epochs=0)
    probed = pretrain(run, "probed", every_epochs=2)
    assert files("bare") == files("probed")  # the encoder, every snapshot, run.json
    assert list(probed.columns) == [*bare.columns, *ONLINE]
    pd.testing.assert_frame_equal(probed[bare.columns], bare)

    found = probed.set_index("step")[ONLINE].dropna(how="all")
    assert list(found.index) == PROBED
    step = 100 / (0.2 * len(Split(Path("data/digits"), "train")))
    for number, row in found.iterrows():
        want = recomputed(Path(f"probed/snapshots/{number:08d}.safetensors"), tiny)
        assert list(row) == pytest.approx(want, abs=2 * step), number  # neighbours may be as near as each other, to rounding
    assert found["online_linear"].iloc[-1] > 30  # percent, where chance is 10

    ranks = pretrain(run, "ranks", every_epochs=2, processes=2).set_index("step")[ONLINE].dropna()
    assert list(ranks.index) == PROBED
    last = recomputed(Path("ranks/encoder.safetensors"), tiny)
    assert list(ranks.iloc[-1]) == pytest.approx(last, abs=2 * step)


def test_some_images_are_drawn_and_too_few_are_refused(run: RunStage):
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    train, geometry, normalize = (
        Split(Path("data/digits"), "train"),
        Geometry(resize=16, crop=16, interpolation="linear"),
        Normalize(IMAGENET, torch.device("cpu")),
    )
    probe, other = (OnlineProbe(train, 100, geometry, normalize, seed, 1) for seed in (0, 1))
    used = np.concatenate([probe.fitted, probe.tested])
    assert sorted(used) == list(range(100)) == list(range(len(probe.images)))
    assert set(probe.images.keys) < set(train.keys)
    assert probe.images.keys != other.images.keys
    assert len(probe.tested) == pytest.approx(20, abs=5)

    singles = train.subset(np.unique(train.labels, return_index=True)[1])
    with pytest.raises(ValueError, match=r"samples must draw 2 classes, .*, got 1000 of 10 images of 10 classes: raise it"):
        OnlineProbe(singles, 1000, geometry, normalize, 0, 1)
    with pytest.raises(ValueError, match=r"runtime.online_probe.samples must draw 2 classes"):
        OnlineProbe(train.subset(np.flatnonzero(train.labels == 3)), 1000, geometry, normalize, 0, 1)
