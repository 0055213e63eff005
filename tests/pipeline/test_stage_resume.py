"""A stage continues work that was left, takes over finished results and makes damaged ones again."""

import json
from urllib.parse import quote

import pytest

from tests.pipeline.project import Project, end

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
