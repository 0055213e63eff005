"""Every recipe plans under both engines, and its networks and optimisers build."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo

from engines.plan import plan
from rsa import methods, recipes
from rsa.data.views import color_of, crop_of
from rsa.methods import build_method, control_encoder
from rsa.models.backbones import build_backbone
from rsa.models.detectors import build_detector
from rsa.params.document import Params
from rsa.params.load import load
from rsa.scaling.jobs import needs
from rsa.training.optim import build_optimizer, peak
from tests.engines.imports import ROOT


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Params]:
    """The params of a recipe by its name."""
    folder = tmp_path_factory.mktemp("recipes")

    @cache
    def loaded(name: str) -> Params:
        recipes.write(name, folder / f"{name}.yaml")
        return load(folder / f"{name}.yaml")

    return loaded


@pytest.mark.parametrize("name", recipes.names())
def test_networks_views_optimisers_and_detectors_build(name: str, recipe: Callable[[str], Params]):
    """On torch's meta device: no memory, no numbers."""
    p = recipe(name)
    for control in p.controls:
        with torch.device("meta"):
            assert control_encoder(p.methods[control], build_backbone(p.model), p.views)
    for section in map(p.methods.get, p.trained):
        with torch.device("meta"):
            method, views = build_method(section, build_backbone(p.model), p.views)
            optimizer = build_optimizer(method.parameters(), method.constant_lr(), section.optimizer)
        assert views.views
        trained = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        assert trained > sum(parameter.numel() for parameter in method.backbone.parameters()) * 0.9
    for settings in p.detection.values():
        with torch.device("meta"):
            detector = build_detector(build_backbone(p.model), 80, settings.training, p.views.normalize)
        assert sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad) > 1e6


@pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")  # of DVC's own library
@pytest.mark.parametrize("name", recipes.names())
def test_both_engines_plan_it(name: str, recipe: Callable[[str], Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """dvc.yaml resolves with it; the Snakefile gets its jobs from the same plan."""
    for needed in ("dvc.yaml", "requirements.lock", "weights"):
        copy = shutil.copytree if (ROOT / needed).is_dir() else shutil.copy
        copy(ROOT / needed, tmp_path / needed)
    recipes.write(name, tmp_path / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    Repo.init(str(tmp_path)).close()
    p = recipe(name)
    monkeypatch.chdir(tmp_path)
    stages = plan()
    assert all(stage.stale for stage in stages.values())
    runs = {f"{name}-{seed}" for name in p.experiment.methods for seed in p.experiment.seeds}
    assert {name.partition("@")[2] for name in stages if name.startswith("pretrain@")} == runs
    assert {name.partition("@")[2] for name in stages if name.startswith("shard@")} == set(p.datasets)
    assert "report" in stages
    if name in ("cifar10", "imagenet"):  # the others' jobs have the same names
        assert needs(p).keys() <= stages.keys()
    assert {name.partition("@")[2] for name in stages if name.startswith("detection_data@")} == set(p.detection)
    for family, of in (("detect", p.detection), ("robustness", p.robustness)):
        planned = {name.partition("@")[2] for name in stages if name.startswith(f"{family}@")}
        assert planned == {f"{run}-{name}" for run in runs for name in of}


PRESETS = {  # as published
    "rsa-small": {"lr": [30.0], "momentum": 0.9, "nesterov": True, "weight_decay": 0.0, "epochs": 100, "batch_size": 256},
    "rsa-imagenet": {"lr": [0.01], "lr_per_256": False, "weight_decay": 1e-4, "epochs": 40, "normalize": "l2_standardize"},
    "hvp": {"optimizer": "lars", "lr": [0.1], "lr_per_256": True, "batch_size": 4096, "epochs": 90, "weight_decay": 0.0},
    "hvp-simclr": {"optimizer": "sgd", "lr": [0.1], "lr_per_256": True, "batch_size": 4096, "epochs": 90, "weight_decay": 0.0},
    "hvp-vit": {"lr": [0.001], "lr_per_256": True, "batch_size": 1024, "epochs": 100, "blocks": [4], "pooling": ["cls"]},
    "barlow-twins": {"lr": [0.1], "lr_per_256": False, "batch_size": 256, "epochs": 100, "weight_decay": 1e-6},
    "lightly": {"lr": [0.1], "lr_per_256": True, "batch_size": 256, "epochs": 90, "weight_decay": 0.0},
    "dinov2": {"blocks": [1, 4], "pooling": ["cls", "cls_avg"], "lr_per_256": True, "weight_decay": 0.0},
    "knn-lightly": {"k": [200], "temperature": 0.1},
    "knn-dino": {"k": [10, 20, 100, 200], "temperature": 0.07},
}
SCHEDULES = {
    "rsa-small": {"schedule": "steps", "at": [60, 80], "factor": 0.1},
    "rsa-imagenet": {"schedule": "steps", "at": [15, 30], "factor": 0.1},
}


def test_a_protocol_of_a_published_name_has_its_published_settings(recipe: Callable[[str], Params]):
    found = set()
    for p in map(recipe, recipes.names()):
        for name, protocol in {**p.probe.protocols, **p.linear.protocols}.items():
            if name not in PRESETS:
                assert name in {"knn", "sklearn"}
                continue
            found.add(name)
            settings = protocol.model_dump(mode="json")
            assert {key: settings[key] for key in PRESETS[name]} == PRESETS[name], (p, name)
            if name in p.linear.protocols:
                assert settings["schedule"] == SCHEDULES.get(name, {"schedule": "cosine"})
    assert found == set(PRESETS)
    assert len(recipe("imagenet_hard_dino").linear.protocols["dinov2"].lr) == 13


CHANNELS = {  # dataset -> mean and standard deviation, as in RSA's code; ImageNet's elsewhere
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "stl10": ((0.4408, 0.4279, 0.3867), (0.2682, 0.2610, 0.2686)),
    "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def test_pixels_are_normalised_with_the_statistics_of_the_dataset(recipe: Callable[[str], Params]):
    for p in map(recipe, recipes.names()):
        channels = (p.views.normalize.mean, p.views.normalize.std)
        assert channels == CHANNELS.get(p.experiment.dataset, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def test_colours_are_torchvisions_where_a_recipe_is_a_papers(recipe: Callable[[str], Params]):
    fast = {name for name in recipes.names() if not recipe(name).views.exact_color}
    assert fast == {"quickstart", "cifar10_small", "cifar10_hard", "cifar10_study"}


MULTI_CROP = ("imagenet_hard_dino", "imagenet_hard_dino_800", "imagenet_hard_ibot")
INTERPOLATION = dict.fromkeys(MULTI_CROP, ("bicubic", "bicubic"))  # of crops, in evaluation
INTERPOLATION |= {"imagenet_hard_simclr": ("linear", "bicubic"), "imagenet_byol": ("bicubic", "bicubic")}
INTERPOLATION |= {"imagenet_barlow_twins": ("bicubic", "linear")}  # main.py, evaluate.py
KERNELS = {"imagenet_hard_simclr": 9, "imagenet_byol": 23}  # px of blurs that are not Pillow's


def test_images_are_resized_as_the_authors_do(recipe: Callable[[str], Params]):
    for name in recipes.names():
        p = recipe(name)
        assert (p.views.interpolation, p.evaluation.interpolation) == INTERPOLATION.get(name, ("linear", "linear"))
        assert p.views.blur.kernel == KERNELS.get(name, "pillow")
    assert recipe("imagenet_hard_dino").linear.protocols["dinov2"].crop_interpolation == "bicubic"


def test_stl10_is_seen_whole_by_knn_and_in_its_centre_by_the_linear_protocol(recipe: Callable[[str], Params]):
    """Its images are 96 px: neither is a resize."""
    p = recipe("stl10")
    assert (p.evaluation.resize, p.evaluation.crop) == (96, 96)
    geometry = p.linear.protocols["rsa-small"].geometry
    assert geometry is not None
    assert (geometry.resize, geometry.crop) == (96, 64)


def test_byols_own_recipe_has_the_asymmetric_pair_of_its_paper(recipe: Callable[[str], Params]):
    """Grill et al. 2020, appendix B, and the preset of 1000 epochs; every batch norm of the backbone starts at 1."""
    p = recipe("imagenet_byol")
    first, second = (color_of(p.views, view) for view in range(2))
    assert [(c.blur_prob, c.solarize_prob, c.jitter.prob, c.gray_prob) for c in (first, second)] == [
        (1, 0, 0.8, 0.2),
        (0.1, 0.2, 0.8, 0.2),
    ]
    assert (first.jitter.brightness, first.jitter.contrast, first.jitter.saturation, first.jitter.hue) == (0.4, 0.4, 0.2, 0.1)
    assert crop_of(p.views).scale == (0.08, 1.0)
    byol = p.methods["byol"]
    rates = byol.optimizer.base_lr, byol.optimizer.weight_decay, byol.ema_start, p.pretrain.epochs, p.pretrain.batch_size
    assert rates == (0.2, 1.5e-6, 0.996, 1000, 4096)
    norms = [m for m in build_backbone(p.model).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(bool((norm.weight == 1).all()) for norm in norms)


def test_the_last_norm_of_each_block_starts_at_0_as_in_the_code_of_rsas_authors(recipe: Callable[[str], Params]):
    backbone = build_backbone(recipe("cifar10").model)
    zero = {name for name, p in backbone.named_parameters() if p.ndim == 1 and not name.endswith("bias") and not p.any()}
    assert zero == {f"layer{i}.{j}.bn2.weight" for i in range(1, 5) for j in range(2)}


def test_imagenet100_has_the_100_classes_of_cmcs_list(recipe: Callable[[str], Params]):
    classes = recipe("imagenet100").datasets["imagenet100"].classes
    assert len(set(classes)) == len(classes) == 100
    listed = "".join(f"{name}\n" for name in sorted(classes)).encode()
    assert (
        hashlib.sha256(listed).hexdigest() == "5ee5db69d488bb799a286d8e181801c3d02798776c1ce9203e5450f64e086e07"
    )  # of the list's lines, sorted


SYMMETRIC = {"crop_scale": (0.2, 1.0), "jitter.saturation": 0.4, "blur.prob": (0.5, 0.5), "solarize_prob": (0.0, 0.0)}
ASYMMETRIC = {"jitter.saturation": 0.2, "blur.prob": (1.0, 0.1), "solarize_prob": (0.0, 0.2)}
VIEWS = {  # as the authors of each recipe set them: keys of `views`
    **dict.fromkeys(("cifar10", "cifar100", "stl10", "tiny_imagenet", "imagenet", "imagenet100"), SYMMETRIC),
    **dict.fromkeys(("imagenet_detection", "imagenet_hard_simsiam"), SYMMETRIC),
    "imagenet_hard_simclr": {**SYMMETRIC, "crop_scale": (0.08, 1.0), "jitter.saturation": 0.8, "jitter.hue": 0.2},
    "imagenet_byol": {**ASYMMETRIC, "crop_scale": (0.08, 1.0)},
    "imagenet_barlow_twins": {**ASYMMETRIC, "crop_scale": (0.08, 1.0)},
    "imagenet_hard_dino": {**ASYMMETRIC, "crop_scale": (0.4, 1.0), "local.crop_scale": (0.05, 0.4), "local.count": 8},
    "imagenet_hard_dino_800": {**ASYMMETRIC, "crop_scale": (0.25, 1.0), "local.crop_scale": (0.05, 0.25), "local.count": 10},
    "imagenet_hard_ibot": {**ASYMMETRIC, "crop_scale": (0.25, 1.0), "local.crop_scale": (0.05, 0.25), "local.count": 10},
}
RSA_SMALL = {"optimizer.name": "sgd", "peak": 0.1, "optimizer.weight_decay": 5e-4, "projector.hidden": 1024, "ema_start": 0.99}
RSA_LARGE = {"optimizer.name": "lars", "peak": 4.8, "optimizer.weight_decay": 1e-6, "projector.hidden": 4096, "ema_start": 0.99}
DINO = {"optimizer.name": "adamw", "optimizer.weight_decay": 0.04, "optimizer.end_weight_decay": 0.4, "ema_start": 0.996}
DINO_100 = {**DINO, "peak": 1e-3, "teacher_temperature.end": 0.04, "optimizer.clip_norm": 3.0, "optimizer.clip_each": None}
DINO_800 = {**DINO, "peak": 2e-3, "head.out": 65536, "head.norm_last_layer": False, "optimizer.clip_norm": None}
IBOT = {**DINO, "peak": 2e-3, "head.out": 8192, "head.norm_last_layer": False, "optimizer.clip_each": 3.0}
BARLOW_TWINS = {"peak": 1.6, "optimizer.vector_base_lr": 0.0048, "optimizer.weight_decay": 1e-6, "off_diagonal": 0.0051}
TRAINING = {  # recipe -> epochs, of warm-up, and keys of a section of `methods`; `peak` is the learning rate at the batch's size
    "cifar10": (200, 0, "rsa", RSA_SMALL | {"beta.start": 0.4, "beta.end": 0.0}),
    "cifar100": (200, 0, "rsa", RSA_SMALL | {"beta.start": 0.3}),
    "stl10": (200, 0, "rsa", RSA_SMALL | {"beta.start": 0.4}),
    "tiny_imagenet": (200, 0, "byol", RSA_SMALL),
    "imagenet": (200, 10, "rsa", RSA_LARGE | {"beta.start": 0.4}),
    "imagenet100": (200, 0, "rsa", RSA_SMALL | {"peak": 0.2, "optimizer.weight_decay": 1e-4, "projector.hidden": 4096}),
    "imagenet_byol": (1000, 10, "byol", RSA_LARGE | {"peak": 3.2, "optimizer.weight_decay": 1.5e-6, "ema_start": 0.996}),
    "imagenet_barlow_twins": (1000, 10, "barlow_twins", BARLOW_TWINS),
    "imagenet_hard_simclr": (100, 10, "simclr", {"peak": 4.8, "optimizer.weight_decay": 1e-4, "temperature": 0.1}),
    "imagenet_hard_simsiam": (100, 0, "simsiam", {"peak": 0.1, "optimizer.weight_decay": 1e-4, "predictor_hidden": 512}),
    "imagenet_hard_dino": (100, 10, "dino", DINO_100 | {"freeze_last_layer": 0.01}),
    "imagenet_hard_dino_800": (800, 10, "dino_hard", DINO_800 | {"hard_views.candidates": 4, "hard_views.local_candidates": 16}),
    "imagenet_hard_ibot": (100, 10, "ibot_hard", IBOT | {"hard_views.candidates": 4, "hard_views.local_candidates": None}),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_the_authors(name: str, recipe: Callable[[str], Params]):
    views = recipe(name).views
    assert {key: attrgetter(key)(views) for key in VIEWS[name]} == VIEWS[name]
    drawn = (views.jitter.prob, views.gray_prob, views.flip_prob, views.blur.sigma, views.jitter.brightness)
    assert drawn == (0.8, 0.2, 0.5, (0.1, 2.0), 0.8 if "simclr" in name else 0.4)


@pytest.mark.parametrize("name", TRAINING)
def test_methods_are_trained_as_the_authors_do(name: str, recipe: Callable[[str], Params]):
    p = recipe(name)
    epochs, warmup, method, published = TRAINING[name]
    section = p.methods[method]
    found = {key: attrgetter(key)(section) for key in published if key != "peak"}
    assert found | {"peak": peak(section.optimizer, p.pretrain)} == pytest.approx(published)
    assert (p.pretrain.epochs, p.pretrain.warmup_epochs) == (epochs, warmup)


PAPERS = [
    name for name in recipes.names() if name.startswith("imagenet") or name in ("cifar10", "cifar100", "stl10", "tiny_imagenet")
]


@pytest.mark.parametrize("name", PAPERS)
def test_the_head_of_a_papers_recipe_says_where_it_is_from_what_it_costs_and_what_was_run(name: str):
    head = recipes.text(name).partition("\n\n")[0]
    for needed in ("Source: ", "Precision: ", "Differences: ", "GPU hours: ", "Run here: ", "Published: "):
        assert head.count(f"# {needed}") == 1, needed
    assert re.search(r"https://(arxiv.org|openreview.net)", head)
    assert re.search(r"https://github.com/\S+", head)
    assert re.search(r"GPU hours: [\d.]+ for a run", head)


def test_every_method_has_a_recipe(recipe: Callable[[str], Params]):
    used = {p.methods[name].method for p in map(recipe, recipes.names()) for name in p.experiment.methods}
    assert used == set(methods.names())
