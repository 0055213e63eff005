"""The whole chain on tiny.yaml, every stage run as its command line runs it, in this process: torch is imported once."""

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import Tensor

from pipeline import pretrain
from rsa.data.index import Split
from rsa.models.encoder import description_of
from rsa.params.document import Params
from rsa.reporting.figures.views import draw_choices
from rsa.training import run as training_run
from tests.conftest import WriteParams
from tests.pipeline.conftest import RunStage


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit(path: Path, section: str, **values: object) -> None:
    document = YAML(typ="safe").load(path)
    document[section] |= values
    YAML(typ="safe").dump(document, path)


def encoder_of(cell: str) -> str:
    return f"runs/{cell}/encoder.safetensors"


def test_from_shards_to_report(run: RunStage, tmp_path: Path, tiny: Params):
    e = tiny.experiment
    protocol = {"lr": [0.1, 1.0], "lr_per_256": True, "optimizer": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
    protocol |= {"epochs": 1, "batch_size": 32, "schedule": {"schedule": "cosine"}, "normalize": "none"}
    protocol |= {"blocks": [1], "pooling": ["avg"]}
    protocol |= {"crop_scale": [0.08, 1.0], "precision": "float32", "held_out": 0.1, "best_on_test": False}
    protocol |= {"start": "torch", "crop_interpolation": "linear", "geometry": None}
    edit(tmp_path / "params.yaml", "linear", datasets=["digits"], protocols={"fast-sgd": protocol})
    edit(tmp_path / "params.yaml", "finetune", datasets=["photo_tiles"], label_percents=[50])
    for dataset in (e.dataset, *e.transfer):
        run("shard", dataset=dataset, raw="requirements.lock", out=f"data/shards/{dataset}")
    for seed in e.seeds:
        for method in e.methods:
            cell = f"{method}/s{seed}"
            run(
                "pretrain",
                method=method,
                seed=seed,
                shards=f"data/shards/{e.dataset}",
                start="weights/none",
                out=f"runs/{cell}",
            )
            for dataset in (e.dataset, *e.transfer):
                run(
                    "extract",
                    encoder=encoder_of(cell),
                    shards=f"data/shards/{dataset}",
                    out=f"features/{cell}/{dataset}",
                )
            run(
                "representation_metrics",
                snapshots=f"runs/{cell}/snapshots",
                shards="data/shards/digits",
                seed=seed,
                out=f"scores/{cell}/representation.csv",
            )
            out = f"scores/{cell}/linear_digits_fast-sgd.json"
            run(
                "linear",
                encoder=encoder_of(cell),
                shards="data/shards/digits",
                seed=seed,
                protocol="fast-sgd",
                out=out,
            )
            out = f"scores/{cell}/finetune_photo_tiles_50"
            run(
                "finetune",
                encoder=encoder_of(cell),
                shards="data/shards/photo_tiles",
                seed=seed,
                percent=50,
                out=out,
            )
            run("probe", seed=seed, features=f"features/{cell}/{e.dataset}", out=f"scores/{cell}/probe.json")
            for dataset in e.transfer:
                out = f"scores/{cell}/transfer_{dataset}.json"
                run("transfer", seed=seed, features=f"features/{cell}/{dataset}", out=out)
    for method in e.methods:
        cell = f"{method}/s{e.seeds[0]}"
        run("embedding_map", seed=e.seeds[0], features=f"features/{cell}/{e.dataset}", out=f"scores/{cell}/embedding_map")
    run("report", experiment="code/experiment.yaml", scores="scores", runs="runs", out="reports")

    check_curves(tmp_path / "runs", tiny)
    check_features(tmp_path / "features", tiny)
    check_quality(tmp_path, tiny)
    check_other_scores(tmp_path / "scores", tmp_path / "data" / "shards", tiny)
    check_report(tmp_path / "reports", tmp_path / "scores", tiny)
    assert not list(tmp_path.rglob("*.partial"))
    check_stale(run, tmp_path)


def check_stale(run: RunStage, root: Path) -> None:
    """Report without running anything again: scores of RSA under another learning rate, and of BYOL under another encoder."""
    document = YAML(typ="safe").load(root / "params.yaml")
    document["methods"]["rsa"]["optimizer"]["base_lr"] = 0.001
    YAML(typ="safe").dump(document, root / "params.yaml")
    shutil.copy(encoder_of("byol/s0"), encoder_of("byol/s1"))
    run("report", experiment="code/experiment.yaml", scores="scores", runs="runs", out="reports")
    table, missing = pd.read_csv("reports/scores.csv"), pd.read_csv("reports/missing.csv")
    assert set(zip(table["method"], table["seed"], strict=True)) == {
        (method, seed) for method, seed in (("pixels", 0), ("pixels", 1), ("random", 0), ("random", 1), ("byol", 0))
    }
    reasons = {file: reason.partition("from other ")[2] for file, reason in zip(missing["file"], missing["reason"], strict=True)}
    assert {reasons.pop(f"scores/byol/s1/{name}") for name in SCORE_FILES} == {"encoder"}
    assert set(reasons.values()) == {"params of pretraining"}
    assert {f"scores/rsa/s{seed}/{name}" for seed in (0, 1) for name in SCORE_FILES} < reasons.keys()
    assert f"**{len(missing)} files missing, damaged or stale**" in Path("reports/report.md").read_text()


SCORE_FILES = ("probe.json", "transfer_photo_tiles.json", "linear_digits_fast-sgd.json", "finetune_photo_tiles_50/scores.json")


def check_curves(runs: Path, tiny: Params) -> None:
    steps = 359 // tiny.pretrain.batch_size * tiny.pretrain.epochs  # a fifth of each class of 1,797 digits is for training
    for method, columns in (
        ("byol", ["step", "lr", "tau", "loss", "embedding_std", "effective_rank", "uniformity"]),
        ("rsa", None),
    ):
        curve = pd.read_csv(runs / method / "s0" / "curve.csv")
        assert curve["step"].tolist() == list(range(1, steps + 1))
        assert columns in (None, list(curve.columns))
        assert curve["lr"].max() == pytest.approx(0.4 * tiny.pretrain.batch_size / 256, rel=0.2)
        assert curve["lr"].iloc[-1] == pytest.approx(0, abs=1e-9)
        assert curve["tau"].iloc[-1] == 1.0
        assert json.loads((runs / method / "s0" / "run.json").read_text())["steps"] == steps
    rsa = pd.read_csv(runs / "rsa/s0/curve.csv")
    np.testing.assert_allclose(rsa["beta"], [0.2 * (np.cos(np.pi * step / steps) + 1) for step in rsa["step"]], atol=1e-8)
    np.testing.assert_allclose(rsa["loss"], rsa["beta"] * rsa["aggressive"] + (1 - rsa["beta"]) * rsa["weak"], rtol=1e-5)


def check_quality(root: Path, tiny: Params) -> None:
    for method in tiny.controls:
        assert pd.read_csv(root / "scores" / method / "s0" / "representation.csv")["progress"].tolist() == [0.0]
    for method in tiny.trained:
        table = pd.read_csv(root / "scores" / method / "s0" / "representation.csv")
        assert table["progress"].tolist() == [0.0, 1.0]
        assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
        snapshots = sorted((root / "runs" / method / "s0" / "snapshots").iterdir())
        assert [file.name for file in snapshots] == ["00000000.safetensors", "00000011.safetensors"]
        run = root / "runs" / method / "s0" / "encoder.safetensors"
        assert snapshots[-1].read_bytes() == run.read_bytes()
    start = [pd.read_csv(root / "scores" / method / "s0" / "representation.csv").iloc[0, :8] for method in ("byol", "rsa")]
    pd.testing.assert_series_equal(*start)  # the same weights, the same views


def check_other_scores(scores: Path, shards: Path, tiny: Params) -> None:
    labels = Split(shards / "photo_tiles", "train").labels
    lists = set()
    assert json.loads((scores / "pixels/s0/finetune_photo_tiles_50/scores.json").read_text()) == {}  # nothing to tune
    for method in ("random", *tiny.trained):
        score = json.loads((scores / method / "s0" / "linear_digits_fast-sgd.json").read_text())["fast-sgd"]
        assert score["protocol"] == "fast-sgd"
        assert score["chosen"] in score["held_out_top1"]
        score = json.loads((scores / method / "s0" / "finetune_photo_tiles_50" / "scores.json").read_text())["finetune_50%"]
        assert score["train_images"] == sum(round(count / 2) for count in np.bincount(labels))
        lists.add((scores / method / "s0" / "finetune_photo_tiles_50" / "samples.txt").read_text())
    assert len(lists) == 1  # every method has the same labels
    assert len(set(lists.pop().split())) == score["train_images"]


def check_features(features: Path, tiny: Params) -> None:
    """Every run has its own features: a cache by dataset name alone is a known fault of the reference."""
    files = [
        features / method / f"s{seed}" / dataset / f"{split}.npy"
        for method in tiny.experiment.methods
        for seed in tiny.experiment.seeds
        for dataset in (tiny.experiment.dataset, *tiny.experiment.transfer)
        for split in ("train", "test")
    ]
    assert len(files) == 32
    pixels = [file for file in files if "pixels" in file.parts]  # which no seed changes
    assert len({sha256(file) for file in files}) == len(files) - len(pixels) // 2


def check_report(reports: Path, scores: Path, tiny: Params) -> None:
    table = pd.read_csv(reports / "scores.csv")
    files = {
        "probe.json": ("digits", ["knn", "sklearn"]),
        "transfer_photo_tiles.json": ("photo_tiles", ["knn", "sklearn", "1_shot", "2_shot"]),
        "linear_digits_fast-sgd.json": ("digits", ["fast-sgd"]),
        "finetune_photo_tiles_50/scores.json": ("photo_tiles", ["finetune_50%"]),
    }
    columns = [(file, dataset, task) for file, (dataset, tasks) in files.items() for task in tasks]
    methods = ("pixels", "random", "byol", "rsa")
    assert len(table) == len(methods) * 2 * len(columns) - 2  # pixels cannot be fine-tuned
    text = (reports / "report.md").read_text()
    for dataset in ("digits", "photo_tiles"):
        mine = [(file, task) for file, of, task in columns if of == dataset]
        part = text.partition(f"\n| {dataset} (%, higher is better) |")[2].partition("\n\n")[0]
        lines = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in part.splitlines()[1:]}
        assert part.splitlines()[0].strip("| ").split(" | ") == [task for _, task in mine]
        for method in methods:
            for (file, task), cell in zip(mine, lines[method], strict=True):
                if method == "pixels" and file.startswith("finetune"):
                    assert cell == "–"
                    continue
                rows = table[(table["method"] == method) & (table["dataset"] == dataset) & (table["task"] == task)]
                assert sorted(rows["seed"]) == [0, 1]
                assert cell == f"{rows['value'].mean():.1f} ± {rows['value'].std():.1f} (2)"
                document = json.loads((scores / method / "s0" / file).read_text())
                assert document[task]["value"] == rows.query("seed == 0")["value"].item()
                assert rows.query("seed == 0")["file"].item() == f"scores/{method}/s0/{file}"
        assert len(lines["rsa − byol"]) == len(mine)
        for cell in lines["rsa − byol"]:
            assert re.fullmatch(r"(\*\*)?[+−]\d+\.\d( ± \d+\.\d)?(\*\*)?", cell)
    assert "nothing is missing or stale, every column has one protocol, no run collapsed" in text
    for heading in ("Differences", "Cost", "Semantic shift", "Published numbers"):
        assert f"\n## {heading}\n" in text
    page = (reports / "report.html").read_text()
    figures = set(re.findall(r"!\[.*?\]\((.*?)\)", text))
    assert figures == {f"figures/{file.name}" for file in (reports / "figures").iterdir()}
    assert {"figures/scores.svg", "figures/shift.svg", "figures/embedding_map.svg", "figures/confusion.svg"} <= figures
    for figure in figures:
        assert (reports / figure).stat().st_size > 1000, figure
        assert base64.b64encode((reports / figure).read_bytes()).decode() in page, figure
    pixels = table.query("method == 'pixels' and task == 'sklearn' and dataset == 'digits'")["value"]
    assert (pixels > 80).all()  # digits are easy: labels and images have kept together through the chain


