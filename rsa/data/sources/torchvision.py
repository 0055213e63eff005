"""Image-classification sets of torchvision.datasets, by class name.

Image files are read unchanged; arrays are encoded as PNG. `SETS` lists the attributes of each class with files and labels and
the files required below `root`, for the pinned torchvision version. For each split params.yaml has the keyword arguments of
the class, or a list of them to be concatenated:

    stl10:
      source: torchvision
      raw: data/raw/stl10           # what DVC watches: `root`, or requirements.lock where torchvision downloads
      name: STL10
      root: data/raw/stl10
      download: false
      train: {split: train}
      test: {split: test}
      test_fraction: null           # or, with `test: null`, the share of each class that is held out
      pretrain: {split: train+unlabeled}  # what pretraining reads instead of `train`, or null; labels may be -1 here
"""

import bisect
import inspect
import os
import pickle
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import model_validator

from rsa.data.sources.files import read_below
from rsa.data.sources.source import EXTENSIONS, PRETRAIN, ReadOrigin, Sample, Source, WithTest, key_of, png, without_test
from rsa.params.section import FilePath, nearest

Arguments = dict[str, Any] | list[dict[str, Any]]  # of a class, for one split; a list is concatenated


class Torchvision(WithTest):
    """Section of a data set of torchvision's."""

    source: Literal["torchvision"]
    raw: FilePath
    name: str
    root: str
    download: bool
    train: Arguments
    test: Arguments | None
    pretrain: Arguments | None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.download and Path(self.raw) == Path(self.root):
            raise ValueError(
                f"raw must not be where data is downloaded to ({self.root}): use requirements.lock, which pins torchvision"
            )
        return self


class Kept(NamedTuple):
    """Storage of images in a torchvision class, and the files that it needs below `root`."""

    holds: str
    labels: Callable[[Any], Any]
    files: Callable[[Any], Any] | None = None  # None: arrays
    downloads: bool = True


def _arrays(holds: str, labels: str = "targets") -> Kept:
    return Kept(holds, lambda dataset: np.asarray(getattr(dataset, labels)).tolist())


def _files(holds: str, files: str = "_image_files") -> Kept:
    return Kept(holds, lambda dataset: dataset._labels, lambda dataset: getattr(dataset, files))


def _pairs(holds: str, pairs: str = "samples", *, downloads: bool = True) -> Kept:
    return Kept(
        holds,
        lambda dataset: [label for _, label in getattr(dataset, pairs)],
        lambda dataset: [file for file, _ in getattr(dataset, pairs)],
        downloads,
    )


def _caltech101(dataset: Any) -> list[str]:
    folder = Path(dataset.root) / "101_ObjectCategories"
    return [
        str(folder / dataset.categories[label] / f"image_{i:04d}.jpg") for i, label in zip(dataset.index, dataset.y, strict=True)
    ]


def _caltech256(dataset: Any) -> list[str]:
    folder = Path(dataset.root) / "256_ObjectCategories"
    return [
        str(folder / dataset.categories[label] / f"{label + 1:03d}_{i:04d}.jpg")
        for i, label in zip(dataset.index, dataset.y, strict=True)
    ]


SETS = {
    "CIFAR10": _arrays("cifar-10-batches-py/ (from cifar-10-python.tar.gz)"),
    "CIFAR100": _arrays("cifar-100-python/ (from cifar-100-python.tar.gz)"),
    "MNIST": _arrays("MNIST/raw/*-ubyte"),
    "FashionMNIST": _arrays("FashionMNIST/raw/*-ubyte"),
    "KMNIST": _arrays("KMNIST/raw/*-ubyte"),
    "EMNIST": _arrays("EMNIST/raw/emnist-*-ubyte"),
    "USPS": _arrays("usps.bz2 and usps.t.bz2"),
    "SVHN": _arrays("train_32x32.mat, test_32x32.mat (and extra_32x32.mat)", "labels"),
    "STL10": _arrays("stl10_binary/ (from stl10_binary.tar.gz)", "labels"),
    "ImageNet": _pairs("ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar", downloads=False),
    "Imagenette": _pairs("imagenette2/, imagenette2-320/ or imagenette2-160/", "_samples"),
    "EuroSAT": _pairs("eurosat/2750/CLASS/*.jpg"),
    "Country211": _pairs("country211/{train,valid,test}/CLASS/*.jpg"),
    "RenderedSST2": _pairs("rendered-sst2/{train,valid,test}/CLASS/*.png", "_samples"),
    "GTSRB": _pairs("gtsrb/GTSRB/ and gtsrb/GT-final_test.csv", "_samples"),
    "Places365": _pairs("the lists and image folders of Places365", "imgs"),
    "StanfordCars": _pairs(
        "stanford_cars/ with devkit/, cars_train/, cars_test/ and cars_test_annos_withlabels.mat", "_samples", downloads=False
    ),
    "Food101": _files("food-101/ with images/ and meta/ (from food-101.tar.gz)"),
    "Flowers102": _files("flowers-102/ with jpg/, imagelabels.mat and setid.mat"),
    "OxfordIIITPet": _files("oxford-iiit-pet/ with images/ and annotations/", "_images"),
    "DTD": _files("dtd/dtd/ with images/ and labels/"),
    "FGVCAircraft": _files("fgvc-aircraft-2013b/ (from its tar.gz)"),
    "SUN397": _files("SUN397/ (from SUN397.tar.gz)"),
    "CLEVRClassification": _files("clevr/CLEVR_v1.0/"),
    "Caltech101": Kept("caltech101/101_ObjectCategories/", lambda dataset: dataset.y, _caltech101),
    "Caltech256": Kept("caltech256/256_ObjectCategories/", lambda dataset: dataset.y, _caltech256),
}
# arguments of the classes that params.yaml may not give
OURS = ("root", "download", "transform", "target_transform", "transforms", "loader", "target_type", "target_types")


