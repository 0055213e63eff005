"""dvc.yaml names exactly the code that each stage imports, the params it reads, and the paths it is given."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from rsa.params.document import Params
from tests.engines.imports import PACKAGES, ROOT, closure
from tests.engines.toy import load_yaml, outputs, reads_of, signature_of

STAGES = {name: body.get("do", body) for name, body in load_yaml(ROOT / "dvc.yaml")["stages"].items()}


def module_of(body: dict[str, Any]) -> str:
    return re.match(r"python -m (\S+)", body["cmd"])[1]


def flags_of(body: dict[str, Any]) -> dict[str, str]:
    return dict(re.findall(r"--(\w+) (\S+)", body["cmd"]))


def is_code(path: str) -> bool:
    return path.partition("/")[0] in PACKAGES


def missing_or_extra(body: dict[str, Any], imported: set[str]) -> str:
    """What is wrong with the code among the deps of a stage, and the list to paste; empty where it is right."""
    named = [path for path in body["deps"] if is_code(path)]
    code = [path for path in named if path.endswith(".py")]
    if set(code) == imported and len(code) == len(imported):
        return ""
    others = [path for path in body["deps"] if path not in code]
    paste = "\n".join(f"      - {path}" for path in [*others, *sorted(imported)])
    missing, extra = sorted(imported - set(code)), sorted(set(code) - imported)
    return f"missing: {missing}; too many: {extra}; the deps are\n{paste}"


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_files_that_the_stage_imports(name: str) -> None:
    body = STAGES[name]
    wrong = missing_or_extra(body, closure(module_of(body)))
    assert not wrong, f"dvc.yaml, stage {name}: {wrong}"


def test_a_missing_and_a_superfluous_dep_are_found() -> None:
    body = {"deps": ["data/shards", "rsa/a.py", "rsa/b.py"]}
    assert missing_or_extra(body, {"rsa/a.py", "rsa/b.py"}) == ""
    wrong = missing_or_extra(body, {"rsa/a.py", "rsa/c.py"})
    assert wrong == (
        "missing: ['rsa/c.py']; too many: ['rsa/b.py']; the deps are\n      - data/shards\n      - rsa/a.py\n      - rsa/c.py"
    )
    assert missing_or_extra({"deps": ["rsa/a.py", "rsa/a.py"]}, {"rsa/a.py"})


@pytest.mark.parametrize("name", STAGES)
def test_deps_have_the_files_that_lie_beside_imported_code(name: str) -> None:
    """Templates and the like, which code reads by their names."""
    folders = {Path(file).parent for file in closure(module_of(STAGES[name]))}
    beside = {path for folder in folders for path in (ROOT / folder).glob("*.*") if path.is_file() and path.suffix != ".py"}
    assert {str(path.relative_to(ROOT)) for path in beside} == {
        path for path in STAGES[name]["deps"] if is_code(path) and not path.endswith(".py")
    }


@pytest.mark.parametrize("name", STAGES)
def test_params_are_what_the_stage_declares_to_read(name: str) -> None:
    body, known = STAGES[name], {"Params": Params, "tuple": tuple}
    reads = eval(compile(ast.Expression(reads_of(name)), name, "eval"), {"__builtins__": {}}, known)
    assert sorted(body["params"]) == sorted(section.format(**flags_of(body)) for section in reads)
    assert {section.partition(".")[0] for section in reads} <= set(Params.model_fields)


@pytest.mark.parametrize("name", STAGES)
def test_the_command_names_the_stage_and_its_flags(name: str) -> None:
    flags = [flag.arg for flag in signature_of(name).args[1:]]
    assert module_of(STAGES[name]) == f"pipeline.{name}"
    assert list(flags_of(STAGES[name])) == [flag for flag in flags if flag != "work"]  # a folder that the stage is given


@pytest.mark.parametrize("name", STAGES)
def test_paths_in_the_command_are_the_deps_and_outs(name: str) -> None:
    body, flags = STAGES[name], flags_of(STAGES[name])
    out = flags.pop("out")
    kinds = {flag.arg: ast.unparse(flag.annotation) for flag in signature_of(name).args}
    assert {path for flag, path in flags.items() if kinds[flag] == "Path"} == {dep for dep in body["deps"] if not is_code(dep)}
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in outputs(body)]
    assert paths
    assert [path for path in paths if path != out and not path.startswith(f"{out}/")] == []


@pytest.mark.parametrize("name", STAGES)
def test_meta_says_what_a_job_needs(name: str) -> None:
    """A cluster's scheduler is told; `nodes` is for what can use several."""
    meta = STAGES[name]["meta"]
    assert list(meta) == [*(["nodes"] if name == "pretrain" else []), "gpu", "threads", "mem_mb", "minutes"]
