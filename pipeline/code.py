"""Stage `code`: fingerprints of the code of each stage, and the params that the experiment uses. Validates params.yaml first.

out/STAGE, out/pretrain/SECTION: a line `sha256  path` for each file (rsa.fingerprint); stages depend on theirs
out/experiment.yaml: what the report depends on
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.inputs import require_inputs
from rsa.fingerprint import ROOT, fingerprint
from rsa.params.document import Params, without_paths
from rsa.params.load import load
from rsa.params.sections import plain

NO_STAGES = ("code", "finished")  # which stages do not depend on
BY_METHOD = "pretrain"  # the stage that imports a method: it has a file for each section of `methods`


def write_code(p: Params, out: Path) -> None:
    """Write the fingerprints of all stages and the experiment into the folder `out`."""
    stages = sorted(file.stem for file in (ROOT / "pipeline").glob("*.py") if '__name__ == "__main__"' in file.read_text())
    for stage in stages:
        if stage == BY_METHOD:
            (out / stage).mkdir()
            for name in p.methods:
                method = p.key_of("methods", name, "method")
                (out / stage / name).write_text(fingerprint(f"pipeline.{stage}", f"rsa.methods.{method}"))
        elif stage not in NO_STAGES:
            (out / stage).write_text(fingerprint(f"pipeline.{stage}"))
    YAML(typ="safe", pure=True).dump(used(p), out / "experiment.yaml")


def used(p: Params) -> dict[str, Any]:
    """Return the document without `runtime`, tolerances, paths, and datasets, methods and protocols that are not used."""
    document: dict[str, Any] = plain(p)
    del document["runtime"]
    del document["shards"]["max_bad_samples"]
    datasets = {p.experiment.dataset, *p.experiment.transfer, *p.linear.datasets, *p.finetune.datasets, *p.robustness}
    document["datasets"] = {name: without_paths(section) for name, section in document["datasets"].items() if name in datasets}
    document["methods"] = {name: section for name, section in document["methods"].items() if name in p.experiment.methods}
    if not p.linear.datasets:
        document["linear"]["protocols"] = {}
    document["report"]["mean_per_class"] = [name for name in p.report.mean_per_class if name in datasets]
    return document


def main() -> None:
    """Replace the folder atomically, or leave it unchanged if params.yaml or a source is invalid."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.code", description="Write what code each stage runs.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="Only validate params.yaml, and look for the files that it names.")
    parser.add_argument("--out", type=Path, default=Path("code"), help="(default: %(default)s)")
    flags = parser.parse_args()
    new = flags.out.parent / f".{flags.out.name}.partial"
    try:
        p = load(flags.params)
        require_inputs(p, flags.params, unless_made=not flags.check)
        if flags.check:
            return
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        write_code(p, new)
    except (ValueError, OSError) as why:
        sys.exit(f"code: error: {why}")
    shutil.rmtree(flags.out, ignore_errors=True)
    os.replace(new, flags.out)


if __name__ == "__main__":
    main()
