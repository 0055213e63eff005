"""Count from params.yaml what the jobs of an experiment ask a cluster for (rsa.scaling.need): memory of the host, and minutes.

They are upper bounds, not predictions: rates are about a tenth of those that were measured (docs/scaling.md), and a process is
given several times what its libraries take. Operations, batches, weights, activations and features are counted, on torch's
`meta` device, where no number is computed. Where `runtime.device` is not cpu, a job has its GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, inf

import torch
from torch.utils.flop_counter import FlopCounterMode

from rsa.evaluation.features import IN_MEMORY_BYTES
from rsa.methods import control_encoder
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.evaluation import Geometry
from rsa.params.linear import ImageProtocol
from rsa.params.probe import KNN
from rsa.params.robustness import Robustness
from rsa.scaling.counting import Sketch, sketch
from rsa.scaling.formulae import FLOAT
from rsa.scaling.need import Need

GPU_RATE, THREAD_RATE = 1e13, 1e10  # floating-point operations a second
PIXEL_SECONDS = 4e-7  # of a CPU thread, to decode, cut and colour a pixel: 20 ms for a view of 224 px
CORRUPTION_SECONDS = 2e-6  # of a CPU thread, to corrupt a pixel
START_SECONDS = 600.0  # of a job before and after its work
STEP_SECONDS = 0.2  # of a training step beside its operations
PROCESS_BYTES = 4e9  # of Python, torch, DALI and a GPU's context
COPIES = 16  # of a batch of views in a process, as bytes: prefetched by DALI, coloured, as float32
FEATURE_COPIES = 6  # of features: standardised, without the held-out part, and the solver's
METRIC_VIEWS = 8  # of each image that stage representation_metrics encodes


@dataclass(frozen=True)
class Encoder:
    """Counts of a frozen encoder."""

    flop: float  # of an image of evaluation.crop px
    width: int  # features of an image
    bytes: float  # of its weights


def needs(p: Params) -> dict[str, Need]:
    """Return the needs of jobs by the names of their stages: of all stages that work on sharded images or their features."""
    by_stage: dict[str, Need] = {}
    for name in p.experiment.methods:
        own = dict(_evaluations(p, _encoder(p, name)))
        trained = name in p.trained
        own["pretrain", ""] = _pretrain(p, name, sketch(p, name)) if trained else Need("", PROCESS_BYTES, START_SECONDS)
        for seed in p.experiment.seeds:
            by_stage |= {f"{stage}@{name}-{seed}{rest}": need for (stage, rest), need in own.items()}
        by_stage[f"embedding_map@{name}"] = own["probe", ""]
    return by_stage


def _pretrain(p: Params, name: str, sketch: Sketch) -> Need:
    """Return the need of a run on each of its nodes; all devices share its operations, all threads its images."""
    r, pretrain, epochs = p.runtime, p.pretrain, p.methods[name].epochs or p.pretrain.epochs
    cpu = r.device == "cpu"
    processes = (1 if cpu else r.gpus) if r.processes == "auto" else r.processes
    threads = r.nodes * processes * r.threads.pretrain
    at_once = ceil(pretrain.batch_size / (r.nodes * processes))
    pixels = sum(size**2 for size in sketch.sizes)
    network = 4 * FLOAT * sketch.parameters + (sketch.activations * at_once / pretrain.accumulate if cpu else 0)
    each = sketch.flop / (THREAD_RATE * threads if cpu else GPU_RATE * r.nodes * processes)
    return Need(
        p.experiment.dataset,
        processes * (PROCESS_BYTES + COPIES * at_once * 3 * pixels + network),
        START_SECONDS,
        bytes_train=2 * 8 * processes,  # the order of an epoch, and of the next
        seconds_train=epochs * (each + STEP_SECONDS / pretrain.batch_size + PIXEL_SECONDS * pixels / threads),
        pretrains=True,
    )


def _encoder(p: Params, name: str) -> Encoder:
    with torch.device("meta"):
        encoder = build_backbone(p.model)
        if name in p.controls:
            encoder = control_encoder(p.methods[name], encoder, p.views)
        image = torch.empty(1, 3, p.evaluation.crop, p.evaluation.crop)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        width = encoder.eval()(image).flatten(1).shape[1]
    return Encoder(counter.get_total_flops(), width, sum(weight.nbytes for weight in encoder.parameters()))


def _evaluations(p: Params, encoder: Encoder) -> Iterator[tuple[tuple[str, str], Need]]:
    """Iterate over (stage, what follows the run in its name) and the need of each evaluation of an encoder."""
    e, r, home = p.evaluation, p.runtime, p.experiment.dataset
    for name in p.datasets:
        once = _seconds(p, encoder, e)
        yield ("extract", f"-{name}"), Need(name, _bytes(e, e.batch_size), START_SECONDS, seconds_train=once, seconds_test=once)
    yield ("probe", ""), _features(p, home, encoder.width)
    for name in p.experiment.transfer:
        yield ("transfer", f"-{name}"), replace(_features(p, name, encoder.width), most_bytes=inf)  # few-shot: standardised whole
    views, snapshots = METRIC_VIEWS * p.representation_metrics.samples, len(r.snapshots)
    fixed = _bytes(e, METRIC_VIEWS * e.batch_size) + snapshots * (encoder.bytes + 2 * FLOAT * encoder.width * views)
    yield ("representation_metrics", ""), Need(home, fixed, START_SECONDS + views * _seconds(p, encoder, e, snapshots))
    for name in p.linear.datasets:
        for protocol, settings in p.linear.protocols.items():
            yield ("linear", f"-{name}-{protocol}"), _linear(p, encoder, name, settings)
    training = p.finetune.training
    for name in p.finetune.datasets:
        for percent in p.finetune.label_percents:
            each = training.epochs * percent / 100 * (_seconds(p, encoder, e, 3) + STEP_SECONDS / training.batch_size)
            need = Need(
                name, _bytes(e, training.batch_size) + 4 * encoder.bytes, START_SECONDS,
                seconds_train=each, seconds_test=_seconds(p, encoder, e),
            )  # fmt: skip
            yield ("finetune", f"-{name}-{percent}"), need
    for name, corruptions in p.robustness.items():
        yield ("robustness", f"-{name}"), _robustness(p, encoder, name, corruptions)


def _bytes(geometry: Geometry, batch_size: int) -> float:
    """Return the bytes of a process and its batches of images."""
    return PROCESS_BYTES + COPIES * batch_size * 3 * geometry.resize**2


def _seconds(p: Params, encoder: Encoder, geometry: Geometry, passes: float = 1.0) -> float:
    """Return the seconds of an image that is read once and goes through the network `passes` times."""
    threads = p.runtime.threads.evaluation
    rate = THREAD_RATE * threads if p.runtime.device == "cpu" else GPU_RATE
    return passes * encoder.flop * (geometry.crop / p.evaluation.crop) ** 2 / rate + PIXEL_SECONDS * geometry.resize**2 / threads


def _linear(p: Params, encoder: Encoder, dataset: str, settings: ImageProtocol) -> Need:
    """Return the need of a linear protocol: features are kept of the images it tests on, and of all if statistics need them."""
    geometry, several = settings.geometry or p.evaluation, len(settings.lr) * len(settings.blocks) * len(settings.pooling) > 1
    widths = encoder.width * sum(blocks + (pool == "cls_avg") for blocks in settings.blocks for pool in settings.pooling)
    kept = 1.0 if settings.normalize == "l2_standardize" else settings.held_out if several else 0.0
    epochs = settings.epochs * (2 if several else 1)
    return Need(
        dataset,
        _bytes(geometry, settings.batch_size),
        START_SECONDS,
        bytes_train=kept * FEATURE_COPIES * FLOAT * widths,
        bytes_test=2 * FLOAT * widths,
        seconds_train=epochs * (_seconds(p, encoder, geometry) + STEP_SECONDS / settings.batch_size),
        seconds_test=_seconds(p, encoder, geometry),
    )


def _robustness(p: Params, encoder: Encoder, dataset: str, settings: Robustness) -> Need:
    """Return the need of a regression on clean features, and of encoding every corrupted version of every test image."""
    threads, e = p.runtime.threads.evaluation, p.evaluation
    versions = len(settings.corruptions) * len(settings.severities)
    return Need(
        dataset,
        _bytes(e, e.batch_size * len(settings.severities)),
        START_SECONDS,
        bytes_train=FEATURE_COPIES * FLOAT * encoder.width,
        bytes_test=FEATURE_COPIES * FLOAT * encoder.width,
        seconds_class=_regressions(encoder.width, len(settings.C) + 1, settings.max_iter, THREAD_RATE * threads),
        seconds_test=versions * (_seconds(p, encoder, e) + CORRUPTION_SECONDS * e.crop**2 / threads),
    )


def _features(p: Params, dataset: str, width: int) -> Need:
    """Return the need of classifiers on features: in memory up to a size, then in chunks; kNN compares all pairs of images."""
    of_class, pair, rate = 0.0, 0.0, THREAD_RATE * p.runtime.threads.probe
    for protocol in p.probe.protocols.values():
        if isinstance(protocol, KNN):
            pair += 2 * 2 * width / rate  # the test split's, and the held-out part's
        else:
            solver = GPU_RATE if p.runtime.probe_gpus else rate
            of_class += _regressions(width, len(protocol.C) + 1, protocol.max_iter, solver)
    each = FEATURE_COPIES * FLOAT * width
    return Need(
        dataset, PROCESS_BYTES, START_SECONDS, bytes_train=each, bytes_test=each,
        most_bytes=2 * FEATURE_COPIES * IN_MEMORY_BYTES, seconds_class=of_class, seconds_pair=pair,
    )  # fmt: skip


def _regressions(width: int, count: int, max_iter: int, rate: float) -> float:
    """Return the seconds, per image and class, of `count` logistic regressions that take all their iterations."""
    return count * max_iter * 4 * width / rate