def test_the_same_run_is_the_same_to_the_byte_and_another_seed_is_not(run: RunStage, tmp_path: Path):
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    for method in ("byol", "rsa"):
        for name, seed in (("first", 0), ("again", 0), ("other", 1)):
            run(
                "pretrain",
                method=method,
                seed=seed,
                shards="data/digits",
                start="weights/none",
                out=f"{method}_{name}",
            )
        for file in ("encoder.safetensors", "curve.csv", "views.png", "run.json"):
            assert sha256(tmp_path / f"{method}_first" / file) == sha256(tmp_path / f"{method}_again" / file), file
            assert sha256(tmp_path / f"{method}_first" / file) != sha256(tmp_path / f"{method}_other" / file), file


def test_a_run_on_hard_views_says_what_it_chooses(run: RunStage, tmp_path: Path):
    scoring = {"joint_views": True, "precision": "same", "predicted": None, "reuse": False}
    document = YAML(typ="safe").load(tmp_path / "params.yaml")
    hard = {"candidates": 3, "local_candidates": None, "max_combinations": 64, "scoring": scoring}
    document["methods"]["byol"]["hard_views"] = hard
    YAML(typ="safe").dump(document, tmp_path / "params.yaml")
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    run("pretrain", method="byol", seed=0, shards="data/digits", start="weights/none", out="byol")
    described = json.loads((tmp_path / "byol/run.json").read_text())
    chosen = described["hard_views"]
    assert len(chosen["rows"]) == pretrain.PICTURED
    assert {tuple(rows) for rows in chosen["rows"]} <= {(0, 1), (0, 2), (1, 2)}
    assert all(score >= mean for score, mean in zip(chosen["score"], chosen["score_all"], strict=True))
    with Image.open(tmp_path / "byol/views.png") as picture:
        assert picture.size == (pretrain.PICTURED * 16, len(described["views"]) * 16) == (128, 48)
    draw_choices(tmp_path / "byol/views.png", described["views"], chosen, tmp_path / "choices.svg")
    assert (tmp_path / "choices.svg").stat().st_size > 1000


