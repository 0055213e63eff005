"""A campaign of faults drawn by a seed: `make test-faults` runs it, docs/reliability.md has its figures.

    pytest tests/faults -m faults -n 2                       a new seed, which is printed
    pytest tests/faults -m faults --seed 7 -k pretrain-3     the same faults again, at the same times

Every case draws its faults from the seed and its own name, so that it can be replayed alone.
"""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsa.file_locks import held
from tests.engines.conftest import base, built  # noqa: F401 - fixtures of test_engines.py
from tests.faults.stages import Pipeline, built_pipeline

Count = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="of the faults that are drawn (default: a new one)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("seed", None) is None:  # workers get what the first process has drawn
        config.option.seed = random.SystemRandom().randrange(10**6)


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults drawn with --seed {config.option.seed}"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Return the generator from which a case draws its faults."""
    return random.Random(f"{request.config.option.seed} {request.node.name}")


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Count a fault of some kind that has been dealt and survived."""
    return lambda kind: record_property("fault", kind)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [each for outcome in terminalreporter.stats.values() for each in outcome if isinstance(each, pytest.TestReport)]
    counts = Counter(
        kind for report in reports if report.when == "call" for name, kind in report.user_properties if name == "fault"
    )
    kills = sum(number for kind, number in counts.items() if re.search(r"SIG[A-Z]+ of ", kind))
    terminalreporter.section(f"{counts.total()} faults, {kills} of them kills, drawn with --seed {config.option.seed}")
    for kind, number in sorted(counts.items()):
        terminalreporter.write_line(f"{number:5} {kind}")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Any:
    """Return what `make` returns for an empty folder of that name, JSON; it is called once for all workers."""
    mine = factory.getbasetemp()
    folder = (mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / name
    folder.mkdir(exist_ok=True)
    answer = folder / "answer.json"
    with held(folder / "lock"):
        if not answer.exists():
            (folder / "made").mkdir()
            answer.write_text(json.dumps(make(folder / "made")))
    return json.loads(answer.read_text())


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Every stage of a minimal experiment, run to its end."""

    def make(folder: Path) -> tuple[str, dict[str, float]]:
        made = built_pipeline(folder / "project")
        return str(made.folder), made.seconds

    folder, seconds = once(tmp_path_factory, "undisturbed", make)
    return Pipeline(Path(folder), seconds)
