"""The typed mirror of params.yaml: every key, its type and its range. There are no defaults here: params.yaml has them.

`load` refuses unknown, missing, ill-typed and out-of-range keys, all of them in one message. `Params.only` narrows a
document to the sections that a stage has declared, so that a stage cannot read what DVC does not watch for it.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

Fraction = Annotated[float, Field(ge=0, le=1)]  # [0, 1]
Inside = Annotated[float, Field(gt=0, lt=1)]  # (0, 1)
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]  # part of paths and of DVC's stage names
Arguments = dict[str, Any] | list[dict[str, Any]]  # of a class, for one split; a list is concatenated
Range = Annotated[tuple[float, float], Field(strict=False)]  # YAML has no tuples: [low, high]


class Section(BaseModel):
    """A mapping in params.yaml: exactly these keys, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _ordered(name: str, pair: tuple[float, float], low: float, high: float) -> None:
    if not low <= pair[0] <= pair[1] <= high:
        raise ValueError(f"{name} must be [low, high] with {low} <= low <= high <= {high}, got {list(pair)}")


# ---- schedules -----------------------------------------------------------------------------------


class Constant(Section):
    schedule: Literal["constant"]
    value: Fraction


class LinearSchedule(Section):
    schedule: Literal["linear"]
    start: Fraction
    end: Fraction


class Cosine(Section):
    schedule: Literal["cosine"]
    start: Fraction
    end: Fraction


class CosinePlateau(Section):
    schedule: Literal["cosine_plateau"]
    start: Fraction
    end: Fraction
    plateau: Annotated[float, Field(ge=0, lt=1)]


class Exponential(Section):
    schedule: Literal["exponential"]
    start: Annotated[float, Field(gt=0, le=1)]
    end: Annotated[float, Field(gt=0, le=1)]


class Step(Section):
    schedule: Literal["step"]
    start: Fraction
    factor: Fraction
    at: list[Fraction]


class Adaptive(Section):
    schedule: Literal["adaptive"]
    start: Fraction
    end: Fraction
    window: Annotated[int, Field(ge=64)]
    after: Annotated[float, Field(ge=0, lt=1)]


Beta = Annotated[
    Constant | LinearSchedule | Cosine | CosinePlateau | Exponential | Step | Adaptive, Field(discriminator="schedule")
]

# ---- sections ------------------------------------------------------------------------------------


class Experiment(Section):
    dataset: Name
    transfer: list[Name]
    methods: Annotated[list[Name], Field(min_length=1)]
    baseline: Name
    seeds: Annotated[list[Seed], Field(min_length=1)]


class Digits(Section):
    source: Literal["digits"]
    raw: str
    size: Annotated[int, Field(ge=8)]
    test_fraction: Inside


class PhotoTiles(Section):
    source: Literal["photo_tiles"]
    raw: str
    tile: Annotated[int, Field(ge=8, le=128)]
    stride: Count


class WithTest(Section):
    """A data set with a test split of its own, or with a share of each training class held out for one."""

    test_fraction: Inside | None

    @model_validator(mode="after")
    def _one_test_split(self) -> Self:
        if (getattr(self, "test") is None) == (self.test_fraction is None):  # noqa: B009 - of the class below
            raise ValueError("exactly one of `test` and `test_fraction` must be set, the other null")
        return self


class Folder(WithTest):
    source: Literal["folder"]
    raw: str
    train: str
    test: str | None
    train_samples: Count | None
    test_samples: Count | None
    classes: list[str] | str | None

    @model_validator(mode="after")
    def _watched(self) -> Self:
        if isinstance(self.classes, str) and not Path(self.classes).is_relative_to(self.raw):
            raise ValueError(
                f"classes must be a list of names, or a text file inside `raw` ({self.raw}), which is all that DVC watches; "
                f"got {self.classes!r}"
            )
        return self


