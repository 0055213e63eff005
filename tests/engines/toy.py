"""A toy of this project: the real dvc.yaml, Snakefile, engines and profile over stages that only digest what they read.

Each toy stage has the command line and reads the sections of the real one (both are taken from its signature) and goes
through the real `pipeline.stage.run`; in place of its work it writes a digest of its params, names and inputs to every file
that dvc.yaml names as its output. Stage `code` is the real one. So the wiring under test is that of the project, at
milliseconds per stage.
"""

import ast
import io
import re
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.engines.imports import ROOT

AS_THEY_ARE = (
    "Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", "profiles", "engines", "weights/none", "pipeline/__init__.py",
    "pipeline/code.py", "pipeline/finished.py", "pipeline/inputs.py", "pipeline/portable.py", "pipeline/stage.py",
    "pipeline/watch.py", "pipeline/work.py", "rsa/__init__.py", "rsa/fingerprint.py", "rsa/file_locks.py",
    "rsa/fork_server.py", "rsa/hand_over.py", "rsa/origin.py", "rsa/params", "rsa/processes.py", "rsa/provenance.py",
    "rsa/data/__init__.py", "rsa/data/files.py", "rsa/reporting/__init__.py", "rsa/reporting/grid.py",
    "rsa/reporting/leftovers.py", "rsa/reporting/report.css", "rsa/scaling/__init__.py", "rsa/scaling/need.py",
)  # fmt: skip
DATASETS = {"translated_digits": "digits", "small_digits": "photo_tiles"}  # the quickstart's, as tests call them
OUTS = {"shard": ["first", "manifest.json"], "report": ["report.md", "metrics.json"]}  # below a folder that is an output
STAGE = '''"""The toy of stage `{name}`."""

from pathlib import Path
from typing import Annotated, Any

from pipeline.digest import digest
from pipeline.stage import run
from rsa.params.sections import At
{imports}
VERSION = 1


def {name}({signature}) -> None:
    """Digest what the stage reads."""
    digest("{name}", {version}, locals(), {outs})


if __name__ == "__main__":
    run({name}{prepare})
'''
OF_PRETRAIN = "import importlib\n\nfrom rsa.loop import LOOP\n"  # a method is imported by its name
VERSION_OF_PRETRAIN = "[VERSION, LOOP, importlib.import_module(f\"rsa.methods.{settings['method']}\").VERSION]"
OF_REPORT = """import rsa.reporting.grid
from rsa.params.document import Document
from rsa.params.sections import read_document
from rsa.reporting.leftovers import put_aside


def put_leftovers_aside(experiment: Path, scores: Path, runs: Path) -> None:
    put_aside(Document.model_validate(read_document(experiment)), scores, runs)

"""
LOAD = '''"""Stands for rsa.params.load, which imports every method and source."""

from rsa.params.document import Params
from rsa.params.sections import read_document


def load(path):
    return Params.model_validate(read_document(path))
'''


def write_toy(folder: Path, seeds: int) -> None:
    """The toy project in a new `folder`."""
    for name in AS_THEY_ARE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(Path(__file__).with_name("digest.py"), folder / "pipeline" / "digest.py")
    (folder / "rsa/params/load.py").write_text(LOAD)
    (folder / "rsa/loop.py").write_text('"""What every run imports."""\n\nLOOP = 1\n')
    (folder / "rsa/methods").mkdir()
    for name in ("__init__", "byol", "rsa", "random", "pixels"):
        (folder / f"rsa/methods/{name}.py").write_text(f'"""The toy of {name}."""\n\nVERSION = 1\n')
    for name, stage in load_yaml(ROOT / "dvc.yaml")["stages"].items():
        if name != "code":
            (folder / "pipeline" / f"{name}.py").write_text(toy_stage(name, stage.get("do", stage)))
    write_params(folder, seeds)


def write_params(folder: Path, seeds: int) -> None:
    """The quickstart's params, with the first `seeds` seeds and a raw file for each dataset."""
    text = (ROOT / "params.yaml").read_text()
    params = YAML().load(re.sub("|".join(DATASETS), lambda found: DATASETS[found[0]], text))
    del params["experiment"]["seeds"][seeds:]
    (folder / "raw").mkdir()
    for name, dataset in params["datasets"].items():
        dataset["raw"] = f"raw/{name}"
        (folder / "raw" / name).write_text(f"images of {name}\n")
    dump_yaml(params, folder / "params.yaml")


def toy_stage(name: str, body: dict[str, Any]) -> str:
    """The source of a toy stage with the flags, sections and outputs of the real one."""
    signature = ", ".join(parameter(argument) for argument in signature_of(name).args if argument.arg != "origin")
    imports, version = (OF_PRETRAIN, VERSION_OF_PRETRAIN) if name == "pretrain" else ("", "VERSION")
    prepare = ""
    if name == "report":
        imports, prepare = OF_REPORT, ", prepare=put_leftovers_aside"
    outs = OUTS.get(name) or outs_below(body)
    return STAGE.format(name=name, imports=imports, signature=signature, version=version, outs=outs, prepare=prepare)


def parameter(argument: ast.arg) -> str:
    """A parameter of a real stage, with plain values in place of a section's class."""
    kind = ast.unparse(argument.annotation)
    if kind in ("str", "int", "Path"):
        return f"{argument.arg}: {kind}"
    dotted = re.search(r"At\('([^']+)'", kind)
    return f'{argument.arg}: Annotated[Any, At("{dotted[1] if dotted else argument.arg}")]'


def signature_of(name: str) -> ast.arguments:
    """The parameters of a real stage."""
    tree = ast.parse((ROOT / "pipeline" / f"{name}.py").read_text())
    return next(node.args for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)


def outs_below(body: dict[str, Any]) -> list[str]:
    """Outputs relative to the folder that the command names by `--out`; none if that is itself the output."""
    out = re.search(r"--out (\S+)", body["cmd"])[1]
    named = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in outputs(body)]
    return [path.removeprefix(out).lstrip("/") for path in named if path != out]


def outputs(body: dict[str, Any]) -> list[Any]:
    """All that a stage of dvc.yaml writes."""
    return [entry for kind in ("outs", "metrics", "plots") for entry in body.get(kind, [])]


def load_yaml(path: Path) -> Any:
    return YAML().load(path)


def dump_yaml(document: Any, path: Path) -> None:
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 1000
    yaml.dump(document, text)
    path.write_text(text.getvalue())
