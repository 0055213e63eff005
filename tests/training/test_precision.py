"""bf16 trains as float32 does: each loss curve could be that of another seed of float32."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from pipeline.pretrain import pretrain
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.params.load import load
from rsa.recipes import write

SEEDS, EPOCHS, WINDOWS = range(10), 4, 5  # of fewer seeds the spread can come out ten times too small
UNTRAINED = 4.0  # of embeddings that know nothing of each other


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


@pytest.mark.slow
def test_loss_curves_of_bf16_lie_within_the_spread_of_seeds_of_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """RSA on handwritten digits, the quickstart's network and settings, fewer epochs; windows are fifths of training."""
    monkeypatch.chdir(tmp_path)
    write("quickstart", Path("params.yaml"))
    p = load(Path("params.yaml"))
    Path("code/pretrain").mkdir(parents=True)
    Path("code/pretrain/rsa").write_text("code")
    (tmp_path / "shards").mkdir()
    write_shards(open_source(p.datasets["digits"], 0), p.shards, {}, tmp_path / "shards", tmp_path / "shards.work")
    threads = p.runtime.threads.model_copy(update={"pretrain": 1})
    runtime = p.runtime.model_copy(update={"device": "cpu", "threads": threads})
    curves: dict[str, list[list[float]]] = {"float32": [], "bf16": []}
    for precision, found in curves.items():
        section = p.pretrain.model_copy(update={"precision": precision, "epochs": EPOCHS, "warmup_epochs": 1.0})
        for seed in SEEDS:
            out = tmp_path / f"{precision}_{seed}"
            out.mkdir()
            manifest, start, work = tmp_path / "shards/manifest.json", Path("weights/none"), tmp_path / "work" / out.name
            pretrain(p.views, p.model, section, p.methods["rsa"], runtime, "rsa", seed, manifest, start, out, work)
            losses = pd.read_csv(out / "curve.csv")["loss"].to_numpy()
            found.append([float(part.mean()) for part in np.array_split(losses, WINDOWS)])
    float32, bf16 = (np.array(found) for found in curves.values())  # (seeds, windows)
    mean, spread = float32.mean(axis=0), float32.std(axis=0, ddof=1)
    n = len(float32)
    another_seed = stats.t.ppf(0.975, n - 1) * spread * (1 + 1 / n) ** 0.5  # 95 % prediction interval, half its width
    print(f"\nfloat32 {float32.round(4)}\nbf16 {bf16.round(4)}\nspread {spread.round(4)}\nanother seed {another_seed.round(4)}")
    assert (np.abs(bf16 - mean) < another_seed).all()
    assert (np.abs(bf16.mean(axis=0) - mean) < spread).all()
    assert (float32 < 0.75 * UNTRAINED).all()  # something is learnt
    assert (bf16 < 0.75 * UNTRAINED).all()