class Torchvision(WithTest):
    source: Literal["torchvision"]
    raw: str
    name: str
    root: str
    download: bool
    train: Arguments
    test: Arguments | None
    pretrain: Arguments | None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.test is not None and self.test == self.train:
            raise ValueError(f"test must be another split than train, got {self.test} twice")
        if self.download and Path(self.raw) == Path(self.root):
            raise ValueError(
                f"raw must not be where data is downloaded to ({self.root}): use requirements.lock, which pins torchvision"
            )
        return self


class TinyImageNet(Section):
    source: Literal["tiny_imagenet"]
    raw: str


def _no_secret(url: str) -> str:
    if re.search(r"://[^/]*@|[?&][^=&]*(signature|token|sig)=", url, re.IGNORECASE):  # the message must not show it either
        raise ValueError("a URL must have no password or signature in it: credentials come from the environment")
    return url


URL = Annotated[str, AfterValidator(_no_secret)]


class WebDataset(WithTest):
    source: Literal["webdataset"]
    raw: str
    train: URL | list[URL]
    test: URL | list[URL] | None
    image: Annotated[list[Literal["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm"]], Field(min_length=1)]
    label: Annotated[str, Field(pattern=r"^(cls|json\..+)$")]


class RemoteShards(Section):
    source: Literal["remote_shards"]
    raw: str
    url: URL
    cache: str
    cache_bytes: Count


Dataset = Annotated[
    Digits | PhotoTiles | Folder | Torchvision | TinyImageNet | WebDataset | RemoteShards, Field(discriminator="source")
]


class Resize(Section):
    short_side: Annotated[int, Field(ge=8)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]


class Shards(Section):
    seed: Seed
    samples_per_shard: Count | None
    bytes_per_shard: Count | None
    resize: Resize | None
    max_bad_samples: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.samples_per_shard is None) == (self.bytes_per_shard is None):
            raise ValueError("exactly one of `samples_per_shard` and `bytes_per_shard` must be set, the other null")
        return self


class Jitter(Section):
    prob: Fraction
    brightness: Fraction
    contrast: Fraction
    saturation: Fraction
    hue: Annotated[float, Field(ge=0, le=0.5)]


Pair = Annotated[tuple[Fraction, Fraction], Field(strict=False)]  # of the first and the second view


class Blur(Section):
    prob: Pair
    sigma: Range

    @model_validator(mode="after")
    def _sigma(self) -> Self:
        _ordered("sigma", self.sigma, 0.01, 100)
        return self


class LocalViews(Section):
    count: Count
    size: Annotated[int, Field(ge=8)]
    crop_scale: Range
    blur_prob: Fraction
    solarize_prob: Fraction

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        _ordered("crop_scale", self.crop_scale, 1e-3, 1)
        return self


class Views(Section):
    size: Annotated[int, Field(ge=8)]
    crop_scale: Range
    crop_ratio: Range
    flip_prob: Fraction
    jitter: Jitter
    gray_prob: Fraction
    blur: Blur
    solarize_prob: Pair
    exact_color: bool
    local: LocalViews | None

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        _ordered("crop_scale", self.crop_scale, 1e-3, 1)
        _ordered("crop_ratio", self.crop_ratio, 0.01, 100)
        return self


class Model(Section):
    backbone: str
    backbone_args: dict[str, Any]
    small_stem: bool


class Collapse(Section):
    action: Literal["stop", "mark"]
    after: Fraction
    min_std: NonNegative
    min_rank: NonNegative


class Checkpoint(Section):
    steps: Count
    minutes: Positive


class Launch(Section):
    nodes: Count
    processes: Literal["auto"] | Count
    timeout_minutes: Positive


class RandomStart(Section):
    weights: Literal["random"]
    file: str


class EncoderStart(Section):
    weights: Literal["encoder"]
    file: str


class TimmStart(Section):
    weights: Literal["timm"]
    file: str
    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None


Start = Annotated[RandomStart | EncoderStart | TimmStart, Field(discriminator="weights")]


