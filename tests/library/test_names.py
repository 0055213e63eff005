"""The names of the package: fixed, lazy, and the same for Python and for type checkers."""

import subprocess
import sys

import pytest

import rsa
from tests.engines.imports import ROOT, imported_names


def test_type_checkers_and_python_know_the_same_names() -> None:
    stub = {name for name in imported_names(ROOT / "rsa/__init__.pyi") if name.count(".") == 3}
    assert stub == {f"{home}.{name}" for name, home in rsa.HOMES.items()}
    assert set(rsa.HOMES) <= set(dir(rsa))
    for name in rsa.HOMES:
        assert getattr(rsa, name).__name__ == name


def test_importing_the_package_imports_no_library() -> None:
    code = "import sys, rsa; print([name for name in ('torch', 'timm', 'numpy', 'pydantic') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'rsa' has no attribute 'encoder'"):
        rsa.encoder  # noqa: B018
