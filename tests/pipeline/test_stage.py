import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.stage import write_json
from tests.engines.imports import ROOT
from tests.pipeline.project import RESULT, Project, end


def test_a_finished_run_leaves_its_output_and_a_log(project: Project):
    assert end(project.start()) == (0, "")
    assert project.files() == {"out/result.txt": RESULT}
    log = json.loads((project.root / "logs/toy.json").read_text())
    assert (log["stage"], log["out"], log["method"], log["count"]) == ("toy", "out", "byol", "1")
    assert log["resumed"] is False


def test_an_output_whose_name_has_a_suffix_is_a_file(project: Project):
    assert end(project.start(out="out.json"))[0] == 0
    assert project.files() == {"out.json": RESULT}


def test_the_signature_is_the_command_line(project: Project):
    run = project.python("-m", "pipeline.toy", "--help")
    stdout, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    for part in (
        "python -m pipeline.toy",
        "Copy the source, in two parts.",
        "--params",
        "--method",
        "--count",
        "--source",
        "--out",
    ):
        assert part in stdout
    assert "--p " not in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --method, --count, --act, --source, --out"),
        (["--count", "three"], "argument --count: invalid int value: 'three'"),
        (["--counts", "3"], "the following arguments are required"),
    ],
)
def test_wrong_arguments_are_refused(project: Project, arguments: list[str], message: str):
    code, stderr = end(project.python("-m", "pipeline.toy", *arguments))
    assert code == 2
    assert message in stderr


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("refuse", "toy: error: count must be small, got more\n"),
        ("overflow", "toy: error: loss must be finite\n"),
        ("os", "toy: error: [Errno 2] No such file or directory: 'nowhere/file'\n"),
    ],
)
def test_a_users_error_is_one_line_without_a_traceback(project: Project, act: str, message: str):
    assert end(project.start(act)) == (1, message)


def test_faults_of_params_yaml_are_all_told_before_the_stage_starts(project: Project):
    project.edit("pretrain.epochs", 0)
    project.edit("pretrain.batch_size", "many")
    code, stderr = end(project.start())
    assert code == 1
    assert stderr.startswith("toy: error: params.yaml: pretrain.epochs must be")
    assert "params.yaml: pretrain.batch_size must be" in stderr
    assert "Traceback" not in stderr


def test_our_own_fault_keeps_its_traceback(project: Project):
    code, stderr = end(project.start("bug"))
    assert code == 1
    assert "Traceback" in stderr
    assert "RuntimeError: our own fault" in stderr
    assert project.files() == {}


@pytest.mark.parametrize("out", ["out", "out.json"])
@pytest.mark.parametrize("act", ["refuse", "bug"])
def test_a_failing_run_leaves_nothing(project: Project, act: str, out: str):
    assert end(project.start(act, out=out))[0] == 1
    assert project.files() == {}
    assert not (project.root / f".{out}.partial").exists()


@pytest.mark.parametrize("out", ["out", "out.json"])
def test_a_failing_run_leaves_the_old_output_as_it_was(project: Project, out: str):
    end(project.start(out=out))
    before = project.files()
    assert before
    assert end(project.start("refuse", out=out, count="2"))[0] == 1
    assert project.files() == before


def test_a_new_output_replaces_all_of_the_old_one(project: Project):
    end(project.start())
    (project.root / "out/junk.txt").write_text("of another version")
    assert end(project.start(count="2"))[0] == 0
    assert project.files() == {"out/result.txt": "a source 1 0.9 2"}


@pytest.mark.parametrize("out", ["out", "out.json"])
@pytest.mark.parametrize("old", [True, False])
def test_a_killed_run_leaves_nothing_that_passes_for_complete_and_the_next_cleans_up(project: Project, out: str, old: bool):
    if old:
        end(project.start(out=out))
    before = project.files()
    run = project.hold(out=out, count="2")
    run.kill()  # SIGKILL: nothing of ours can run any more
    run.communicate(timeout=60)
    left = project.files()
    assert {name: text for name, text in left.items() if ".partial" not in name} == before
    assert len(left) == len(before) + 1  # the half-written result, aside
    (project.root / f".{out}.partial" / "junk").mkdir()
    assert end(project.start(out=out, count="3")) == (0, "")
    assert list(project.files().values()) == ["a source 1 0.9 3"]
    assert not (project.root / f".{out}.partial").exists()


def test_of_two_runs_into_one_folder_the_second_is_refused(project: Project):
    first = project.hold()
    code, stderr = end(project.start(count="2"))
    assert code == 1
    assert stderr == "toy: error: another run is writing .out.partial: wait for it to end\n"
    assert end(first) == (0, "")
    assert project.files() == {"out/result.txt": RESULT}  # of the first, whole


def test_runs_into_different_folders_do_not_disturb_each_other(project: Project):
    first = project.hold()
    assert end(project.start(out="out.json", count="2")) == (0, "")
    assert end(first) == (0, "")
    assert project.files() == {"out/result.txt": RESULT, "out.json": "a source 1 0.9 2"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_ctrl_c_end_a_stage_with_one_line(project: Project, number: signal.Signals):
    run = project.hold()
    run.send_signal(number)
    assert end(run) == (75, f"toy: stopped by {number.name}: run again\n")
    assert project.files() == {}


def test_json_is_stable_and_has_no_nan(tmp_path: Path):
    write_json(tmp_path / "a.json", {"top1": 1.5, "sd": None})
    assert (tmp_path / "a.json").read_bytes() == b'{\n "top1": 1.5,\n "sd": null\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "b.json", {"top1": float("nan")})


def test_stages_that_need_no_torch_do_not_import_it():
    """Importing torch takes seconds; these stages run once per method, seed and dataset. `shard` decodes by DALI."""
    script = (
        "import importlib, sys\n"
        "for stage in ('probe', 'transfer', 'report', 'shard'):\n"
        "    importlib.import_module(f'pipeline.{stage}')\n"
        "    print(stage, sorted({'torch', 'timm', 'torchvision', 'nvidia.dali'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["probe []", "transfer []", "report []", "shard ['nvidia.dali']"]
