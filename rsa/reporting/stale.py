"""Detection of stale results: those made from other params, another encoder or other images than the ones that are here.

A result's origin (rsa.origin) is compared with params, encoder, features and shards. Features and shards that are not here are
not compared, because results may have been copied without them; the encoder must be here.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from rsa.origin import Origin, of_file, of_values
from rsa.params.document import Document, without_paths
from rsa.params.sections import plain, value_at

ENCODER = "encoder.safetensors"
NAMES = {  # keys of an origin that are no sections of params.yaml
    "encoder": "encoder",
    "pretraining": "params of pretraining",
    "pretraining_images": "images of pretraining",
    "features": "features",
    "train_images": "training images",
    "test_images": "test images",
}


class StaleError(ValueError):
    """A result was made from something else than what is here; the message says from what."""


class Current:
    """The params, encoders and images that are here, from which an experiment's results are made if nothing has changed since."""

    def __init__(self, p: Document, runs: Path) -> None:
        self.params, self.root = plain(p), runs.parent
        self.digest = cache(of_file)

    def require_run(self, run: dict[str, Any], method: str) -> None:
        """Raise StaleError if a run of `method`, given by its run.json, would be another one today."""
        origin = {"pretraining": run["params_sha256"], "pretraining_images": run["index_sha256"]}
        self._require(origin, self._pretraining(method), self.params["experiment"]["dataset"])

    def require(self, origin: Origin, encoder: Path, method: str, seed: int, dataset: str) -> None:
        """Raise StaleError if a result of `encoder` on `dataset` would be another one today."""
        features = self.root / "features" / method / f"s{seed}" / dataset / "origin.json"
        here = self._pretraining(method) | {
            "encoder": self.digest(encoder) if encoder.is_file() else "none",
            "features": _read(features).get("features"),
            "train_images": self._images(dataset, "train"),
            "test_images": self._images(dataset, "test"),
        }
        self._require(origin, here, dataset)

    def _require(self, origin: Origin, here: dict[str, str | None], dataset: str) -> None:
        changed = [NAMES[key] for key, digest in origin.items() if key in NAMES and here[key] not in (None, digest)]
        changed += [key for key, digest in origin.items() if key not in NAMES and self._section(key) != digest]
        if changed := [*changed, *self._sharding(dataset)]:
            raise StaleError(f"is stale, as it was made from other {', '.join(changed)}")

    def _section(self, dotted: str) -> str | None:
        try:
            return of_values(value_at(self.params, dotted))
        except KeyError:
            return None

    def _pretraining(self, method: str) -> dict[str, str | None]:
        sections = {key: self.params[key] for key in ("views", "model", "pretrain")}
        sections[f"methods.{method}"] = self.params["methods"][method]
        dataset = self.params["experiment"]["dataset"]
        images = self._images(dataset, "pretrain") or self._images(dataset, "train")
        return {"pretraining": of_values(sections), "pretraining_images": images}

    def _images(self, dataset: str, split: str) -> str | None:
        """Return the digest of the index, or of a detector's annotations, of a split that is here."""
        if (annotations := self.root / "data/detection" / dataset / f"{split}.json").is_file():
            return self.digest(annotations)
        splits: dict[str, dict[str, str]] = _read(self.root / "data/shards" / dataset / "manifest.json").get("splits", {})
        return splits[split]["index_sha256"] if split in splits else None

    def _sharding(self, dataset: str) -> list[str]:
        """List the sections of params.yaml that have changed since the images of a dataset were sharded."""
        source = _read(self.root / "data/shards" / dataset / "source.json")
        if not source or dataset not in self.params["datasets"]:
            return []
        section, shards = without_paths(source.get("source", {})), source.get("shards", {})
        changed = [f"datasets.{dataset}"] if section != self.params["datasets"][dataset] else []
        return changed + [f"shards.{key}" for key, value in self.params["shards"].items() if shards.get(key) != value]


def _read(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file, which is empty if there is none."""
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
