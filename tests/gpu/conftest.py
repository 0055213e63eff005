"""Tests of what a GPU computes: `make test-gpu`.

REHEARSE_ON_CPU=1 runs their code on the CPU, which finds faults of the tests alone. They need neither the engines (DVC,
Snakemake) nor, but for views, stages and evaluations, DALI.
"""

import os
from collections.abc import Iterator

import pytest
import torch

from rsa.training.device import setup
from tests.gpu.device import GPU


def pytest_runtest_setup(item: pytest.Item) -> None:
    if GPU.type == "cpu" and "REHEARSE_ON_CPU" not in os.environ:
        pytest.skip("needs a GPU")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failure at once: time on a GPU may end before the summary."""
    if report.failed:
        print(f"\nFAILED {report.nodeid} ({report.when}): {report.longreprtext.strip().splitlines()[-1]}", flush=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have measured."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.line(f"{name}: {value}")


@pytest.fixture(autouse=True)
def _strict_and_exact() -> Iterator[None]:
    """Strict determinism, and float32, not TF32."""
    setup("auto", 1, 0)
    yield
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)