def torchvision(params: Torchvision, seed: int) -> Source:
    """Build the source; ValueError says which files are missing, or to set `download`."""
    if params.name not in SETS:
        raise ValueError(
            f"name must be an image-classification class of torchvision.datasets, got {params.name!r}{nearest(params.name, SETS)}"
        )
    kept = SETS[params.name]
    asked = {"train": params.train, "test": params.test, PRETRAIN: params.pretrain}
    opened = {split: _open_all(params, arguments) for split, arguments in asked.items() if arguments is not None}
    names = {split: {tuple(_class_names(dataset)) for dataset in parts} for split, parts in opened.items()}
    if len(set.union(*names.values())) > 1:
        raise ValueError(f"{params.name} must have the same classes in each split, got others: choose splits that agree")
    labels = {split: [label for dataset in parts for label in kept.labels(dataset)] for split, parts in opened.items()}
    for split, values in labels.items():
        if None in values:
            raise ValueError(f"{params.name}: {split} {asked[split]} has no labels: choose another split")
    classes = list(names["train"].pop()) or [str(label) for label in range(max(labels["train"], default=-1) + 1)]
    samples, read = (_of_files if kept.files else _of_arrays)(params, opened, labels)
    if params.test_fraction is not None:
        fraction = params.test_fraction
        samples["train"], samples["test"] = without_test(params.name, samples["train"], classes, fraction, seed)
    return Source(classes, dict(sorted(samples.items(), reverse=True)), read)


Splits = dict[str, list[Any]]  # a split's data sets
Labels = dict[str, list[int]]


def _of_files(params: Torchvision, opened: Splits, labels: Labels) -> tuple[dict[str, list[Sample]], ReadOrigin]:
    """Return samples in the order of their paths, which are relative to `root`."""
    files_of = SETS[params.name].files
    assert files_of is not None
    root = os.path.expanduser(params.root)
    samples: dict[str, list[Sample]] = {}
    for split, datasets in opened.items():
        files = [os.path.relpath(file, root) for dataset in datasets for file in files_of(dataset)]
        samples[split] = []
        for file, label in sorted(zip(files, labels[split], strict=True)):
            extension = EXTENSIONS.get(file.rpartition(".")[2].lower())
            if extension is None:
                raise ValueError(f"{params.name}: {file} must be an image ({', '.join(sorted(EXTENSIONS))})")
            samples[split].append(Sample(key_of(file), extension, int(label), file))
    return samples, ReadOrigin(partial(read_below, Path(root)))


def _of_arrays(params: Torchvision, opened: Splits, labels: Labels) -> tuple[dict[str, list[Sample]], "ArrayReader"]:
    """Return samples in the data set's order."""
    samples = {
        split: [
            Sample(f"{split}_{i:07d}", "png", int(label), f"{params.name} {split}[{i}]") for i, label in enumerate(labels[split])
        ]
        for split in opened
    }
    return samples, ArrayReader(params, opened)


class ArrayReader:
    """A reader that encodes images as PNG; only its params are pickled, and a new process reopens the data sets."""

    def __init__(self, params: Torchvision, opened: Splits) -> None:
        self.params, self.opened = params, opened

    def __getstate__(self) -> dict[str, Any]:
        return {"params": self.params.model_copy(update={"download": False}), "opened": {}}

    def __call__(self, sample: Sample) -> bytes:
        """Return the image as PNG."""
        split, _, number = sample.key.rpartition("_")
        if split not in self.opened:
            self.opened[split] = _open_all(self.params, getattr(self.params, split))
        ends = list(accumulate(len(dataset) for dataset in self.opened[split]))
        part = bisect.bisect_right(ends, int(number))
        image, _ = self.opened[split][part][int(number) - ends[part]]  # from the end of its part
        return png(image)


def _open_all(params: Torchvision, arguments: Arguments) -> list[Any]:
    return [_open(params, each) for each in (arguments if isinstance(arguments, list) else [arguments])]


def _open(params: Torchvision, arguments: dict[str, Any]) -> Any:
    import torchvision.datasets  # seconds to import, so only where it is needed

    kept, dataset = SETS[params.name], getattr(torchvision.datasets, params.name)
    what = f"{params.name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    if reserved := [key for key in arguments if key in OURS]:
        raise ValueError(f"{what} must not set {', '.join(reserved)}: the source does")
    place = f"put {kept.holds} into {params.root}"
    if params.download and not kept.downloads:
        raise ValueError(f"torchvision can't download {params.name}: {place} and set download: false")
    try:
        inspect.signature(dataset).bind("", **arguments)
        return dataset(params.root, **arguments, **({"download": True} if params.download else {}))
    except TypeError as why:
        raise ValueError(f"{what}: {why}; its signature is {inspect.signature(dataset)}") from None
    except ValueError as why:
        raise ValueError(f"{what}: {why}") from None
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as why:
        advice = f"{place}, or set download: true" if kept.downloads and not params.download else place
        raise ValueError(f"{what} can't be read from {params.root}: {advice} ({type(why).__name__}: {why})") from None


def _class_names(dataset: Any) -> list[str]:
    """Return the class names in label order, or none if the data set has none."""
    for attribute in ("wnids", "classes", "categories"):
        if hasattr(dataset, attribute):
            return [str(name) for name in getattr(dataset, attribute)]
    return []
