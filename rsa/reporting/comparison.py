"""Comparison of two versions of an experiment: score differences B - A over shared seeds, params, and unshared results.

Scores with different protocol settings, or on other images or crops, are not compared but listed. The params of a version are
those that its report was made with: params.yaml may have been edited since.
"""

import io
import json
import math
from typing import Any, NamedTuple

import pandas as pd
from ruamel.yaml import YAML

from rsa.params.sections import flat
from rsa.reporting.numbers import MISSING, interval, signed
from rsa.reporting.scores import Column, column_name
from rsa.reporting.statistics import Difference, holm, paired_difference

MEAN_PER_CLASS = "report.mean_per_class"  # a report's own params have only the datasets that it uses


class Side(NamedTuple):
    """One of the two versions: its name as given, the method it is restricted to, its params and scores."""

    name: str
    method: str | None
    params: dict[str, Any]  # by dotted name, as the report was made with them
    scores: pd.DataFrame
    edited: tuple[str, ...] = ()  # keys that have other values in params.yaml
    left_out: tuple[str, ...] = ()  # files that its report left out, and why


class ComparisonRow(NamedTuple):
    """The difference B - A for a method (or a pair of methods) in one column."""

    method: str
    column: str
    difference: Difference
    p: float  # of the t-test, after Holm's correction over all rows


class VersionComparison(NamedTuple):
    """All differences between the two versions."""

    rows: list[ComparisonRow]
    params: list[tuple[str, str, str]]  # key, in A, in B
    only: list[tuple[str, str]]  # results in one version only, such as `byol, digits knn, seeds 0, 1`, and its name
    refused: list[str]
    equal: list[str]  # columns with identical scores in every shared seed, which are not tested
    edited: list[tuple[str, str]]  # key of params.yaml that was edited after the report was made, and the version's name
    left_out: list[tuple[str, str]]  # file that the report left out and why, and the version's name


def side(given: str, params: str, experiment: str, scores: str, missing: str | None) -> Side:
    """Parse the side that the user named, `REVISION` or `REVISION:METHOD`.

    The others are the texts of its params.yaml, and of its report's experiment.yaml, scores.csv and missing.csv, if it has one.
    """
    name, _, method = given.partition(":")
    table = pd.read_csv(io.StringIO(scores))
    if "settings" not in table:
        raise ValueError(f"scores of {name} must say each one's settings, got columns {', '.join(table.columns)}: too old")
    if method:
        if method not in set(table["method"]):
            raise ValueError(
                f"{given} must name a method of {name}, got {method!r} (known: {', '.join(table['method'].unique())})"
            )
        table = table[table["method"] == method]
    ran = flat(YAML(typ="safe").load(experiment))
    return Side(given, method or None, ran, table, edited(flat(YAML(typ="safe").load(params)), ran), left_out(missing))


def left_out(missing: str | None) -> tuple[str, ...]:
    """List what a report left out, given its missing.csv."""
    if missing is None:
        return ("an older version made the report, which did not ask whether its scores were stale",)
    return tuple(f"{item.file} {item.reason}" for item in pd.read_csv(io.StringIO(missing)).itertuples())


def edited(params: dict[str, Any], ran: dict[str, Any]) -> tuple[str, ...]:
    """List the keys that a report was made with (`ran`) and that have other values in `params`."""

    def differs(key: str) -> bool:
        if key in params:
            return bool(params[key] != ran[key])
        return any(name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in params)  # else it is a default

    return tuple(key for key in ran if ran[key] != {} and key != MEAN_PER_CLASS and differs(key))


def image_params(params: dict[str, Any], dataset: str) -> dict[str, Any]:
    """Return the params that determine the test images of a dataset, their splits and crops."""
    section = f"datasets.{dataset}."
    if not any(key.startswith(section) for key in params):
        return {}  # a detection dataset, which is among the settings of its scores
    relevant = (section, "evaluation.", "shards.seed", "shards.resize")
    irrelevant = ("evaluation.batch_size", f"{section}train_samples", f"{section}pretrain")
    return {key: value for key, value in params.items() if key.startswith(relevant) and not key.startswith(irrelevant)}


class Cell(NamedTuple):
    """The scores of one method in one column."""

    settings: frozenset[str]
    seeds: dict[int, float]
    step: float  # of which scores are multiples, or 0


NOTHING = Cell(frozenset(), {}, 0.0)


def cells(table: pd.DataFrame, name: str | None) -> dict[tuple[str, Column], Cell]:
    """Map method and column to the scores; `name`, if given, replaces the names of methods."""
    by_key = {}
    for (method, *column), rows in table.groupby(["method", *Column._fields], sort=False):
        seeds = {int(seed): float(value) for seed, value in zip(rows["seed"], rows["value"], strict=True)}
        by_key[name or str(method), Column(*map(str, column))] = Cell(
            frozenset(rows["settings"]), seeds, float(rows["step"].max())
        )
    return by_key


