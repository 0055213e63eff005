"""Sections `probe` and `transfer`: classifiers on frozen features."""

from typing import Annotated, Literal

from pydantic import Field

from rsa.params.section import Count, Inside, Positive, ProtocolName, Section


class KNN(Section):
    """Weighted nearest neighbours."""

    classifier: Literal["knn"]
    k: Annotated[list[Count], Field(min_length=1)]
    temperature: Positive


class LinearProbe(Section):
    """A logistic regression."""

    classifier: Literal["logistic_regression"]
    C: Annotated[list[Positive], Field(min_length=1)]
    max_iter: Count


FeatureProtocol = Annotated[KNN | LinearProbe, Field(discriminator="classifier")]


class Probe(Section):
    """Protocols, and how their settings are chosen."""

    held_out: Inside
    best_on_test: bool
    protocols: Annotated[dict[ProtocolName, FeatureProtocol], Field(min_length=1)]


class Transfer(Section):
    """Few-shot classification on other datasets."""

    labels_per_class: list[Count]
    draws: Count
