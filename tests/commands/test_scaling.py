"""`rsa scaling` on the tiny experiment."""

import pytest
from click.testing import CliRunner, Result

from rsa.commands import commands
from tests.conftest import TINY


def scaling(*arguments: str) -> Result:
    given = ["--params", str(TINY), "--tflops", "1", "--images", "1000", "--image-bytes", "500.5"]
    return CliRunner().invoke(commands, ["scaling", *given, *arguments])


def test_a_column_is_printed_for_each_number_of_gpus() -> None:
    lines = scaling("--method", "rsa", "--gpus", "1", "--gpus", "8", "--candidates", "3").stdout.splitlines()
    assert lines[0] == "| rsa, 1,000 images | 1 GPUs | 8 GPUs |"
    assert lines[2].startswith("| operations over those of the plain method | 1.7")
    assert {line.count("|") for line in lines} == {4}
    slow = scaling("--method", "byol", "--gpus", "1", "--launch-ms", "70", "--exchange-us", "5").stdout
    assert "| seconds of a step | 0.07 |" in slow  # launches take longer than computing, and one GPU exchanges nothing


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--method", "rsb"), 1, "rsa scaling: error: --method must be a section of `methods`, got rsb (did you mean rsa?)\n"),
        (("--method", "pixels"), 1, "rsa scaling: error: --method must be a method that is trained, got the control pixels\n"),
        (("--images", "3"), 1, "rsa scaling: error: --images must be at least pretrain.batch_size (32), got 3\n"),
        (("--gpus", "0"), 2, "Invalid value for '--gpus'"),
        (("--tflops", "0"), 2, "Invalid value for '--tflops'"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments: tuple[str, ...], code: int, message: str) -> None:
    found = scaling(*arguments)
    assert found.exit_code == code
    assert message in found.stderr
