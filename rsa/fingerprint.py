"""Fingerprints of code: every file that a module can import, hashed without comments, docstrings and blank lines.

Neither engine follows Python imports. So stage `code` writes, for each stage, a line `sha256  path` for each file that the
stage can import, and DVC watches what it has written. Comments, docstrings and blank lines are cut out of a source by the
positions of tokens and syntax nodes, which are the same in every version of Python.
"""

import ast
import hashlib
import io
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rsa", "pipeline")
NO_RESOURCE = (".py", ".pyi", ".typed")  # code, and what only type checkers read
Span = tuple[tuple[int, int], tuple[int, int]]  # (line, column) of its start and its end; lines from 1, columns in characters


def fingerprint(*modules: str, root: Path = ROOT) -> str:
    """Return a line `sha256  path` for each file that `modules` can import, and for each resource beside those files."""
    files = closure(modules, root)
    folders = {file.parent for file in files}
    files |= {file for folder in folders for file in folder.glob("*.*") if file.suffix not in NO_RESOURCE and file.is_file()}
    return "".join(f"{digest(file)}  {file.relative_to(root)}\n" for file in sorted(files))


def digest(file: Path) -> str:
    """Return the sha256 of a source without comments, docstrings and blank lines, or of any other file as it is."""
    content = normalized(file, file.read_text(encoding="utf-8")).encode() if file.suffix == ".py" else file.read_bytes()
    return hashlib.sha256(content).hexdigest()


@cache  # by its text: a file that changes is read anew
def normalized(file: Path, source: str) -> str:
    """Return a source without comments, docstrings, blank lines and trailing spaces. Raises ValueError if it does not parse."""
    lines = source.split("\n")
    tree = _parsed(file, source)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    spans = [*_docstrings(tree, lines), *((t.start, t.end) for t in tokens if t.type == tokenize.COMMENT)]
    inside = _lines_that_end_inside_strings(tokens, spans)
    for (first, start), (last, end) in sorted(spans, reverse=True):
        lines[first - 1] = lines[first - 1][:start] + (lines[last - 1][end:] if last == first else "")
        for number in range(first + 1, last + 1):
            lines[number - 1] = lines[number - 1][end:] if number == last else ""
    kept = (line if number in inside else line.rstrip() for number, line in enumerate(lines, 1))
    return "\n".join(line for number, line in enumerate(kept, 1) if line or number in inside)


def _docstrings(tree: ast.AST, lines: list[str]) -> Iterator[Span]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                assert first.end_lineno is not None
                assert first.end_col_offset is not None
                start = (first.lineno, _characters(lines[first.lineno - 1], first.col_offset))
                yield start, (first.end_lineno, _characters(lines[first.end_lineno - 1], first.end_col_offset))


def _characters(line: str, offset: int) -> int:
    """Convert a column in bytes to one in characters."""
    return len(line.encode()[:offset].decode())


def _lines_that_end_inside_strings(tokens: list[tokenize.TokenInfo], docstrings: list[Span]) -> set[int]:
    """Return the numbers of lines that end inside a string, where trailing spaces and empty lines have a meaning."""
    lines: set[int] = set()
    opened: list[int] = []  # lines where f-strings begin, which are several tokens from Python 3.12 on
    cut = {start for start, _ in docstrings}
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if name == "STRING" and token.start not in cut:
            lines.update(range(token.start[0], token.end[0]))
        elif name.endswith("STRING_START"):
            opened.append(token.start[0])
        elif name.endswith("STRING_END"):
            lines.update(range(opened.pop(), token.end[0]))
    return lines


def closure(modules: tuple[str, ...], root: Path = ROOT) -> set[Path]:
    """Return the files of this project that `modules` import, at once or later. Raises ValueError for a module without a file."""
    files: set[Path] = set()
    for module in modules:
        if _file_of(module, root) is None:
            raise ValueError(f"{module} must be a module of this project, got a name without a file")
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name.partition(".")[0] not in PACKAGES:
            continue
        if parent := name.rpartition(".")[0]:
            todo.append(parent)
        file = _file_of(name, root)
        if file is not None and file not in files:
            files.add(file)
            todo += imported_names(file, file.read_text(encoding="utf-8"), root)
    return files


def _file_of(module: str, root: Path) -> Path | None:
    base = root / module.replace(".", "/")
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


@cache
def imported_names(file: Path, source: str, root: Path = ROOT) -> frozenset[str]:
    """Return every name that a file imports, anywhere in it: for `from a import b` both `a` and `a.b`, which may be a module."""
    names: set[str] = set()
    for node in ast.walk(_parsed(file, source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, file, root)
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def _absolute(node: ast.ImportFrom, file: Path, root: Path) -> str:
    if not node.level:
        return node.module or ""
    package = file.relative_to(root).parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _parsed(file: Path, source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as why:
        raise ValueError(f"{file}, line {why.lineno}: {why.msg}") from None


def imported_files(root: Path = ROOT) -> set[Path]:
    """Return the files of this project that this process has imported."""
    ours = [module for name, module in [*sys.modules.items()] if name.partition(".")[0] in (*PACKAGES, "__main__")]
    files = {Path(file).resolve() for module in ours if (file := getattr(module, "__file__", None))}
    return {file for file in files if file.is_relative_to(root) and file.relative_to(root).parts[0] in PACKAGES}


def sha256(lines: str) -> str:
    """Return the digest of a fingerprint."""
    return hashlib.sha256(lines.encode()).hexdigest()
