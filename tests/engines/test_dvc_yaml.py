"""dvc.yaml names the fingerprint of each stage's code, the params that it reads, and the paths that it is given."""

import importlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.stage import flags_of, sections_of
from pipeline.watch import UNWATCHED
from rsa.params.document import Params
from rsa.params.section import FilePath
from tests.engines.imports import ROOT
from tests.engines.toy import load_yaml, outputs

DOCUMENT = load_yaml(ROOT / "dvc.yaml")["stages"]
STAGES = {name: body.get("do", body) for name, body in DOCUMENT.items() if name != "code"}


def stage_of(name: str) -> Any:
    return getattr(importlib.import_module(f"pipeline.{name}"), name)


def given(body: dict[str, Any]) -> dict[str, str]:
    """The flags in a stage's command."""
    return dict(re.findall(r"""--(\w+)[ =]"?([^\s"]+)""", body["cmd"]))


def test_it_is_short_and_lists_no_code():
    text = (ROOT / "dvc.yaml").read_text()
    assert len(text.splitlines()) <= 260
    assert re.findall(r"^.*\.py$", text, re.MULTILINE) == []


def test_stage_code_reads_all_code_and_all_params_but_those_on_which_no_result_depends():
    assert DOCUMENT["code"]["deps"] == ["pipeline", "rsa"]
    assert set(DOCUMENT["code"]["params"]) == set(Params.model_fields) - {UNWATCHED}


def test_every_stage_is_in_it():
    files = [file for file in (ROOT / "pipeline").glob("*.py") if '__name__ == "__main__"' in file.read_text()]
    assert {file.stem for file in files} - {"finished"} == set(DOCUMENT)


@pytest.mark.parametrize("name", STAGES)
def test_the_first_dep_is_the_fingerprint_of_the_stages_code(name: str):
    by_method = any(dotted.startswith("methods.") for dotted, _ in sections_of(stage_of(name)).values())
    assert STAGES[name]["deps"][0] == (f"code/{name}/${{item.method}}" if by_method else f"code/{name}")


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_sections_in_the_stages_signature(name: str):
    body = STAGES[name]
    read = {dotted.format(**given(body)) for dotted, _ in sections_of(stage_of(name)).values()} - {UNWATCHED}
    assert sorted(body.get("params", [])) == sorted(read)


@pytest.mark.parametrize("name", [name for name in STAGES if {"encoder", "snapshots"} & set(given(STAGES[name]))])
def test_an_encoder_sees_pixels_normalised_as_in_pretraining(name: str):
    assert {"views", "views.normalize"} & set(STAGES[name]["params"])


@pytest.mark.parametrize("name", STAGES)
def test_the_command_names_the_stage_and_its_flags(name: str):
    assert STAGES[name]["cmd"].startswith(f"python -m pipeline.{name} ")
    assert set(given(STAGES[name])) == set(flags_of(stage_of(name)))


@pytest.mark.parametrize("name", STAGES)
def test_paths_in_the_command_are_the_deps_and_outs(name: str):
    body, flags = STAGES[name], given(STAGES[name])
    out = flags.pop("out")
    inputs = {path for flag, path in flags.items() if flags_of(stage_of(name))[flag] is Path}
    assert inputs == set(body["deps"][1:])
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in outputs(body)]
    assert paths
    assert [path for path in paths if path != out and not path.startswith(f"{out}/")] == []


ODD = ["my photos", "it's", "cats(1)", "cats&dogs", "a;b|c", "#1", "a*b?[c]", "{a,b}", "-raw", "x~", "猫", "a=b", "<in>out!"]


@pytest.mark.parametrize("name", [name for name in STAGES if re.search(r"\$\{[\w.]*(raw|file)\}", STAGES[name]["cmd"])])
def test_paths_of_params_reach_the_stage_whatever_they_are_called(name: str):
    """By a shell, as DVC runs the command; what even quotes do not keep is refused when params.yaml is loaded."""
    for path in ODD:
        assert TypeAdapter(FilePath).validate_python(path) == path
        command = re.sub(r"\$\{[\w.]*(raw|file)\}", path, STAGES[name]["cmd"])
        command = re.sub(r"\$\{[\w.]*\}", "x", command).removeprefix(f"python -m pipeline.{name}")
        printed = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True).stdout
        assert {f"--raw={path}", f"--start={path}"} & set(printed.splitlines()), path
    for path in ("~/none", "$HOME/x", 'a"b', "a`b", "a\\b", "a\nb"):
        with pytest.raises(ValidationError, match="a path must be written out"):
            TypeAdapter(FilePath).validate_python(path)


@pytest.mark.parametrize("name", DOCUMENT)
def test_meta_says_what_a_job_needs(name: str):
    """A cluster's scheduler is told; `nodes` and `processes` are for what can use several."""
    meta = STAGES[name]["meta"] if name in STAGES else DOCUMENT[name]["meta"]
    several = name == "pretrain"
    assert list(meta) == [*["nodes"] * several, "gpu", *["processes"] * several, "threads", "mem_mb", "minutes"]


def test_gpus_of_a_run_follow_params():
    assert STAGES["pretrain"]["meta"]["gpu"] == "${runtime.gpus}"
