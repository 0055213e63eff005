import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.stage import write_json
from tests.engines.imports import ROOT
from tests.pipeline.project import Project, end

RESULT = "a source 1 0.9 1"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.stop()


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


def test_a_missing_input_is_named_with_what_to_do(project: Project):
    code, stderr = end(project.start(source="none.txt"))
    assert (code, stderr.partition(" exist: ")[0]) == (1, "toy: error: none.txt does not")
    assert "put it there, or correct params.yaml" in stderr


@pytest.mark.parametrize("method", ["simclr", "rsa"])  # the code knows none, or the file has none
def test_a_missing_section_is_named(project: Project, method: str):
    project.edit("experiment.methods", ["byol"])
    project.edit("methods", {"byol": project.values()["methods"]["byol"]})
    code, stderr = end(project.start(method=method))
    assert (code, stderr) == (1, f"toy: error: params.yaml: methods.{method} is missing\n")


@pytest.mark.parametrize(("key", "value"), [("pretrain.epochs", 2), ("methods.byol.ema_start", 0.5)])
def test_params_that_the_stage_reads_must_not_change_under_it(project: Project, key: str, value: object):
    run = project.hold()
    project.edit(key, value)
    code, stderr = end(run)
    assert code == 1
    section = "pretrain" if key.startswith("pretrain") else "methods.byol"
    assert stderr == (f"toy: error: changed while the stage ran: params.yaml: {section}; its result is not kept, run it again\n")
    assert project.files() == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("report.confidence", 0.9),
        ("methods.rsa.ema_start", 0.5),
        ("runtime.gpus", 7),
        ("pretrain.start", {"file": "weights/none", "weights": "random"}),
    ],
)
def test_params_of_other_sections_may_change(project: Project, key: str, value: object):
    run = project.hold()
    project.edit(key, value)
    assert end(run) == (0, "")
    assert project.files() == {"out/result.txt": RESULT}


def test_params_changed_and_changed_back_are_no_change(project: Project):
    run = project.hold()
    project.edit("pretrain.epochs", 2)
    project.edit("pretrain.epochs", 1)
    assert end(run) == (0, "")


def test_an_input_file_must_not_change_under_the_stage(project: Project):
    run = project.hold()
    (project.root / "source.txt").write_text("another one")
    code, stderr = end(run)
    assert code == 1
    assert "changed while the stage ran: source.txt; its result is not kept" in stderr
    assert project.files() == {}


