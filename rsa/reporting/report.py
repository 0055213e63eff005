"""The Markdown report."""

import io
import math
from typing import Any

import jinja2
from ruamel.yaml import YAML

from rsa.params import Params
from rsa.reporting.results import Results
from rsa.reporting.statistics import Difference, Summary


def cell(summary: Summary) -> str:
    """`96.1 ± 0.4 (3)`."""
    if summary.n == 0:
        return "–"
    spread = "" if math.isnan(summary.sd) else f" ± {summary.sd:.1f}"
    return f"{summary.mean:.1f}{spread} ({summary.n})"


def difference(d: Difference) -> str:
    """`+2.1 [+0.6, +3.6]`, in bold where the interval excludes zero."""
    if d.n == 1:
        return f"{d.mean:+.1f}"
    text = f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]"
    return f"**{text}**" if d.shown else text


def render(p: Params, results: Results, runs: list[dict[str, Any]], unconverged: list[str], hard_views: bool, commit: str) -> str:
    """The report's text; `runs` are the run.json of every run, which must agree on versions and device."""
    for key in ("versions", "device", "parameters"):
        if any(run[key] != runs[0][key] for run in runs):
            different = {f"{run['method']} s{run['seed']}": run[key] for run in runs}
            raise ValueError(f"all runs must have the same {key} to be compared, got {different}")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("rsa.reporting", ""), undefined=jinja2.StrictUndefined)
    compared = [method for method in p.experiment.methods if method != p.experiment.baseline]
    document = io.StringIO()
    YAML(typ="safe", pure=True).dump(p.model_dump(mode="json"), document)
    return environment.get_template("report.md.jinja").render(
        p=p,
        e=p.experiment,
        results=results,
        compared=compared,
        sentences=[results.sentence(method, task) for method in compared for task in results.tasks],
        percent=f"{100 * p.report.confidence:g}",
        cell=cell,
        difference=difference,
        unconverged=unconverged,
        collapsed=[f"{run['method']} s{run['seed']}" for run in runs if run["collapsed"]],
        hard_views=hard_views,
        views={run["method"]: run["views"] for run in runs},
        commit=commit,
        parameters=f"{runs[0]['parameters']:,}",
        device=runs[0]["device"],
        versions=runs[0]["versions"],
        document=document.getvalue(),
    )
