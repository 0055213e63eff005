"""Key `optimizer` of a method: the optimiser and its rates."""

from typing import Annotated, Literal

from pydantic import Field

from rsa.params.section import Fraction, NonNegative, Pair, Positive, Section


class SGD(Section):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    base_lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    clip_each: Positive | None
    clip_norm: Positive | None


class LARS(Section):
    """Layer-wise adaptive rates (You et al. 2017)."""

    name: Literal["lars"]
    base_lr: Positive
    vector_base_lr: Positive | None
    end_share: Fraction
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    trust: Positive
    clip_each: Positive | None
    clip_norm: Positive | None


class AdamW(Section):
    """Adam with decoupled weight decay, which rises or falls as half a cosine."""

    name: Literal["adamw"]
    base_lr: Positive
    end_lr: NonNegative
    betas: Pair
    weight_decay: NonNegative
    end_weight_decay: NonNegative
    decay_all: bool
    clip_each: Positive | None
    clip_norm: Positive | None


Optimizer = Annotated[SGD | LARS | AdamW, Field(discriminator="name")]
