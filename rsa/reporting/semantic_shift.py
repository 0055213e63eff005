"""Measurement of RSA's claim: how often an aggressive view's nearest weak view has another class, and how beta followed.

representation.csv has a row per snapshot: `shift_weak` and `shift_aggressive` are the shares of weak and aggressive views whose
nearest weak view of another crop has another class. curve.csv has beta and both losses, whose difference is the gap.
"""

import math
from typing import Any, NamedTuple

import pandas as pd

from rsa.reporting.numbers import signed
from rsa.reporting.runs import Frames
from rsa.reporting.statistics import Summary, summarize

STEPS = 25  # number of steps before a snapshot that are averaged
METRICS = {  # column of representation.csv -> heading, with the direction that is better
    "rankme": "RankMe (higher)",
    "lidar": "LiDAR (higher)",
    "alpha": "α-ReQ (nearer 1)",
    "alignment": "alignment (lower)",
    "uniformity": "uniformity (lower)",
}


class Snapshot(NamedTuple):
    """Measurements at one point of training, over seeds; shares in percent, NaN where a curve has no such column or step."""

    method: str
    progress: float
    weak: Summary
    aggressive: Summary
    beta: float
    gap: float  # aggressive loss - weak loss
    metrics: dict[str, Summary]


def snapshots(metrics: Frames, curves: Frames) -> list[Snapshot]:
    """Collect the snapshots of all methods."""
    collected = []
    for method, seeds in metrics.items():
        rows = pd.concat([frame.assign(seed=seed) for seed, frame in seeds.items()])
        for progress, at in rows.groupby("progress"):
            steps = [_before(curves.get(method, {}).get(int(seed)), float(str(progress))) for seed in at["seed"]]
            collected.append(
                Snapshot(
                    method=method,
                    progress=float(str(progress)),
                    weak=summarize((100 * at["shift_weak"]).tolist()),
                    aggressive=summarize((100 * at["shift_aggressive"]).tolist()),
                    beta=_mean([step["beta"].iloc[-1] for step in steps if "beta" in step and len(step)]),
                    gap=_mean([(step["aggressive"] - step["weak"]).mean() for step in steps if _two_losses(step) and len(step)]),
                    metrics={name: summarize(at[name].dropna().tolist()) for name in METRICS if name in at},
                )
            )
    return collected


def _before(curve: pd.DataFrame | None, progress: float) -> pd.DataFrame:
    if curve is None:
        return pd.DataFrame()
    if progress == 0:
        return curve.head(1)
    step = progress * curve["step"].max()
    before: pd.DataFrame = curve[(curve["step"] <= step) & (curve["step"] > step - STEPS)]
    return before


def _two_losses(curve: pd.DataFrame) -> bool:
    return {"aggressive", "weak"} <= set(curve.columns)


def _mean(values: list[Any]) -> float:
    return summarize([float(value) for value in values]).mean


def shift_sentences(every: list[Snapshot]) -> list[str]:
    """Return a sentence per method: the shift at its first and last snapshot, and what beta and the losses did between."""
    sentences = []
    for method in dict.fromkeys(snapshot.method for snapshot in every):
        of_method = [snapshot for snapshot in every if snapshot.method == method]
        first, last = of_method[0], of_method[-1]
        text = f"{method}: {_shares(first)}" + (f"; {_shares(last)}" if len(of_method) > 1 else "")
        betas = [snapshot.beta for snapshot in of_method if not math.isnan(snapshot.beta)]
        if betas:
            text += f"; beta went from {betas[0]:.2f} to {betas[-1]:.2f}"
        gaps = [snapshot.gap for snapshot in of_method if not math.isnan(snapshot.gap)]
        if gaps:
            text += f", the aggressive loss less the weak one from {signed(gaps[0], 3)} to {signed(gaps[-1], 3)}"
        sentences.append(text + ".")
    return sentences


def _shares(snapshot: Snapshot) -> str:
    when = {0.0: "before training", 1.0: "at its end"}.get(snapshot.progress, f"after {100 * snapshot.progress:g} % of training")
    shares = f"{snapshot.aggressive.mean:.1f} % of the aggressive and {snapshot.weak.mean:.1f} % of the weak views"
    return f"{when}, {shares} have shifted"
