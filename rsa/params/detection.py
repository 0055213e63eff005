"""Section `detection`: detectors that are trained on the encoder."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, FilePath, Fraction, NonNegative, Positive, Precision, Section


class VOCImages(Section):
    """The images of one year of Pascal VOC, in one of its lists."""

    year: Literal["2007", "2008", "2009", "2010", "2011", "2012"]
    image_set: Literal["train", "val", "trainval", "test"]


class VOC(Section):
    """Annotations in Pascal VOC's format."""

    format: Literal["voc"]
    raw: FilePath
    train: Annotated[list[VOCImages], Field(min_length=1)]
    test: Annotated[list[VOCImages], Field(min_length=1)]
    classes: Annotated[list[str], Field(min_length=1)]


class COCOImages(Section):
    """A folder of images and the file with their annotations, both relative to `raw`."""

    images: str
    annotations: str


class COCO(Section):
    """Annotations in COCO's format."""

    format: Literal["coco"]
    raw: FilePath
    train: COCOImages
    test: COCOImages
    classes: Annotated[list[str], Field(min_length=1)] | None


DetectionData = Annotated[VOC | COCO, Field(discriminator="format")]


class Anchors(Section):
    """Sizes in px and ratios of height to width."""

    sizes: Annotated[list[Count], Field(min_length=1)]
    ratios: Annotated[list[Positive], Field(min_length=1)]


class ShortSides(Section):
    """The short side of an image in px."""

    train: Annotated[list[Annotated[int, Field(ge=16)]], Field(min_length=1)]
    test: Annotated[int, Field(ge=16)]


class DetectionSchedule(Section):
    """The length of training and its learning rate."""

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


class DetectorTraining(Section):
    """A detector and its training."""

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
    precision: Precision

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if self.features == "fpn" and len(self.anchors.sizes) != 5:
            raise ValueError(f"anchors.sizes must be 5 with features fpn, one for each level, got {self.anchors.sizes}")
        return self


class Detection(Section):
    """Annotated images, and a detector that is trained on them."""

    data: DetectionData
    training: DetectorTraining

    @model_validator(mode="after")
    def _masks(self) -> Self:
        if self.training.detector == "mask_rcnn" and self.data.format == "voc":
            raise ValueError(
                "training.detector must be faster_rcnn for data in VOC's format, which has boxes alone, got mask_rcnn"
            )
        return self
