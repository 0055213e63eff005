"""The complete params.yaml. Datasets and methods are plain mappings here; `rsa.params.load` gives them their classes."""

from typing import Any, Self

from pydantic import model_validator

from rsa.params.detection import Detection
from rsa.params.evaluation import Evaluation, RepresentationMetrics
from rsa.params.experiment import Experiment
from rsa.params.finetune import Finetune
from rsa.params.linear import Linear
from rsa.params.model import Model
from rsa.params.pretrain import Pretrain
from rsa.params.probe import Probe, Transfer
from rsa.params.report import Report
from rsa.params.robustness import Robustness
from rsa.params.runtime import Runtime
from rsa.params.section import Name, Section, require_known
from rsa.params.shards import Shards
from rsa.params.views import Views

CONTROLS = ("pixels", "random")  # values of a method's key `method`: they train nothing
PATHS = ("raw", "root", "url", "cache", "cache_bytes", "download")  # keys of a dataset that say where it lies


def without_paths(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return a dataset's section without the keys that say where it lies, on which no result depends."""
    return {key: value for key, value in dataset.items() if key not in PATHS}


class Document(Section):
    """Every section except `runtime`: the experiment."""

    experiment: Experiment
    datasets: dict[Name, Any]
    shards: Any
    views: Views
    model: Model
    pretrain: Pretrain
    methods: dict[Name, Any]
    evaluation: Evaluation
    probe: Probe
    transfer: Transfer
    linear: Linear
    finetune: Finetune
    representation_metrics: RepresentationMetrics
    detection: dict[Name, Detection]
    robustness: dict[Name, Robustness]
    report: Report

    @model_validator(mode="after")
    def _references(self) -> Self:
        e = self.experiment
        for name in e.methods:
            require_known("experiment.methods", name, self.methods, "a section of `methods`")
        if e.baseline in self.controls:
            raise ValueError(f"experiment.baseline must be a method that is trained, got the control {e.baseline!r}")
        named = {
            "experiment.dataset": [e.dataset],
            "experiment.transfer": e.transfer,
            "linear.datasets": self.linear.datasets,
            "finetune.datasets": self.finetune.datasets,
            "report.mean_per_class": self.report.mean_per_class,
            "robustness": list(self.robustness),
        }
        for key, names in named.items():
            for each in names:
                require_known(key, each, self.datasets, "a section of `datasets`")
        for name, weights in self.report.contrasts.items():
            for method in weights:
                require_known(f"report.contrasts.{name}", method, self.trained, "a method of the experiment that is trained")
        if both := self.probe.protocols.keys() & self.linear.protocols.keys():
            raise ValueError(
                f"linear.protocols must have other names than probe.protocols, got {', '.join(sorted(both))} in both"
            )
        return self

    @property
    def controls(self) -> list[str]:
        """The experiment's controls, which are not trained, in order."""
        return [name for name in self.experiment.methods if self._method(name) in CONTROLS]

    @property
    def trained(self) -> list[str]:
        """The experiment's trained methods, in order."""
        return [name for name in self.experiment.methods if name not in self.controls]

    def _method(self, name: str) -> Any:
        return self.key_of("methods", name, "method")

    def key_of(self, section: str, name: str, key: str) -> Any:
        """Return a key of a method or dataset (a section object or a plain mapping); None if it has no such key."""
        entry = getattr(self, section)[name]
        return entry.get(key) if isinstance(entry, dict) else getattr(entry, key, None)


class Params(Document):
    """Every section."""

    shards: Shards
    runtime: Runtime
