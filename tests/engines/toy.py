"""A toy of this project: the real dvc.yaml, Snakefile, engines and profile over stages that only digest what they read.

Each toy stage has the command line and the declared reads of the real one (both are taken from its module) and goes
through the real `pipeline.stage.run`; in place of its work it writes a digest of its params, names and inputs to every file
that dvc.yaml names as its output. So the wiring under test is that of the project, at milliseconds per stage.
"""

import ast
import io
import re
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.engines.imports import PACKAGES, ROOT

AS_THEY_ARE = (
    "Snakefile", ".dvcignore", ".gitignore", "profiles", "engines", "live/metrics/none.json", "weights/none",
    "pipeline/__init__.py", "pipeline/stage.py", "rsa/__init__.py", "rsa/file_locks.py", "rsa/params.py", "rsa/provenance.py",
)  # fmt: skip
CODE_OF_ALL = "rsa/params.py"  # every other file that toy stages share is left out of `deps`: DVC takes long to read them
STAGE = '''"""The toy of stage `{name}`."""

from pathlib import Path

from pipeline.digest import digest
from pipeline.stage import run
from rsa.params import Params

READS = {reads}
VERSION = 1


def {name}({signature}) -> None:
    """Digest what the stage reads."""
    digest("{name}", VERSION, locals(), {outs})


if __name__ == "__main__":
    run({name}, READS)
'''


def write_toy(folder: Path, seeds: int) -> None:
    """The toy project in a new `folder`."""
    for name in AS_THEY_ARE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    shutil.copy(Path(__file__).with_name("digest.py"), folder / "pipeline" / "digest.py")
    document = load_yaml(ROOT / "dvc.yaml")
    for name, stage in document["stages"].items():
        body = stage.get("do", stage)
        (folder / "pipeline" / f"{name}.py").write_text(toy_stage(name, body))
        code = {f"pipeline/{name}.py", CODE_OF_ALL}
        body["deps"] = [dep for dep in body["deps"] if dep in code or dep.partition("/")[0] not in PACKAGES]
    dump_yaml(document, folder / "dvc.yaml")
    write_params(folder, seeds)


def write_params(folder: Path, seeds: int) -> None:
    """The quickstart's params, with the first `seeds` seeds and a raw file for each dataset."""
    params = load_yaml(ROOT / "recipes" / "quickstart.yaml")
    del params["experiment"]["seeds"][seeds:]
    (folder / "raw").mkdir()
    for name, dataset in params["datasets"].items():
        dataset["raw"] = f"raw/{name}"
        (folder / "raw" / name).write_text(f"images of {name}\n")
    dump_yaml(params, folder / "params.yaml")


def toy_stage(name: str, body: dict[str, Any]) -> str:
    """The source of a toy stage with the command line, reads and outputs of the real one."""
    signature, reads = ast.unparse(signature_of(name)), ast.unparse(reads_of(name))
    return STAGE.format(name=name, reads=reads, signature=signature, outs=outs_below(body))


def signature_of(name: str) -> ast.arguments:
    """The parameters of a real stage, of which all but the first are its flags."""
    return next(node.args for node in module_of(name) if isinstance(node, ast.FunctionDef) and node.name == name)


def reads_of(name: str) -> ast.expr:
    """The expression for the sections of params.yaml that a real stage reads."""
    return next(
        node.value for node in module_of(name) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "READS"
    )


def module_of(name: str) -> list[ast.stmt]:
    return ast.parse((ROOT / "pipeline" / f"{name}.py").read_text()).body


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
