"""The command `rsa`: help for everything, errors in one line, and an answer before the library is imported."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from rsa.commands import commands
from tests.engines.imports import ROOT

NAMES = sorted(commands.commands)
SLOW = {"torch", "timm", "torchvision", "nvidia.dali", "pandas", "numpy", "pydantic", "dvc", "rich"}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments)


@pytest.mark.parametrize("name", NAMES)
def test_a_subcommand_says_what_it_does_and_gives_an_example(name: str) -> None:
    command = commands.commands[name]
    assert command.help is not None
    sentence = command.help.partition("\n")[0]
    assert sentence.endswith(".")
    assert sentence in call("--help").output, "too long for the list"
    assert f"rsa {name}" in command.help.partition("Example: ")[2]


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_help_text_of_whole_sentences(name: str) -> None:
    parameters = commands.commands[name].params
    assert all(isinstance(parameter, click.Option | click.Argument) for parameter in parameters)
    helps = {parameter.name: parameter.help or "" for parameter in parameters}  # type: ignore[attr-defined]
    assert {key: text for key, text in helps.items() if not (text[:1].isupper() and text.endswith("."))} == {}


@pytest.mark.parametrize("arguments", [(), *((name,) for name in NAMES)])
def test_help_is_there_before_the_library_is_imported(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom rsa.commands import commands\n"
        "try:\n    commands([*sys.argv[1:], '--help'])\n"
        f"finally:\n    print(sorted({SLOW} & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith("Usage: ")


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "rsa", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: rsa [OPTIONS] COMMAND [ARGS]...")
    assert all(f"\n  {name} " in done.stdout for name in NAMES)


def test_an_unknown_subcommand_names_the_nearest() -> None:
    found = call("verfy")
    assert found.exit_code == 2
    assert "No such command 'verfy'. Did you mean 'verify'?" in found.stderr


def test_an_unknown_option_names_the_nearest() -> None:
    assert "Did you mean '--params'?" in call("show", "--param").stderr


READERS = {  # of params.yaml, with what they ask for besides
    "doctor": (),
    "export": ("--encoder", "encoder.safetensors", "--out", "exported"),
    "scaling": ("--tflops", "1", "--images", "1000", "--image-bytes", "1"),
    "show": (),
}


@pytest.mark.parametrize("name", READERS)
def test_a_users_error_is_one_line_and_exits_with_1(name: str, tmp_path: Path) -> None:
    found = call(name, "--params", str(tmp_path / "none.yaml"), *READERS[name])
    expected = f"rsa {name}: error: {tmp_path}/none.yaml does not exist: write one by `python -m rsa recipe NAME`\n"
    assert (found.exit_code, found.stdout, found.stderr) == (1, "", expected)


def test_every_command_that_reads_params_is_told_where_they_are() -> None:
    asked = {name for name, command in commands.commands.items() if "params_file" in {each.name for each in command.params}}
    assert asked == READERS.keys()


@pytest.mark.parametrize("error", [ValueError("k must be odd, got 2"), PermissionError(13, "Permission denied", "a.csv")])
def test_what_counts_as_a_users_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(commands.commands["show"], "callback", lambda **given: fail())
    found = call("show")
    assert (found.exit_code, found.stdout, found.stderr) == (1, "", f"rsa show: error: {error}\n")


def test_our_own_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**given: object) -> None:
        raise KeyError("our own fault")

    monkeypatch.setattr(commands.commands["show"], "callback", fail)
    assert isinstance(call("show").exception, KeyError)


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    script = "from rsa.commands import commands\ncommands.commands['show'].callback = lambda **given: print('x', flush=True)\n"
    command = [sys.executable, "-c", f"{script}commands(['show'])"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""


def test_bash_completes_subcommands_flags_and_recipes() -> None:
    def completed(words: str, number: int) -> list[str]:
        asked = {"_RSA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        done = subprocess.run(
            [sys.executable, "-m", "rsa"], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, **asked}
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert completed("rsa ver", 1) == ["verify"]
    assert completed("rsa export --e", 2) == ["--encoder"]
    assert completed("rsa recipe imagenet_hard_s", 2) == ["imagenet_hard_simclr", "imagenet_hard_simsiam"]