@pytest.mark.parametrize("how", ["added", "removed", "replaced"])
def test_a_file_of_an_input_folder_must_not_change_under_the_stage(project: Project, how: str):
    folder = project.root / "inputs"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    toy = project.root / "pipeline/toy.py"
    toy.write_text(toy.read_text().replace("source.read_text()", "'a source'"))  # it need not be read to be watched
    run = project.hold(source="inputs")
    match how:
        case "added":
            (folder / "b.txt").write_text("b")
        case "removed":
            (folder / "a.txt").unlink()
        case "replaced":  # the same name, size and time: another file nevertheless
            (folder / "new").write_text("b")
            before = (folder / "a.txt").stat()
            os.utime(folder / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
            (folder / "new").replace(folder / "a.txt")
    code, stderr = end(run)
    assert code == 1
    assert f"inputs/{'b' if how == 'added' else 'a'}.txt; its result is not kept" in stderr
    assert project.files() == {}


@pytest.mark.parametrize("file", ["pipeline/toy.py", "rsa/params/pretrain.py", "rsa/methods/byol.py"])
def test_code_must_not_change_under_the_stage(project: Project, file: str):
    run = project.hold()
    with (project.root / file).open("a") as code:
        code.write("\nANOTHER = 1\n")
    status, stderr = end(run)
    assert status == 1
    assert f"changed while the stage ran: {file}; its result is not kept" in stderr
    assert project.files() == {}


def test_a_comment_a_docstring_and_another_methods_code_may_change_under_the_stage(project: Project):
    run = project.hold()
    for file, old, new in (
        ("pipeline/toy.py", '"""Copy the source', '"""Copies the source'),
        ("rsa/params/pretrain.py", "class Pretrain", "# a comment\nclass Pretrain"),
        ("rsa/methods/byol.py", '"""Code."""', '"""Other words."""'),
        ("rsa/methods/rsa.py", "VERSION = 1", "VERSION = 2"),
        ("rsa/hidden.py", "VERSION = 1", "VERSION = 2"),
    ):
        text = (project.root / file).read_text()
        assert old in text
        (project.root / file).write_text(text.replace(old, new, 1))
    assert end(run) == (0, "")
    assert project.files() == {"out/result.txt": RESULT}


def test_code_that_the_fingerprint_lacks_is_named_and_the_result_not_kept(project: Project):
    code, stderr = end(project.start("import"))
    assert code == 1
    assert stderr.startswith("toy: error: the stage has imported rsa/hidden.py, which code/toy/byol does not list")
    assert project.files() == {}


def test_a_fingerprint_of_other_code_or_none_is_refused(project: Project):
    flags = ("--method", "byol", "--count", "1", "--act", "nothing", "--source", "source.txt", "--out", "out")
    code, stderr = end(project.python("-m", "pipeline.toy", *flags))
    assert (code, stderr) == (1, "toy: error: code/toy/byol does not exist: `dvc repro code` makes it\n")
    project.write_code()
    (project.root / "rsa/methods/byol.py").write_text("VERSION = 2\n")
    code, stderr = end(project.python("-m", "pipeline.toy", *flags))
    assert code == 1
    assert "code/toy/byol is not of the code that is here (rsa/methods/byol.py): run `dvc repro code` first" in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_ctrl_c_end_a_stage_with_one_line(project: Project, number: signal.Signals):
    run = project.hold()
    run.send_signal(number)
    assert end(run) == (75, f"toy: stopped by {number.name}: run again\n")
    assert project.files() == {}


WORKING = """
def toy(
    pretrain: Pretrain,
    settings: Annotated[dict[str, Any], At("methods.{method}")],
    method: str,
    count: int,
    act: str,
    source: Path,
    out: Path,
    work: Path,
) -> None:
    before = len(list(work.glob("*.ckpt")))
    (work / f"{before}.ckpt").touch()
    if act == "refuse" or Path("refuse").exists():
        raise ValueError("later")
    (out / "result.txt").write_text(str(before))
"""


@pytest.fixture
def resuming(project: Project) -> Project:
    """The stage counts how often it was begun with the same values: it continues from its work folder."""
    toy = project.root / "pipeline/toy.py"
    head, _, tail = toy.read_text().partition("def toy")
    toy.write_text(head + WORKING.lstrip() + "\n\nif __name__" + tail.partition("if __name__")[2])
    return project


def begun(project: Project) -> list[int]:
    """How often the stage was begun in each of its work folders."""
    return sorted(len(list(folder.glob("*.ckpt"))) for folder in (project.root / ".work/toy/out").iterdir())


def test_a_run_continues_what_a_failed_one_with_the_same_values_left(resuming: Project):
    resuming.start("refuse").communicate(timeout=60)
    resuming.start("refuse").communicate(timeout=60)
    assert resuming.files() == {}
    assert begun(resuming) == [2]


OTHERS = {"params": "pretrain.epochs 1", "input": "source.txt", "flag": "count", "code": "pipeline/toy.py"}


@pytest.mark.parametrize("how", OTHERS)
def test_a_run_continues_nothing_that_other_values_left_and_says_so(resuming: Project, how: str):
    resuming.start("refuse").communicate(timeout=60)
    flags = {"count": "2"} if how == "flag" else {}
    match how:
        case "params":
            resuming.edit("pretrain.epochs", 2)
        case "input":
            (resuming.root / "source.txt").write_text("another")
        case "code":
            with (resuming.root / "pipeline/toy.py").open("a") as code:
                code.write("ANOTHER = 1\n")
    stdout, _ = resuming.start("refuse", **flags).communicate(timeout=60)
    assert begun(resuming) == [1, 1]
    assert "toy: starts from the beginning: the checkpoint in .work/toy/out/" in stdout
    assert f"was written with other {OTHERS[how]}\n" in stdout


@pytest.mark.parametrize("how", ["other params", "runtime", "comment", "touched input"])
def test_what_changes_no_result_does_not_lose_the_work(resuming: Project, how: str):
    resuming.start("refuse").communicate(timeout=60)
    match how:
        case "other params":
            resuming.edit("report.confidence", 0.9)
        case "runtime":
            resuming.edit("runtime.checkpoint.minutes", 2)
        case "comment":
            with (resuming.root / "pipeline/toy.py").open("a") as code:
                code.write("# another line\n")
        case "touched input":
            source = resuming.root / "source.txt"
            source.unlink()
            source.write_text("a source")
    resuming.start("refuse").communicate(timeout=60)
    assert begun(resuming) == [2]


def test_a_finished_result_whose_output_is_lost_is_taken_over_not_made_again(resuming: Project):
    """DVC deletes the output before it runs the stage again, which it does where it could not record the result."""
    assert end(resuming.start()) == (0, "")
    assert resuming.files() == {"out/result.txt": "0"}
    assert list((resuming.root / ".work/toy").rglob("*.ckpt")) == []
    inode = (resuming.root / "out/result.txt").stat().st_ino
    assert [file.stat().st_ino for file in (resuming.root / ".work/toy").rglob("result.txt")] == [inode]  # no second copy
    (resuming.root / "out/result.txt").unlink()
    stdout, _ = resuming.start("refuse").communicate(timeout=60)  # other flags: another identity
    assert "finished by an earlier run" not in stdout
    (finished,) = (resuming.root / ".work/toy").rglob("finished.json")
    (finished.parent / "part").mkdir()
    (finished.parent / "part/step_0000000001.ckpt").touch()  # left by a run that was killed as it finished
    stdout, _ = resuming.start().communicate(timeout=60)
    assert "toy: out was finished by an earlier run with the same params, code and inputs" in stdout
    assert resuming.files() == {"out/result.txt": "0"}
    assert list(finished.parent.rglob("*.ckpt")) == []


def test_a_finished_result_that_was_damaged_is_made_again(resuming: Project):
    assert end(resuming.start()) == (0, "")
    (resuming.root / "out/result.txt").write_text("damaged")  # and its other name with it
    stdout, _ = resuming.start().communicate(timeout=60)
    assert "finished by an earlier run" not in stdout
    assert resuming.files() == {"out/result.txt": "0"}


@pytest.mark.parametrize(("out", "source"), [("out", "out/result.txt"), ("scores/out", "scores")])
def test_who_reads_a_result_ends_its_second_name(resuming: Project, out: str, source: str):
    assert end(resuming.start(out=out)) == (0, "")
    assert list((resuming.root / ".work/toy" / quote(out, safe="")).rglob("result.txt"))
    resuming.start(out="next", source=source).communicate(timeout=60)
    assert list((resuming.root / ".work/toy" / quote(out, safe="")).rglob("result.txt")) == []


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


def test_the_log_says_whether_a_run_found_a_checkpoint(resuming: Project):
    """It is said there and not in the output, which is the same either way."""
    resumed = []
    for epochs, fails in ((1, False), (2, True)):
        resuming.edit("pretrain.epochs", epochs)
        if fails:
            (resuming.root / "refuse").touch()
            resuming.start().communicate(timeout=60)
            (resuming.root / "refuse").unlink()
        resuming.start().communicate(timeout=60)
        resumed.append(json.loads((resuming.root / "logs/toy.json").read_text())["resumed"])
    assert resumed == [False, True]