def compare(a: Side, b: Side, confidence: float) -> VersionComparison:
    """Compute B - A for every shared method and column, and list the results that only one version has."""
    if (a.method is None) != (b.method is None):
        raise ValueError(f"A and B must both name a method or neither, got {a.name} and {b.name}")
    pair = f"{b.method} − {a.method}" if a.method and b.method and a.method != b.method else a.method
    cells_a, cells_b = cells(a.scores, pair), cells(b.scores, pair)
    keys = dict.fromkeys([*cells_a, *cells_b])
    columns = {column for _, column in keys}
    differences: dict[tuple[str, str], Difference] = {}
    refused, only, equal = [], [], []
    for method, column in keys:
        cell_a, cell_b = (found.get((method, column), NOTHING) for found in (cells_a, cells_b))
        name = column_name(column, columns)
        label = f"{method}, {name}"
        shared = cell_a.seeds.keys() & cell_b.seeds.keys()
        if why := _refusal(a, cell_a, b, cell_b, column.dataset):
            refused.append(f"{label}: {why}")
            continue
        for side, cell in ((a, cell_a), (b, cell_b)):
            if alone := sorted(cell.seeds.keys() - shared):
                only.append((f"{label}, seeds {', '.join(map(str, alone))}", side.name))
        if shared and all(cell_a.seeds[seed] == cell_b.seeds[seed] for seed in shared):
            equal.append(label)
        elif difference := paired_difference(cell_b.seeds, cell_a.seeds, confidence, max(cell_a.step, cell_b.step)):
            differences[method, name] = difference
    ps = holm([difference.p for difference in differences.values()])
    rows = [ComparisonRow(*names, difference, p) for (names, difference), p in zip(differences.items(), ps, strict=True)]
    params = [(key, formatted(a.params, key), formatted(b.params, key)) for key in changes(a.params, b.params)]
    edits, gaps = ([(text, side.name) for side in (a, b) for text in getattr(side, name)] for name in ("edited", "left_out"))
    return VersionComparison(rows, params, only, refused, equal, edits, gaps)


def _refusal(a: Side, cell_a: Cell, b: Side, cell_b: Cell, dataset: str) -> str | None:
    """Say why scores that both versions have cannot be compared."""
    if NOTHING in (cell_a, cell_b):
        return None
    if cell_a.settings != cell_b.settings:
        return f"measured with other settings in {a.name} than in {b.name}"
    changed = changes(image_params(a.params, dataset), image_params(b.params, dataset))
    return f"measured on other images or crops in {a.name} than in {b.name} ({', '.join(changed)})" if changed else None


def changes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """List the keys whose values differ, or that only one has."""
    return [key for key in dict.fromkeys([*a, *b]) if a.get(key, MISSING) != b.get(key, MISSING)]


def formatted(params: dict[str, Any], key: str) -> str:
    """Format a value as in YAML."""
    return json.dumps(params[key]) if key in params else MISSING


Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]  # title, head, rows
HEAD = ("method", "column", "n", "B − A", "interval", "p (Holm)", "detectable")


def line(row: ComparisonRow) -> tuple[str, ...]:
    """Format a row."""
    d = row.difference
    if d.n == 1:
        return row.method, row.column, "1", signed(d.mean, 2), MISSING, MISSING, MISSING
    p = "<0.001" if row.p < 0.001 else f"{row.p:.3f}"
    if d.tied:
        return row.method, row.column, str(d.n), signed(d.mean, 2), MISSING, p, MISSING
    return row.method, row.column, str(d.n), signed(d.mean, 2), interval(d.low, d.high), p, f"{d.detectable:.2f}"


def verdict(compared: VersionComparison, level: float) -> str:
    """Summarise the rows in one sentence."""
    better = sum(row.p <= level and row.difference.mean > 0 for row in compared.rows)
    worse = sum(row.p <= level and row.difference.mean < 0 for row in compared.rows)
    single = sum(math.isnan(row.p) for row in compared.rows)
    text = f"of {len(compared.rows)} comparisons, B is significantly better in {better} and worse in {worse}"
    return text + (f"; {single} have one seed, which allows no test" if single else "")


def markdown(a: Side, b: Side, compared: VersionComparison, confidence: float) -> str:
    """Render the comparison as Markdown."""
    blocks = [f"# {b.name} (B) against {a.name} (A)", f"{sentence(verdict(compared, 1 - confidence))}"]
    for title, head, rows in tables(a, b, compared, confidence):
        body = ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows]
        blocks += [
            f"## {title}",
            "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |", *body]),
        ]
    return "\n\n".join(blocks) + "\n"


def sentence(text: str) -> str:
    """Add a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def tables(a: Side, b: Side, compared: VersionComparison, confidence: float) -> list[Table]:
    """Return every table that has rows."""
    title = f"Scores: paired differences in points over shared seeds, {100 * confidence:g} % interval (Student's t)"
    every: list[Table] = [
        (title, HEAD, [line(row) for row in compared.rows]),
        ("Not comparable", ("different settings, images or crops",), [(text,) for text in compared.refused]),
        ("Equal to the last digit in every shared seed", ("scores",), [(text,) for text in compared.equal]),
        ("In one only", ("scores", "in"), list(compared.only)),
        ("Params", ("key", f"A: {a.name}", f"B: {b.name}"), list(compared.params)),
        ("Left out of the report as missing, damaged or stale", ("file", "in"), list(compared.left_out)),
        ("Edited in params.yaml but not run, so not compared", ("key", "in"), list(compared.edited)),
    ]
    return [table for table in every if table[2]]
