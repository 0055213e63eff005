"""Results that were made from other params, encoders, features or images than those that are here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rsa.params.document import Document, Params, without_paths
from rsa.params.load import load
from rsa.params.sections import plain
from rsa.reporting.runs import read_runs
from rsa.reporting.scores import read_scores
from tests.conftest import WriteParams
from tests.reporting.experiment import as_reported

IMAGES = {"train": "d" * 12, "test": "e" * 12}


def left_out(made: Path, p: Document) -> dict[str, str]:
    """The reasons by file, of all files that the report leaves out."""
    missing = [*read_runs(made / "runs", made / "scores", p).missing, *read_scores(made / "scores", made / "runs", p).missing]
    assert len({item.file for item in missing}) == len(missing)
    assert all(item.command.startswith("dvc repro ") for item in missing)
    return {item.file: item.reason for item in missing}


def stale(*names: str) -> str:
    return f"is stale, as it was made from other {', '.join(names)}"


def results(method: str, seed: int) -> list[str]:
    """The files that are made from an encoder."""
    maps = ["embedding_map/about.json"] if seed == 0 else []
    names = [*maps, "representation.csv", "probe.json", "transfer_photo_tiles.json"]
    return [f"scores/{method}/s{seed}/{name}" for name in names]


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def write_shards(root: Path, p: Params, dataset: str, **splits: str) -> None:
    """A manifest and source.json as stage `shard` leaves them."""
    folder = root / "data/shards" / dataset
    write(folder / "manifest.json", {"splits": {name: {"index_sha256": digest} for name, digest in (IMAGES | splits).items()}})
    write(folder / "source.json", {"source": plain(p.datasets[dataset]), "shards": plain(p.shards)})


@pytest.fixture
def whole(made: Path, tiny: Params) -> Path:
    """Scores, runs, features and shards of which nothing is stale."""
    for dataset in ("digits", "photo_tiles"):
        write_shards(made, tiny, dataset)
    assert left_out(made, as_reported(tiny)) == {}
    return made


@pytest.mark.parametrize(
    ("changes", "methods"),
    [({"methods.rsa.optimizer.base_lr": 0.001}, ["rsa"]), ({"pretrain.epochs": 2}, ["byol", "rsa"])],
)
def test_params_of_pretraining_make_a_run_and_all_its_scores_stale(
    whole: Path, write_params: WriteParams, changes: dict[str, Any], methods: list[str]
):
    found = left_out(whole, as_reported(load(write_params(changes))))
    cells = [(method, seed) for method in methods for seed in (0, 1)]
    files = {f"runs/{method}/s{seed}/run.json" for method, seed in cells} | {file for cell in cells for file in results(*cell)}
    assert found == dict.fromkeys(files - {file for file in files if "representation" in file}, stale("params of pretraining"))


@pytest.mark.parametrize(
    ("changes", "section"),
    [({"evaluation.crop": 9, "evaluation.resize": 9}, "evaluation"), ({"probe.protocols.knn.k": [7]}, "probe")],
)
def test_params_of_an_evaluation_make_its_scores_stale(
    whole: Path, write_params: WriteParams, changes: dict[str, Any], section: str
):
    p = as_reported(load(write_params(changes)))
    with pytest.raises(ValueError, match=f"scores must have .*, but scores/.* {stale(section)}: `dvc repro` makes them"):
        read_scores(whole / "scores", whole / "runs", p)
    assert list(read_runs(whole / "runs", whole / "scores", p).manifests) == [("byol", 0), ("byol", 1), ("rsa", 0), ("rsa", 1)]


@pytest.mark.parametrize("change", [Path.unlink, lambda encoder: encoder.write_bytes(b"another")])
def test_scores_of_an_encoder_that_is_not_there_any_more_are_stale(whole: Path, tiny: Params, change: Callable[[Path], Any]):
    change(whole / "runs/rsa/s1/encoder.safetensors")
    change(whole / "runs/rsa/s1/snapshots/00000030.safetensors")
    p = as_reported(tiny)
    assert left_out(whole, p) == {file: stale("encoder") for file in results("rsa", 1)}
    table = read_scores(whole / "scores", whole / "runs", p).table
    assert set(table["seed"][table["method"] == "rsa"]) == {0}


def test_scores_of_features_that_are_not_there_any_more_are_stale(whole: Path, tiny: Params):
    probe = whole / "scores/byol/s0/probe.json"
    document = json.loads(probe.read_text())
    for score in document.values():
        score["origin"]["features"] = "f" * 12
    probe.write_text(json.dumps(document))
    for digest, reasons in (("f" * 12, {}), ("0" * 12, {"scores/byol/s0/probe.json": stale("features")})):
        write(whole / "features/byol/s0/digits/origin.json", {"features": digest})
        assert left_out(whole, as_reported(tiny)) == reasons


def test_scores_on_other_images_are_stale(whole: Path, tiny: Params):
    write_shards(whole, tiny, "photo_tiles", test="0" * 12)
    p = as_reported(tiny)
    transfer = {file for m in p.experiment.methods for s in (0, 1) for file in results(m, s) if "transfer" in file}
    assert left_out(whole, p) == dict.fromkeys(transfer, stale("test images"))
    write_shards(whole, tiny, "digits", train="0" * 12)
    found = left_out_runs(whole, p)
    assert found == {f"runs/{method}/s{seed}/run.json": stale("images of pretraining") for method in p.trained for seed in (0, 1)}


def left_out_runs(made: Path, p: Document) -> dict[str, str]:
    missing = read_runs(made / "runs", made / "scores", p).missing
    return {item.file: item.reason for item in missing if item.file.startswith("runs")}


def test_images_that_params_would_shard_otherwise_make_all_stale(whole: Path, write_params: WriteParams):
    p = as_reported(load(write_params({"datasets.photo_tiles.stride": 24})))
    assert {reason for file, reason in left_out(whole, p).items()} == {stale("datasets.photo_tiles")}
    moved = as_reported(load(write_params({"datasets.photo_tiles.raw": "elsewhere", "shards.max_bad_samples": 9})))
    assert left_out(whole, moved) == {}
    shuffled = as_reported(load(write_params({"shards.seed": 5})))
    assert left_out_runs(whole, shuffled)["runs/rsa/s0/run.json"] == stale("shards.seed")


def test_results_of_an_older_version_are_named(whole: Path, tiny: Params):
    older = "as if an older version made it"
    run, metrics = whole / "runs/byol/s0/run.json", whole / "scores/byol/s1/representation.csv"
    document = json.loads(run.read_text())
    del document["params_sha256"]
    run.write_text(json.dumps(document))
    table = pd.read_csv(metrics)
    table.drop(columns=table.filter(like="origin.")).to_csv(metrics, index=False)
    found = left_out(whole, as_reported(tiny))
    assert found == {
        "runs/byol/s0/run.json": f"is cut off or damaged: it has no params_sha256, {older}",
        "scores/byol/s1/representation.csv": f"is cut off or damaged: it has no columns origin.KEY, {older}",
    }


def test_a_datasets_place_is_no_part_of_what_is_made_of_it():
    assert without_paths({"source": "folder", "raw": "a", "train": "t", "cache_bytes": 1}) == {"source": "folder", "train": "t"}