class Pretrain(Section):
    start: Start
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    warmup_epochs: NonNegative
    precision: Literal["float32", "bf16"]
    device: Literal["auto", "cpu", "gpu"]
    threads: Count
    accumulate: Count
    compile: bool
    collapse: Collapse
    checkpoint: Checkpoint
    launch: Launch
    snapshots: Annotated[list[Fraction], Field(min_length=1)]

    @model_validator(mode="after")
    def _batches(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size must be a multiple of accumulate ({self.accumulate}), got {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _warmup(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than epochs ({self.epochs}), got {self.warmup_epochs}")
        return self


# ---- optimisers ----------------------------------------------------------------------------------


class SGD(Section):
    name: Literal["sgd"]
    base_lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    clip: Positive | None


class LARS(Section):
    name: Literal["lars"]
    base_lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    trust: Positive
    clip: Positive | None


class AdamW(Section):
    name: Literal["adamw"]
    base_lr: Positive
    end_lr: NonNegative
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)]
    weight_decay: NonNegative
    end_weight_decay: NonNegative
    clip: Positive | None


Optimizer = Annotated[SGD | LARS | AdamW, Field(discriminator="name")]

# ---- methods -------------------------------------------------------------------------------------


class Head(Section):
    hidden: Count
    out: Count


class DeepHead(Head):
    layers: Count


class Scoring(Section):
    precision: Literal["same", "bf16"]
    predicted: Annotated[int, Field(ge=0)] | None
    reuse: bool


class HardViews(Section):
    candidates: Annotated[int, Field(ge=2)]
    local_candidates: Count | None
    max_sets: Count
    scoring: Scoring


class Method(Section):
    """What every method has; `method` names it in rsa.methods.METHODS."""

    optimizer: Optimizer
    hard_views: HardViews | None


class Bootstrap(Method):
    """BYOL's networks."""

    projector: Head
    predictor_hidden: Count
    ema_start: Fraction


class BYOL(Bootstrap):
    method: Literal["byol"]


class RSA(Bootstrap):
    method: Literal["rsa"]
    beta: Beta
    aggressive_target: Literal["online", "target"]


class SimSiam(Method):
    method: Literal["simsiam"]
    projector: DeepHead
    predictor_hidden: Count
    fixed_predictor_lr: bool


class SimCLR(Method):
    method: Literal["simclr"]
    projector: DeepHead
    temperature: Positive


class BarlowTwins(Method):
    method: Literal["barlow_twins"]
    projector: DeepHead
    off_diagonal: Positive


class MoCoV3(Method):
    method: Literal["moco_v3"]
    projector: DeepHead
    predictor: DeepHead
    temperature: Positive
    ema_start: Fraction
    freeze_patch_embed: bool


class DINOHead(Section):
    hidden: Count
    bottleneck: Count
    out: Count
    norm_last_layer: bool


class Warmed(Section):
    start: Positive
    end: Positive
    warmup: Fraction


class SelfDistillation(Method):
    """DINO's networks and temperatures."""

    head: DINOHead
    student_temperature: Positive
    teacher_temperature: Warmed
    center_momentum: Fraction
    ema_start: Fraction
    freeze_last_layer: Fraction


class DINO(SelfDistillation):
    method: Literal["dino"]


class Masks(Section):
    prob: Fraction
    ratio: Range

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        _ordered("ratio", self.ratio, 0, 0.9)
        return self


class IBOT(SelfDistillation):
    method: Literal["ibot"]
    masks: Masks
    patch_weight: NonNegative
    patch_temperature: Warmed


class Supervised(Method):
    method: Literal["supervised"]
    classes: Annotated[int, Field(ge=2)]
    label_smoothing: Fraction


AnyMethod = Annotated[
    BYOL | RSA | SimSiam | SimCLR | BarlowTwins | MoCoV3 | DINO | IBOT | Supervised, Field(discriminator="method")
]


class Evaluation(Section):
    resize: Annotated[int, Field(ge=8)]
    crop: Annotated[int, Field(ge=8)]
    batch_size: Count
    device: Literal["auto", "cpu", "gpu"]
    threads: Count


ProtocolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]  # as the literature's names: rsa-small


