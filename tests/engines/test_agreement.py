"""From any state both engines run the same stages, leave the same bytes, and then have nothing to do."""

import random
from contextlib import suppress

import pytest

from tests.engines.agreement import agree, assert_ran, changes
from tests.engines.conftest import Base
from tests.engines.project import Project
from tests.engines.states import STATES


def marked(name: str) -> object:
    return pytest.param(name, marks=[] if STATES[name].fast else [pytest.mark.slow])


@pytest.mark.parametrize("name", [marked(name) for name in STATES])
def test_engines_agree(name: str, base: Base, built: Project) -> None:
    state = STATES[name]
    state.change(built)
    by_dvc, _ = agree(built, thorough=not state.fast)
    assert_ran(by_dvc, state.runs)
    if not state.runs:
        assert changes(base.built.tree(), by_dvc.tree()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_engines_agree_from_several_changes_at_once(seed: int, built: Project) -> None:
    names = random.Random(seed).sample([name for name, state in STATES.items() if not state.alone], 3)
    print("changes:", names)  # shown where the test fails
    for name in names:
        with suppress(FileNotFoundError):  # another one has taken away what this would change
            STATES[name].change(built)
    agree(built, thorough=True)
