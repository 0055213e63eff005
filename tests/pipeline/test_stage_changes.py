"""Params, inputs and code must not change under a running stage."""

import os

import pytest

from tests.pipeline.project import RESULT, Project, end


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
