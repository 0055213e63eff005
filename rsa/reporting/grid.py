"""The score files of an experiment, and the commands that make them."""

from rsa.params.document import Document


def score_files(p: Document) -> dict[str, str]:
    """List the score files that an encoder of this experiment has, below its folder, with the dataset of each."""
    e = p.experiment
    files = {"probe.json": e.dataset} | {f"transfer_{name}.json": name for name in e.transfer}
    files |= {f"linear_{name}_{protocol}.json": name for name in p.linear.datasets for protocol in p.linear.protocols}
    files |= {
        f"finetune_{name}_{percent}/scores.json": name for name in p.finetune.datasets for percent in p.finetune.label_percents
    }
    files |= {f"detect_{name}.json": name for name in p.detection}
    files |= {f"robustness_{name}.json": name for name in p.robustness}
    return files


def command(method: str, seed: object, file: str) -> str:
    """Return the command that makes a score file and its dependencies: DVC names a stage by the items of its matrix."""
    stage, *items = file.removesuffix("/scores.json").removesuffix(".json").split("_", 1)
    if stage in ("linear", "finetune"):
        items = items[0].rsplit("_", 1)  # a protocol and a percentage have no underscore, a dataset may
    return "dvc repro " + "-".join([f"{stage}@{method}", str(seed), *items])
