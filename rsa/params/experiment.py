"""Section `experiment`: the dataset, methods and seeds that are compared."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rsa.params.section import Name, Section, Seed, require_known, require_unique


class Experiment(Section):
    """The grid of runs: every method with every seed."""

    dataset: Name
    transfer: list[Name]
    methods: Annotated[list[Name], Field(min_length=1)]
    baseline: Name
    seeds: Annotated[list[Seed], Field(min_length=1)]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for key in ("transfer", "methods", "seeds"):
            require_unique(key, getattr(self, key))
        require_known("baseline", self.baseline, self.methods, "one of experiment.methods")
        return self
