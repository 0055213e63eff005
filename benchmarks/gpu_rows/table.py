"""The table of a run: every number as soon as it is there, and the ratios that are wanted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu_rows.setting import Measurement


class Ratio(NamedTuple):
    """A quotient of two measurements and what is wanted of it."""

    name: str
    above: str
    below: str
    goal: str


RATIOS = [
    Ratio("whole training / bare step", "whole training", "bare step, lars", "at least 0.95"),
    Ratio("bare step / hand-written", "bare step, sgd", "hand-written step", "at least 1"),
    Ratio("bare step, compiled / hand-written", "bare step, sgd, compiled", "hand-written step", "at least 1.15"),
    Ratio("input / bare step", "input alone, exact colour", "bare step, lars", "at least 1.5"),
    Ratio("predicted / peak memory", "peak memory, as the doctor predicts", "peak memory", "0.9 to 1.1"),
    Ratio("small step / by hand, CUDA graph", "small step", "small step, hand-written, CUDA graph", "at least 1"),
    Ratio("small step, compiled / by hand, CUDA graph", "small step, compiled", "small step, hand-written, CUDA graph", ""),
    Ratio("small step / hand-written", "small step", "small step, hand-written", ""),
    Ratio(
        "time of a step, strict on / off",
        "bf16 step, strict on, cudnn.benchmark off",
        "bf16 step, strict off, cudnn.benchmark off",
        "at most 1.15",
    ),
    *(
        Ratio(f"time of a {name} step, {form} / plain", f"{name} step, {form}", f"{name} step, plain", goal)
        for name in ("byol", "rsa")
        for form, goal in (("cheapest scoring", "at most 1.3"), ("published scoring", ""))
    ),
    *(
        Ratio(f"{name}, shallow, whole run / bare step", f"{name}, shallow, whole run", f"{name}, shallow, bare step", "")
        for name in ("byol", "rsa")
    ),
]


class Results:
    """The measurements so far, which are written to the files of `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.machine = folder, ""
        self.numbers: list[Measurement] = []
        self.notes: list[str] = []

    def add(self, found: Measurement) -> None:
        """Print and write a number."""
        self.numbers.append(found)
        print(f"{found.row:3} {found.what:60} {found.value:12.4g} {found.unit}", flush=True)
        self.write()

    def note(self, words: str) -> None:
        """Print and write what happened to a row."""
        self.notes.append(words)
        print(words, flush=True)
        self.write()

    def ratios(self) -> Iterator[tuple[Ratio, float]]:
        """Yield the ratios whose two numbers are there."""
        values = {found.what: found.value for found in self.numbers}
        for ratio in RATIOS:
            if ratio.above in values and values.get(ratio.below):
                yield ratio, values[ratio.above] / values[ratio.below]

    def write(self) -> None:
        """Write both files anew."""
        lines = [self.machine, "", "| row | what | value | unit |", "| --- | --- | ---: | --- |"]
        lines += [f"| {row} | {what} | {value:.4g} | {unit} |" for row, what, value, unit in self.numbers]
        lines += ["", "| ratio | value | wanted |", "| --- | ---: | --- |"]
        lines += [f"| {ratio.name} | {value:.3f} | {ratio.goal} |" for ratio, value in self.ratios()]
        lines += ["", *(f"- {words}" for words in self.notes)]
        (self.folder / "gpu.md").write_text("\n".join(lines) + "\n")
        everything = {
            "machine": self.machine,
            "numbers": [found._asdict() for found in self.numbers],
            "ratios": {ratio.name: value for ratio, value in self.ratios()},
            "notes": self.notes,
        }
        (self.folder / "gpu.json").write_text(json.dumps(everything, indent=1) + "\n")