def test_a_method_may_train_for_epochs_of_its_own(run: RunStage, tmp_path: Path):
    def pretrain_for(epochs: int | None, out: str) -> None:
        document = YAML(typ="safe").load(tmp_path / "params.yaml")
        document["methods"]["byol"]["epochs"] = epochs
        YAML(typ="safe").dump(document, tmp_path / "params.yaml")
        run("pretrain", method="byol", seed=0, shards="data/digits", start="weights/none", out=out)

    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    pretrain_for(None, "one")
    pretrain_for(2, "two")
    one, two = (json.loads((tmp_path / out / "run.json").read_text()) for out in ("one", "two"))
    assert two["steps"] == 2 * one["steps"]
    assert two["cost"]["flops"] == 2 * one["cost"]["flops"]
    assert pd.read_csv(tmp_path / "two/curve.csv")["lr"].iloc[-1] == 0  # its learning rate falls to the end
    edit(tmp_path / "params.yaml", "pretrain", warmup_epochs=1.5, epochs=2)
    with pytest.raises(SystemExit, match=r"warmup_epochs must be less than a method's epochs \(1\), got 1.5"):
        pretrain_for(1, "refused")


def test_local_views_are_enlarged_in_the_picture(tmp_path: Path):
    views = [torch.full((9, side, side, 3), side, dtype=torch.uint8) for side in (16, 16, 6)]
    pretrain.save_views(views, pretrain.PICTURED, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (pretrain.PICTURED * 16, 48)
        assert {picture.getpixel((127, y)) for y in (0, 31, 32, 47)} == {(16, 16, 16), (6, 6, 6)}


def test_every_method_of_a_seed_starts_from_the_random_encoder(run: RunStage, tmp_path: Path):
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    for method in ("random", "byol", "rsa"):
        run("pretrain", method=method, seed=3, shards="data/digits", start="weights/none", out=method)
    random = load_file(tmp_path / "random/encoder.safetensors")
    for method in ("byol", "rsa"):
        start = load_file(tmp_path / method / "snapshots" / "00000000.safetensors")
        assert start.keys() == random.keys()
        assert all(torch.equal(start[name], tensor) for name, tensor in random.items())
        described = json.loads((tmp_path / method / "run.json").read_text())
        for file in ("encoder", "snapshots/00000000"):
            said = description_of(tmp_path / method / f"{file}.safetensors")
            assert (said.method, said.seed, said.dataset) == (method, 3, "digits")
            assert (said.index_sha256, said.params_sha256) == (described["index_sha256"], described["params_sha256"])
    described = json.loads((tmp_path / "random/run.json").read_text())
    assert (described["steps"], described["images_seen"], described["start"]) == (0, 0, {"weights": "random"})


def test_no_parameter_of_training_changes_a_controls_file(run: RunStage, write_params: WriteParams):
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    files = []
    for out, changes in (("a", {}), ("b", {"pretrain.epochs": 7, "views.gray_prob": 0.5})):
        write_params(changes)
        run("pretrain", method="random", seed=3, shards="data/digits", start="weights/none", out=out)
        files.append(Path(out, "encoder.safetensors").read_bytes())
    assert files[0] == files[1]


def test_as_many_samples_are_measured_as_are_asked_for(run: RunStage, tmp_path: Path):
    """Whatever the size of a batch."""
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    run("pretrain", method="random", seed=3, shards="data/digits", start="weights/none", out="random")
    tables = {}
    edit(tmp_path / "params.yaml", "representation_metrics", samples=100)
    for batch_size in (100, 64):
        edit(tmp_path / "params.yaml", "evaluation", batch_size=batch_size)
        run("representation_metrics", snapshots="random/snapshots", shards="data/digits", seed=0, out="metrics.csv")
        tables[batch_size] = pd.read_csv("metrics.csv").drop(columns="origin.evaluation")
    pd.testing.assert_frame_equal(tables[100], tables[64], rtol=1e-4)


def test_a_warm_start_begins_with_the_encoder_and_is_written_down(run: RunStage, monkeypatch: pytest.MonkeyPatch):
    """The control stays random; another file than params.yaml's, which DVC would watch in vain, is refused."""
    run("shard", dataset="digits", raw="requirements.lock", out="data/digits")
    run("pretrain", method="byol", seed=0, shards="data/digits", start="weights/none", out="cold")
    shutil.copy("cold/encoder.safetensors", "weights/mine.safetensors")
    random = Path("params.yaml").read_text()
    warm = random.replace("{weights: random, file: weights/none}", "{weights: encoder, file: weights/mine.safetensors}")
    assert warm != random
    Path("params.yaml").write_text(warm)
    first: list[dict[str, Tensor]] = []
    train = training_run.train

    def spy(method, *arguments, **named):
        first.append({name: tensor.clone() for name, tensor in method.state_dict().items()})
        return train(method, *arguments, **named)

    monkeypatch.setattr(training_run, "train", spy)
    run("pretrain", method="byol", seed=1, shards="data/digits", start="weights/mine.safetensors", out="warm")
    for name, tensor in load_file("weights/mine.safetensors").items():
        assert torch.equal(first[0][f"backbone.{name}"], tensor)
        assert torch.equal(first[0][f"target_backbone.{name}"], tensor)
    told = json.loads(Path("warm/run.json").read_text())["start"]
    assert (told["weights"], told["file"]) == ("encoder", "weights/mine.safetensors")
    assert set(told["loaded"]) == set(load_file("weights/mine.safetensors"))
    assert json.loads(Path("cold/run.json").read_text())["start"] == {"weights": "random"}
    with pytest.raises(SystemExit, match=r"start must be pretrain.start.file \(weights/mine.safetensors\), got weights/none"):
        run("pretrain", method="byol", seed=1, shards="data/digits", start="weights/none", out="wrong")
    run("pretrain", method="random", seed=1, shards="data/digits", start="weights/mine.safetensors", out="control")
    control = load_file("control/encoder.safetensors")
    assert any(not torch.equal(control[name], tensor) for name, tensor in load_file("weights/mine.safetensors").items())


def test_raw_data_that_is_missing_is_named_with_its_key(run: RunStage):
    Path("requirements.lock").unlink()
    with pytest.raises(
        SystemExit, match=r"requirements.lock does not exist: put it there, or correct datasets.digits.raw in params"
    ):
        run("shard", dataset="digits", raw="requirements.lock", out="data/shards/digits")


def test_a_single_class_is_refused_before_pretraining(run: RunStage):
    settings = {"source": "folder", "raw": "raw", "train": ".", "test": None, "pretrain": None, "test_fraction": 0.5}
    settings |= dict.fromkeys(("train_samples", "test_samples", "classes"))
    edit(Path("params.yaml"), "datasets", mine=settings)
    Path("raw/eel").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (16, 16)).save(f"raw/eel/{number}.png")
    with pytest.raises(SystemExit, match="split 'train' of mine must have images of at least 2 classes, got 'eel' alone"):
        run("shard", dataset="mine", raw="raw", out="data/shards/mine")
