"""The cost of the methods in deterministic units: images, forward passes, FLOPs. Seconds are in logs/."""

from typing import Any, NamedTuple

EQUAL = 0.05  # costs that differ by less than this share are called equal


class MethodCost(NamedTuple):
    """The cost of pretraining one run of a method."""

    method: str
    images: int  # seen, counted once however many views were made of one
    passes_per_image: float  # views through a backbone, with or without gradient
    forward_passes: float
    flops_per_image: float
    flops: float
    ratio: float | None  # of the baseline's FLOPs; None where those are not known


def costs(manifests: dict[tuple[str, int], dict[str, Any]], methods: list[str]) -> list[MethodCost]:
    """Return the costs of `methods` (baseline first) that a run.json records; a method's seeds all cost the same."""
    known = {method: run["cost"] for (method, _), run in manifests.items() if "cost" in run}
    base = known.get(methods[0])
    return [
        MethodCost(
            method=method,
            images=known[method]["images_seen"],
            passes_per_image=known[method]["forward_passes"],
            forward_passes=known[method]["images_seen"] * known[method]["forward_passes"],
            flops_per_image=known[method]["flops_per_image"],
            flops=known[method]["flops"],
            ratio=known[method]["flops"] / base["flops"] if base else None,
        )
        for method in methods
        if method in known
    ]


def equal_compute(of_methods: list[MethodCost], baseline: str, epochs: int, own_epochs: dict[str, int]) -> list[str]:
    """Return a sentence per method on its cost relative to the baseline, and how to compare both at equal compute.

    `own_epochs` are those of methods that do not train for `epochs`; the others are compared with them where they cost the same.
    """
    sentences = []
    for cost in of_methods:
        if cost.method == baseline or cost.ratio is None:
            continue
        if abs(cost.ratio - 1) < EQUAL:
            sentences.append(f"{cost.method} and {baseline} cost the same: their differences are at equal compute.")
            continue
        if cost.method in own_epochs:
            own = own_epochs[cost.method]
            sentences.append(f"{cost.method} trained for {own} epochs, for {cost.ratio:.2f} times the FLOPs of {baseline}.")
            continue
        if same := [c.method for c in of_methods if c.method in own_epochs and abs(c.flops / cost.flops - 1) < EQUAL]:
            sentences.append(
                f"{cost.method} cost {cost.ratio:.2f} times the FLOPs of {baseline}, as much as {' and '.join(same)}: "
                f"`python -m rsa compare workspace:{same[0]} workspace:{cost.method}` compares them at equal compute."
            )
            continue
        longer = max(1, round(epochs * cost.ratio))
        name = f"{baseline}_{longer}_epochs"
        sentences.append(
            f"{cost.method} cost {cost.ratio:.2f} times the FLOPs of {baseline}: their differences are at equal epochs, not at "
            f"equal compute, where {baseline} would train for {longer} epochs instead of {epochs}: commit this experiment, "
            f"`dvc exp run --name {name} -S pretrain.epochs={longer} -S 'experiment.methods=[{baseline}]'`, "
            f"then `python -m rsa compare {name}:{baseline} HEAD:{cost.method}`."
        )
    return sentences
