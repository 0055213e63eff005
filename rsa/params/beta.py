"""The schedule of RSA's beta: `schedule` names a function of rsa.schedules, the other keys are its arguments."""

from typing import Annotated, Literal

from pydantic import Field

from rsa.params.section import Fraction, Section


class Constant(Section):
    """Constant value."""

    schedule: Literal["constant"]
    value: Fraction


class Linear(Section):
    """Linear schedule."""

    schedule: Literal["linear"]
    start: Fraction
    end: Fraction


class Cosine(Section):
    """Half-cosine schedule."""

    schedule: Literal["cosine"]
    start: Fraction
    end: Fraction


class CosinePlateau(Section):
    """Half-cosine schedule after a plateau."""

    schedule: Literal["cosine_plateau"]
    start: Fraction
    end: Fraction
    plateau: Annotated[float, Field(ge=0, lt=1)]


class Exponential(Section):
    """Geometric decay."""

    schedule: Literal["exponential"]
    start: Annotated[float, Field(gt=0, le=1)]
    end: Annotated[float, Field(gt=0, le=1)]


class Step(Section):
    """Step schedule: multiplied by a factor at given points."""

    schedule: Literal["step"]
    start: Fraction
    factor: Fraction
    at: list[Fraction]


class Adaptive(Section):
    """Beta that adapts to the losses: see rsa.methods.adaptive_beta."""

    schedule: Literal["adaptive"]
    start: Fraction
    end: Fraction
    window: Annotated[int, Field(ge=64)]
    after: Annotated[float, Field(ge=0, lt=1)]


Beta = Annotated[Constant | Linear | Cosine | CosinePlateau | Exponential | Step | Adaptive, Field(discriminator="schedule")]
