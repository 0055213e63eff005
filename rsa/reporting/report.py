"""The Markdown report."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any, Protocol

import jinja2
from ruamel.yaml import YAML

from rsa.params.document import Document
from rsa.reporting import controls
from rsa.reporting.contrasts import contrasts
from rsa.reporting.contrasts import sentence as contrast_sentence
from rsa.reporting.cost import costs, equal_compute
from rsa.reporting.grid import command
from rsa.reporting.numbers import MISSING, counted, interval, number, signed
from rsa.reporting.provenance import run_provenance, runtime_differences
from rsa.reporting.reference import beside_ours, dataset_name, described
from rsa.reporting.results import Comparison, Results
from rsa.reporting.runs import Runs, differences
from rsa.reporting.scores import Scores
from rsa.reporting.semantic_shift import METRICS, shift_sentences, snapshots
from rsa.reporting.statistics import POWER, Summary, bootstrap_coverage, smallest_p

PLACED = ("scores", "cost", "representation")  # sections of figures that the template places itself; the others follow
NEAREST = 12  # number of published results to list although they are not comparable


def cell(summary: Summary) -> str:
    """Format a summary as `96.1 ± 0.4 (3)`."""
    if not summary.n:
        return MISSING
    spread = "" if math.isnan(summary.sd) else f" ± {summary.sd:.1f}"
    return f"{summary.mean:.1f}{spread} ({summary.n})"


def difference(comparison: Comparison) -> str:
    """Format a difference as `+2.1 ± 1.5`, with the half-width of its interval, in bold if it is significant."""
    d = comparison.difference
    if d is None:
        return MISSING
    text = signed(d.mean, 1) if d.n == 1 or d.tied else f"{signed(d.mean, 1)} ± {d.half:.1f}"
    return f"**{text}**" if comparison.significant else text


class AnyFigure(Protocol):
    """A file in figures/ with the section of the report that it belongs to, its alternative text and its caption."""

    @property
    def section(self) -> str:
        """The section of the report, such as `training`."""

    @property
    def file(self) -> str:
        """The file name."""

    @property
    def alt(self) -> str:
        """The alternative text: the content of the figure in a few words."""

    @property
    def caption(self) -> str:
        """The caption; may be empty."""


def render(p: Document, scores: Scores, results: Results, runs: Runs, figures: Sequence[AnyFigure], commit: str) -> str:
    """Render the report."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rsa.reporting", ""), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    settings = {task: scores.settings[key] for task, key in scores.of_columns("settings").items()}
    same, not_comparable = beside_ours(p, results, settings)
    shift = snapshots(runs.metrics, runs.curves)
    cost = costs(runs.manifests, [p.experiment.baseline, *results.compared])
    missing = [*runs.missing, *scores.missing]
    counts = sorted({c.difference.n for c in results.comparisons() if c.difference})
    text = environment.get_template("report.md.jinja").render(
        p=p,
        e=p.experiment,
        results=results,
        scores=scores,
        comparisons=results.comparisons(),
        contrasts=contrasts(p.report.contrasts, results),
        contrast_sentence=contrast_sentence,
        answer=_answer(p, results),
        summary=summary(p, scores, results, runs),
        missing=missing,
        percent=f"{100 * p.report.confidence:g}",
        power=f"{100 * POWER:g}",
        counts=counts,
        smallest_p=smallest_p,
        bootstrap_coverage=bootstrap_coverage,
        cell=cell,
        difference=difference,
        number=number,
        signed=signed,
        interval=interval,
        datasets={task.dataset: [t for t in results.tasks if t.dataset == task.dataset] for task in results.tasks},
        short={task: results.name(task).removeprefix(f"{task.dataset} ") for task in results.tasks},
        optimism=[(m, t, best) for m in results.rows for t in results.tasks if (best := results.optimism(m, t))],
        costs=cost,
        equal_compute=equal_compute(cost, p.experiment.baseline, p.pretrain.epochs, own_epochs(p)),
        snapshots=shift,
        shift_sentences=shift_sentences(shift),
        metric_names={k: v for k, v in METRICS.items() if any(k in snapshot.metrics for snapshot in shift)},
        published=same,
        not_comparable=not_comparable[:NEAREST],
        not_comparable_count=len(not_comparable),
        published_dataset=dataset_name(p),
        described={task: described(value) or plain(value) for task, value in settings.items()},
        files={task: traced(file) for task, file in scores.of_columns("file").items()},
        provenance=run_provenance(runs.manifests, results),
        runtime_differences=runtime_differences(runs.manifests),
        run_differences=differences(runs.manifests),
        first=next(iter(runs.manifests.values()), None),
        figures=figures,
        other_sections=[name for name in dict.fromkeys(figure.section for figure in figures) if name not in PLACED],
        commit=commit,
        document=document(p),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def document(p: Document) -> str:
    """Return the params as YAML."""
    text, yaml = io.StringIO(), YAML(typ="safe", pure=True)
    yaml.width = 1000
    yaml.dump(p.model_dump(mode="json"), text)
    return text.getvalue()


def plain(settings: dict[str, Any]) -> str:
    """Format settings as `k 20, temperature 0.07`."""
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def traced(file: str) -> tuple[str, str]:
    """Return the path of a score file for any method and seed, and the command that makes it."""
    top, _, _, name = file.split("/", 3)
    return f"{top}/METHOD/sSEED/{name}", command("METHOD", "SEED", name)


def summary(p: Document, scores: Scores, results: Results, runs: Runs) -> list[str]:
    """Summarise the report in five lines: question, finding, controls, cost and provenance."""
    e = p.experiment
    first: dict[str, Any] = next(iter(runs.manifests.values()), {})
    size = f", {first['parameters']:,} parameters" if first else ""
    own = ", ".join(f"{method} {count}" for method, count in own_epochs(p).items())
    trained = counted(p.pretrain.epochs, "epoch") + (f" ({own})" if own else "")
    return [
        f"**Question**: {_question(p)}; {_seeds(e.seeds)}; {p.model.backbone}{size}, {trained} on {e.dataset}.",
        f"**Finding**: {_finding(results, e.dataset)}",
        f"**Controls**: {controls.sentence(results)}",
        f"**Cost**: {_cost(runs, results)}",
        f"**Provenance**: {_completeness(scores, runs)}",
    ]


def _question(p: Document) -> str:
    methods, baseline = [method for method in p.trained if method != p.experiment.baseline], p.experiment.baseline
    if len(methods) > 1:
        return f"which of {', '.join(methods)} is better than {baseline}?"
    return f"is {methods[0]} better than {baseline}?" if methods else f"what is {baseline} worth?"


def _answer(p: Document, results: Results) -> str:
    """Answer the report's question: which methods differ significantly from the baseline, in how many columns."""
    baseline, differ, same = p.experiment.baseline, [], []
    for method in results.compared:
        tested = [c for c in results.comparisons() if c.method == method and c.difference]
        better = sum(c.significant and c.difference.mean > 0 for c in tested if c.difference)
        worse = sum(c.significant for c in tested) - better
        words = [f"{word} in {count}" for word, count in (("better", better), ("worse", worse)) if count]
        if words:
            differ.append(f"{method} {' and '.join(words)} of {len(tested)} columns")
        else:
            same.append(method)
    parts = []
    if differ:
        parts.append(f"Significantly different from {baseline}: {'; '.join(differ)}.")
    if same:
        verb, seeds = "does" if len(same) == 1 else "do", _seeds(p.experiment.seeds)
        parts.append(f"{', '.join(same)} {verb} not differ significantly from {baseline} in any column ({seeds}).")
    return " ".join(parts) or f"{' and '.join(results.trained)} alone: there is no other method to compare with."


def own_epochs(p: Document) -> dict[str, int]:
    """Return the epochs of the methods that do not train for `pretrain.epochs`."""
    return {name: epochs for name in p.trained if (epochs := p.key_of("methods", name, "epochs")) is not None}


def _seeds(seeds: list[int]) -> str:
    return f"{len(seeds)} seeds, paired" if len(seeds) > 1 else "one seed, too few for any test"


def _finding(results: Results, dataset: str) -> str:
    sentences = []
    for method in results.compared:
        comparisons = [c for c in results.comparisons() if c.method == method and c.difference]
        better = [c for c in comparisons if c.significant and c.difference and c.difference.mean > 0]
        worse = [c for c in comparisons if c.significant and c not in better]
        points = ", ".join(f"{difference(c)} {c.column.task}" for c in comparisons if c.column.dataset == dataset)
        significant = _listed(results, better, "better") + _listed(results, worse, "worse")
        said = "; ".join(significant) if significant else "no significant difference"
        sentences.append(
            f"{method}: {said}, in {len(comparisons)} comparisons{f' ({dataset}: {points} points)' if points else ''}."
        )
    return " ".join(sentences) or "one method, nothing to compare it with."


def _listed(results: Results, comparisons: list[Comparison], word: str) -> list[str]:
    names = ", ".join(results.name(comparison.column) for comparison in comparisons)
    return [f"{word} than {comparisons[0].baseline} in {len(comparisons)} ({names})"] if comparisons else []


def _cost(runs: Runs, results: Results) -> str:
    per_method = costs(runs.manifests, [results.experiment.baseline, *results.compared])
    ratios = ["" if c is per_method[0] or c.ratio is None else f" ({c.ratio:.2f} of {per_method[0].method})" for c in per_method]
    parts = [f"{c.method} {c.flops:.2e} FLOPs{ratio}" for c, ratio in zip(per_method, ratios, strict=True)]
    return f"{', '.join(parts)} per run." if parts else "not recorded."


def _completeness(scores: Scores, runs: Runs) -> str:
    missing = len(runs.missing) + len(scores.missing)
    collapsed = sum(bool(run.get("collapsed")) for run in runs.manifests.values())
    parts = [
        f"**{counted(missing, 'file')} missing, damaged or stale**" if missing else "nothing is missing or stale",
        f"**{counted(len(scores.refused), 'score')} not comparable**" if scores.refused else "every column has one protocol",
        f"**{counted(collapsed, 'run')} collapsed**" if collapsed else "no run collapsed",
        f"{counted(len(scores.unconverged), 'probe')} did not converge" if scores.unconverged else "every probe converged",
    ]
    return f"{', '.join(parts)}."
