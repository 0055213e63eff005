"""Which files of this repository does a module import, directly and through others?  From the syntax tree, no import."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rsa", "pipeline", "engines")


def imported_names(source: str) -> set[str]:
    """Every dotted name that the source imports, anywhere in it; of `from a import b` both `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def file_of(name: str, root: Path = ROOT) -> Path | None:
    """The file of a module of this repository, or None."""
    if name.partition(".")[0] not in PACKAGES:
        return None
    path = root / name.replace(".", "/")
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def closure(module: str, root: Path = ROOT) -> set[str]:
    """Paths (relative to `root`) that running `python -m module` reads, packages' `__init__.py` included."""
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if parent := name.rpartition(".")[0]:
            todo.append(parent)
        file = file_of(name, root)
        if file is None or str(file.relative_to(root)) in found:
            continue
        found.add(str(file.relative_to(root)))
        todo += imported_names(file.read_text())
    return found
