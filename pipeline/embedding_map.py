"""Stage `embedding_map`: two-dimensional maps of the frozen test features, and the confusion matrix of kNN.

out/: points.csv (a row per sample: PCA and t-SNE), confusion.csv (of kNN), about.json
"""

from pathlib import Path

from pipeline.stage import run, write_json
from rsa.evaluation.features import read_features
from rsa.evaluation.maps import confusion_of_knn, points
from rsa.origin import Origin
from rsa.params.probe import Probe
from rsa.params.runtime import Runtime


def embedding_map(probe: Probe, runtime: Runtime, seed: int, features: Path, out: Path, origin: Origin) -> None:
    """Write the maps; `seed` draws the mapped samples, if there are many, and the held-out part that selects k."""
    train, test, made_from = read_features(features)
    mapped = points(test, seed)
    protocol, confusion = confusion_of_knn(train, test, probe, runtime.threads.probe, seed)
    mapped.to_csv(out / "points.csv", index=False, float_format="%.5g", lineterminator="\n")
    confusion.to_csv(out / "confusion.csv", index=False, lineterminator="\n")
    about = {"samples": len(mapped), "test_samples": len(test.y), "protocol": protocol}
    write_json(out / "about.json", about | {"origin": made_from | origin})


if __name__ == "__main__":
    run(embedding_map)
