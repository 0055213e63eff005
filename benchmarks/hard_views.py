"""python benchmarks/hard_views.py CLASS_FOLDERS.zip: what each form of scoring hard views costs, and how well it chooses.

BYOL on ResNet-18 (3x3 stem) at 32 px, 4 candidates, batch 64, on an untrained network and after some training. Time is a
step with Hard View Selection over a step of the plain method, the two taken in turns. Agreement is the share of samples
for which the same pair of views is chosen as by exact scoring; the gap says how much of what exact scoring gains in loss
over a random pair is lost by choosing another way: 0 % exact, 100 % no better than chance.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from benchmarks.photographs import sharded
from rsa.data.batch import Batch
from rsa.data.index import Split
from rsa.data.loader import TrainingViews
from rsa.data.normalize import Normalize
from rsa.data.sources import open_source
from rsa.methods import build_method
from rsa.methods.hard_views import HardViews, Selection
from rsa.methods.method import Method
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.hard_views import HardViews as HardViewSettings
from rsa.params.hard_views import Scoring
from rsa.params.model import Model
from rsa.recipes import load_recipe
from rsa.training.loop import train
from rsa.training.optim import build_optimizer, set_schedules

THREADS = 2
BATCH = 64
TRAINING_STEPS = 120
TIMED_STEPS = 4
COMPARED = 4  # batches
CPU = torch.device("cpu")
EXACT = {"joint_views": False, "precision": "same", "predicted": None, "reuse": False}
FORMS: dict[str, dict[str, object]] = {
    "exact": {},
    "bf16": {"precision": "bf16"},
    "reuse": {"reuse": True},
    "bf16, reuse": {"precision": "bf16", "reuse": True},
    "bf16, reuse, 3 predicted": {"precision": "bf16", "reuse": True, "predicted": 3},
    "bf16, reuse, 0 predicted": {"precision": "bf16", "reuse": True, "predicted": 0},
    "reuse, 3 predicted": {"reuse": True, "predicted": 3},
    "reuse, 0 predicted": {"reuse": True, "predicted": 0},
}


def hard(form: dict[str, object]) -> HardViewSettings:
    scoring = Scoring.model_validate({**EXACT, **form})
    return HardViewSettings(candidates=4, local_candidates=None, max_combinations=64, scoring=scoring)


def small_byol(p: Params, hard_views: HardViewSettings | None) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(Model(backbone="resnet18", backbone_args={}, small_stem=True))
    method, _ = build_method(p.methods["byol"].model_copy(update={"hard_views": hard_views}), backbone, p.views)
    return method.to(memory_format=torch.channels_last).train()


def batches(split: Split, p: Params, method: Method) -> Iterator[Batch]:
    recipe = method.candidate_views if isinstance(method, HardViews) else method.recipe(p.views)
    return iter(TrainingViews(split, recipe, batch_size=BATCH, seed=0, threads=THREADS))


def step_seconds(method: Method, views: list[Batch], p: Params, precision: str) -> list[float]:
    """Return the seconds of some training steps, without reading data."""
    optimizer = build_optimizer(method.parameters(), (), p.methods["byol"].optimizer)
    pretrain = p.pretrain.model_copy(update={"precision": precision, "batch_size": BATCH})
    schedule = p.methods["byol"].optimizer.model_copy(update={"base_lr": 1e-6})  # the network is to stay as it is
    set_schedules(optimizer, schedule, pretrain, 0.5)
    seconds = []
    for batch in views:
        started = time.perf_counter()
        train(
            method,
            [batch],
            optimizer,
            pretrain,
            schedule,
            total_steps=1,
            normalize=Normalize(p.views.normalize, CPU),
            stop_on_collapse=False,
            report=lambda rows: None,
        )
        seconds.append(time.perf_counter() - started)
    return seconds


def trained(split: Split, p: Params, steps: int) -> Method:
    method = small_byol(p, None)
    optimizer = build_optimizer(method.parameters(), (), p.methods["byol"].optimizer)
    pretrain = p.pretrain.model_copy(update={"precision": "bf16", "batch_size": BATCH})
    train(
        method, batches(split, p, method), optimizer, pretrain, p.methods["byol"].optimizer,
        total_steps=steps, normalize=Normalize(p.views.normalize, CPU), stop_on_collapse=False, report=lambda rows: None,
    )  # fmt: skip
    return method


def selections(method: Method, views: list[Batch], p: Params, form: dict[str, object], precision: str) -> list[Selection]:
    """Return the choices of a form of scoring."""
    hard_views = HardViews(method, hard(form), p.views)
    hard_views.progress = 0.5
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return [hard_views.select(list(map(Normalize(p.views.normalize, CPU), batch.views)), batch.samples) for batch in views]


def quality(exact: list[Selection], other: list[Selection]) -> tuple[float, float]:
    """Return agreement and gap in percent."""
    agreed, gaps = [], []
    rows = torch.arange(BATCH)
    for truth, choice in zip(exact, other, strict=True):
        best, chosen, chance = truth.losses.max(0).values, truth.losses[choice.chosen, rows], truth.losses.mean(0)
        agreed.append((truth.chosen == choice.chosen).double().mean())
        gaps.append((best - chosen).sum() / (best - chance).sum())
    return 100 * float(torch.stack(agreed).mean()), 100 * float(torch.stack(gaps).mean())


def main(archive: Path) -> None:
    torch.set_num_threads(THREADS)
    p = load_recipe("cifar10_small")
    with tempfile.TemporaryDirectory() as scratch:
        dataset = p.datasets["cifar10"].model_copy(update={"raw": str(archive), "train_samples": 10000})
        split, _ = sharded(open_source(dataset, 0), Path(scratch) / "shards", 2500)
        plain = small_byol(p, None)
        plain_views = list(itertools.islice(batches(split, p, plain), TIMED_STEPS))
        candidates = list(itertools.islice(batches(split, p, HardViews(plain, hard({}), p.views)), COMPARED))
        networks = {"untrained": plain, f"after {TRAINING_STEPS} steps": trained(split, p, TRAINING_STEPS)}
        for precision in ("float32", "bf16"):
            print(f"\nTraining in {precision}:\n")
            heads = [f"agreement, {name} (%) | gap (%)" for name in networks]
            print("| scoring | time of a step | " + " | ".join(heads) + " |\n| --- | ---: |" + " ---: | ---: |" * len(heads))
            step_seconds(plain, plain_views[:1], p, precision)
            exact = {name: selections(network, candidates, p, {}, precision) for name, network in networks.items()}
            for name_of_form, form in FORMS.items():
                if precision == "bf16" and form.get("precision") == "bf16":
                    continue  # scoring has the precision of training already
                model = small_byol(p, hard(form))
                step_seconds(model, candidates[:1], p, precision)
                ratios = []
                for i in range(TIMED_STEPS):
                    (base,) = step_seconds(plain, plain_views[i : i + 1], p, precision)
                    (scored,) = step_seconds(model, candidates[i : i + 1], p, precision)
                    ratios.append(scored / base)
                cells = [
                    quality(exact[name], selections(network, candidates, p, form, precision))
                    for name, network in networks.items()
                ]
                numbers = " | ".join(f"{agreement:.1f} | {gap:.1f}" for agreement, gap in cells)
                print(f"| {name_of_form} | {median(ratios):.2f} | {numbers} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