class KNN(Section):
    classifier: Literal["knn"]
    k: Annotated[list[Count], Field(min_length=1)]
    temperature: Positive


class LinearProbe(Section):
    classifier: Literal["logistic_regression"]
    C: Annotated[list[Positive], Field(min_length=1)]
    max_iter: Count


FeatureProtocol = Annotated[KNN | LinearProbe, Field(discriminator="classifier")]


class Probe(Section):
    threads: Count
    gpus: Literal[0, 1]
    held_out: Inside
    best_on_test: bool
    protocols: Annotated[dict[ProtocolName, FeatureProtocol], Field(min_length=1)]


class Transfer(Section):
    labels_per_class: list[Count]
    draws: Count


class Steps(Section):
    schedule: Literal["steps"]
    at: list[Count]
    factor: Inside


class HalfCosine(Section):
    schedule: Literal["cosine"]


class ImageProtocol(Section):
    lr: Annotated[list[Positive], Field(min_length=1)]
    lr_per_256: bool
    optimizer: Literal["sgd", "lars"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: NonNegative
    epochs: Count
    batch_size: Count
    schedule: Annotated[Steps | HalfCosine, Field(discriminator="schedule")]
    normalize: Literal["none", "l2_standardize"]
    blocks: Annotated[list[Count], Field(min_length=1)]
    pooling: Annotated[list[Literal["avg", "cls", "cls_avg"]], Field(min_length=1)]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.nesterov and (self.optimizer == "lars" or not self.momentum):
            raise ValueError("nesterov must be false unless the optimizer is sgd with momentum")
        return self


class Linear(Section):
    datasets: list[Name]
    crop_scale: Range
    held_out: Inside
    best_on_test: bool
    precision: Literal["float32", "bf16"]
    protocols: dict[ProtocolName, ImageProtocol]

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        _ordered("crop_scale", self.crop_scale, 1e-3, 1)
        return self


class Finetune(Section):
    datasets: list[Name]
    label_percents: list[Annotated[int, Field(ge=1, le=100)]]
    epochs: Count
    batch_size: Count
    warmup_epochs: NonNegative
    optimizer: AdamW
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    crop_scale: Range
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    precision: Literal["float32", "bf16"]

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        _ordered("crop_scale", self.crop_scale, 1e-3, 1)
        return self


class Quality(Section):
    samples: Annotated[int, Field(ge=16)]


class Logging(Section):
    """What changes no result: a stage may read it though DVC does not watch it."""

    tensorboard: bool


# ---- detection -----------------------------------------------------------------------------------


class VOCImages(Section):
    year: Literal["2007", "2008", "2009", "2010", "2011", "2012"]
    image_set: Literal["train", "val", "trainval", "test"]


class VOC(Section):
    format: Literal["voc"]
    raw: str
    train: Annotated[list[VOCImages], Field(min_length=1)]
    test: Annotated[list[VOCImages], Field(min_length=1)]
    classes: Annotated[list[str], Field(min_length=1)]


class COCOImages(Section):
    images: str
    annotations: str


class COCO(Section):
    format: Literal["coco"]
    raw: str
    train: COCOImages
    test: COCOImages
    classes: Annotated[list[str], Field(min_length=1)] | None


Objects = Annotated[VOC | COCO, Field(discriminator="format")]


class Anchors(Section):
    sizes: Annotated[list[Count], Field(min_length=1)]
    ratios: Annotated[list[Positive], Field(min_length=1)]


class ShortSides(Section):
    train: Annotated[list[Annotated[int, Field(ge=16)]], Field(min_length=1)]
    test: Annotated[int, Field(ge=16)]


class DetectionSchedule(Section):
    iterations: Count
    batch_size: Count
    lr: Positive
    warmup_iterations: Annotated[int, Field(ge=0)]
    warmup_factor: Fraction
    steps: list[Count]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if any(a >= b for a, b in pairwise([*self.steps, self.iterations])):
            raise ValueError(f"steps must increase and be less than iterations ({self.iterations}), got {self.steps}")
        return self


class Detection(Section):
    data: Objects
    detector: Literal["faster_rcnn", "mask_rcnn"]
    features: Literal["c4", "fpn"]
    channels: Count
    hidden: Count
    backbone: Literal["frozen", "frozen_norms", "trained"]
    anchors: Anchors
    short_side: ShortSides
    long_side: Annotated[int, Field(ge=16)]
    flip_prob: Fraction
    schedule: DetectionSchedule
    precision: Literal["float32", "bf16"]
    device: Literal["auto", "cpu", "gpu"]
    threads: Count

    @model_validator(mode="after")
    def _masks(self) -> Self:
        if self.detector == "mask_rcnn" and self.data.format == "voc":
            raise ValueError("detector must be faster_rcnn for data in VOC's format, which has boxes alone, got mask_rcnn")
        return self

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if self.features == "fpn" and len(self.anchors.sizes) != 5:
            raise ValueError(f"anchors.sizes must be 5 with features fpn, one for each level, got {self.anchors.sizes}")
        return self


# ---- robustness ----------------------------------------------------------------------------------

Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "fog",
    "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    "speckle_noise", "gaussian_blur", "saturate",
]  # fmt: skip


