"""Where the project is, and what its files import, for tests that look at the source."""

from pathlib import Path

from rsa import fingerprint

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rsa", "pipeline", "engines")


def imported_names(file: Path) -> frozenset[str]:
    """Every dotted name that a file imports, anywhere in it; of `from a import b` both `a` and `a.b`."""
    return fingerprint.imported_names(file, file.read_text(), ROOT)


def closure(*modules: str) -> set[str]:
    """Paths, relative to the project, of the files that the modules can import."""
    return {str(file.relative_to(ROOT)) for file in fingerprint.closure(modules)}
