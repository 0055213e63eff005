"""Check that params, code and inputs do not change while a stage runs: DVC hashes them only after the command has ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsa import fingerprint
from rsa.data.files import sha256
from rsa.fingerprint import ROOT
from rsa.origin import Origin, of_sections
from rsa.params.sections import plain, read_sections

CODE = Path("code")  # output of stage `code`
UNWATCHED = "runtime"  # the section that affects no result
HASHED_BYTES = 2**28  # larger inputs are identified by size and modification time


class Watch:
    """The params, code and inputs of a stage at its start."""

    def __init__(self, stage: str, path: Path, wanted: Mapping[str, Any], inputs: list[Path]) -> None:
        self.path, self.wanted, self.inputs = path, wanted, inputs
        self.sections = read_sections(path, wanted)
        for each in inputs:
            if not each.exists():
                raise ValueError(f"{each} does not exist: {self._advice(each)}")
        self.modules, self.code_file = modules_of(stage, self.sections)
        if not self.code_file.is_file():
            raise ValueError(f"{self.code_file} does not exist: `dvc repro code` makes it")
        self.code = self.code_file.read_text()
        if changed := self._changed_code():
            raise ValueError(f"{self.code_file} is not of the code that is here ({changed}): run `dvc repro code` first")
        self.files = _listing(inputs)

    def _advice(self, missing: Path) -> str:
        """Return what to do about a missing input."""
        for dotted, section in self.sections.items():
            values = plain(section)
            if isinstance(values, dict) and values.get("raw") == str(missing):
                return f"put it there, or correct {dotted}.raw in {self.path}"
        return "`dvc repro` runs the stage that makes it, if one does; else put it there, or correct params.yaml"

    def identity(self, flags: dict[str, Any]) -> dict[str, Any]:
        """Return everything that determines the stage's result."""
        content = {str(file): _content(file) for file in map(Path, self.files)}
        code = {path: digest for digest, path in (line.split("  ", 1) for line in self.code.splitlines())}
        return {
            "params": self._watched(self.sections),
            "code": code,
            "inputs": content,
            "flags": {key: str(value) for key, value in flags.items()},
        }

    def origin(self) -> Origin:
        """Return the digests of the sections."""
        return of_sections(self._watched(self.sections))

    def check(self) -> None:
        """Raise ValueError if anything has changed since the start, or if the stage imported code that DVC does not track."""
        before, now = self._watched(self.sections), self._watched(read_sections(self.path, self.wanted))
        changed = [f"{self.path}: {dotted}" for dotted in before if now[dotted] != before[dotted]]
        changed += [text] if (text := self._changed_code()) else []
        files = _listing(self.inputs)
        changed += sorted(file for file in files.keys() | self.files.keys() if files.get(file) != self.files.get(file))
        if changed:
            raise ValueError(f"changed while the stage ran: {', '.join(changed)}; its result is not kept, run it again")
        known = {line.split("  ", 1)[1] for line in self.code.splitlines()}
        imported = {str(file.relative_to(ROOT)) for file in fingerprint.imported_files()}
        if unknown := sorted(imported - known):
            raise ValueError(
                f"the stage has imported {', '.join(unknown)}, which {self.code_file} does not list, so DVC would not notice "
                "a change there: import it by a plain `import` statement; its result is not kept"
            )

    def _changed_code(self) -> str:
        """List the files whose fingerprints differ from those that DVC tracks."""
        now = set(fingerprint.fingerprint(*self.modules).splitlines())
        return ", ".join(sorted({line.split("  ", 1)[1] for line in now ^ set(self.code.splitlines())}))

    @staticmethod
    def _watched(sections: dict[str, Any]) -> dict[str, Any]:
        return {dotted: plain(value) for dotted, value in sections.items() if dotted != UNWATCHED}


def modules_of(stage: str, sections: Mapping[str, Any]) -> tuple[list[str], Path]:
    """Return the root modules of a stage, including its method's, and the file with their fingerprint."""
    for dotted, section in sections.items():
        if dotted.startswith("methods."):
            name = dotted.removeprefix("methods.")
            method = section["method"] if isinstance(section, dict) else section.method
            return [f"pipeline.{stage}", f"rsa.methods.{method}"], CODE / stage / name
    return [f"pipeline.{stage}"], CODE / stage


def _listing(inputs: list[Path]) -> dict[str, tuple[int, int, int]]:
    files = [file for each in inputs for file in ([each] if each.is_file() else each.rglob("*")) if file.is_file()]
    return {str(file): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]}


def _content(file: Path) -> str:
    stat = file.stat()
    return sha256(file) if stat.st_size <= HASHED_BYTES else f"{stat.st_size} bytes of {stat.st_mtime_ns}"