class Robustness(Section):
    constants: Literal["imagenet", "tiny_imagenet", "cifar"]
    corruptions: Annotated[list[Corruption], Field(min_length=1)]
    severities: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)]
    C: Annotated[list[Positive], Field(min_length=1)]
    held_out: Inside
    max_iter: Count

    @model_validator(mode="after")
    def _once(self) -> Self:
        for key, values in (("corruptions", self.corruptions), ("severities", self.severities)):
            if len(set(values)) < len(values):
                raise ValueError(f"{key} must not name a thing twice, got {values}")
        return self


class Report(Section):
    confidence: Inside
    mean_per_class: list[Name]


class Params(Section):
    """The whole of params.yaml."""

    experiment: Experiment
    datasets: dict[Name, Dataset]
    shards: Shards
    views: Views
    model: Model
    pretrain: Pretrain
    methods: dict[Name, AnyMethod]
    evaluation: Evaluation
    probe: Probe
    transfer: Transfer
    linear: Linear
    finetune: Finetune
    quality: Quality
    detection: dict[Name, Detection]
    robustness: dict[Name, Robustness]
    report: Report
    logging: Logging

    @model_validator(mode="after")
    def _references(self) -> Self:
        e = self.experiment
        for key, values in (("transfer", e.transfer), ("methods", e.methods), ("seeds", e.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"experiment.{key} must not name a thing twice, got {values}")
        for name in e.methods:
            _known("experiment.methods", name, list(self.methods), "a section of `methods`")
        _known("experiment.baseline", e.baseline, e.methods, "one of experiment.methods")
        named = [
            ("experiment.dataset", [e.dataset]),
            ("experiment.transfer", e.transfer),
            ("linear.datasets", self.linear.datasets),
        ]
        named += [("finetune.datasets", self.finetune.datasets), ("report.mean_per_class", self.report.mean_per_class)]
        named += [("robustness", list(self.robustness))]
        for key, names in named:
            for name in names:
                _known(key, name, list(self.datasets), "a section of `datasets`")
        both = self.probe.protocols.keys() & self.linear.protocols.keys()
        if both:
            raise ValueError(
                f"linear.protocols must have other names than probe.protocols, got {', '.join(sorted(both))} in both"
            )
        if self.evaluation.crop > self.evaluation.resize:
            raise ValueError(
                f"evaluation.crop must be at most evaluation.resize ({self.evaluation.resize}), got {self.evaluation.crop}"
            )
        return self

    def only(self, sections: Iterable[str]) -> "Params":
        """The same values, of which just these dotted `sections` can be read."""
        narrowed: Params = _narrowed(self, [section.split(".") for section in sections])
        return narrowed

    def section(self, dotted: str) -> Any:
        """The plain value (dicts, lists, numbers) at a dotted name, as it would be written in YAML."""
        value: Any = self.model_dump(mode="json")
        for key in dotted.split("."):
            value = value[key]
        return value

    def sha256(self, sections: Iterable[str]) -> str:
        """Of the values in these dotted `sections`."""
        values = {section: self.section(section) for section in sections}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _narrowed(value: Any, paths: list[list[str]]) -> Any:
    """A section, or a mapping of sections, with just what lies at the end of `paths`."""
    if [] in paths:
        return value
    below: dict[str, list[list[str]]] = {}
    for key, *rest in paths:
        below.setdefault(key, []).append(rest)
    if isinstance(value, dict):
        return {key: _narrowed(value[key], rests) for key, rests in below.items()}
    return type(value).model_construct(**{key: _narrowed(getattr(value, key), rests) for key, rests in below.items()})


def _known(key: str, name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise ValueError(f"{key} must be {what}, got {name!r}{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or the known names where none is near and they are few."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    return f" (known: {', '.join(known)})" if 0 < len(known) <= 20 else ""


def load(path: Path) -> Params:
    """The validated document at `path`; ValueError lists every fault with its key."""
    try:
        document = YAML(typ="safe").load(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: copy one of recipes/*.yaml to it") from None
    except YAMLError as why:
        raise ValueError(f"{path} is not valid YAML: {why}") from None
    try:
        return Params.model_validate(document)
    except ValidationError as why:
        faults = why.errors()
    missing = [fault["loc"] for fault in faults if fault["type"] == "missing"]
    raise ValueError("\n".join(f"{path}: {_explain(fault, document, missing)}" for fault in faults))


def _explain(fault: Any, document: Any, missing: list[tuple[int | str, ...]]) -> str:
    key = _key(fault["loc"], document, fault["type"] == "missing")
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":  # a misspelt key is missing under its right name
            *section, name = fault["loc"]
            known = [str(loc[-1]) for loc in missing if list(loc[:-1]) == section] or _all_keys()
            return f"{key} is not a known key{nearest(str(name), known)}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return f"{key}: {context['error']}" if key else str(context["error"])
        case "union_tag_invalid":
            tags = context["expected_tags"].replace("'", "").split(", ")
            discriminator = context["discriminator"].strip("'")
            return f"{key}.{discriminator} must be a known name, got {context['tag']!r}{nearest(context['tag'], tags)}"
        case "union_tag_not_found":
            discriminator = context["discriminator"].strip("'")
            return f"{key}.{discriminator} is missing"
        case "model_type" | "model_attributes_type":
            return f"{key or 'the document'} must be a mapping, got {fault['input']!r}"
    contract = fault["msg"].partition(" should ")[2]  # of "Input should be ...", "List should have ...", ...
    return f"{key} must {contract}, got {fault['input']!r}"


def _key(loc: tuple[int | str, ...], document: Any, missing: bool) -> str:
    """The dotted key in the user's file: pydantic's location without the tags of unions; the last part may be missing."""
    parts, here = [], document
    for i, part in enumerate(loc):
        inside = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int)
        if inside or (missing and i == len(loc) - 1):
            parts.append(str(part))
        if inside:
            here = here[part]
    return ".".join(parts)


def _all_keys() -> list[str]:
    sections = [Section]
    for section in sections:  # grows while it is read: all descendants
        sections.extend(section.__subclasses__())
    return sorted({key for section in sections for key in section.model_fields})
