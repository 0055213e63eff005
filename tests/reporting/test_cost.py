import pytest

from rsa.reporting.cost import costs, equal_compute
from tests.reporting.experiment import manifest


def manifests(flops: dict[str, float]) -> dict:
    """A run per method with so many FLOPs; 1,000 images, 10 views encoded of each."""
    found = {}
    for seed, (method, amount) in enumerate(flops.items()):
        cost = {"images_seen": 1000, "forward_passes": 10.0, "flops_per_image": amount / 1000, "flops": amount}
        found[method, seed] = manifest("rsa", seed, cost=cost)
    return found


def test_costs_by_hand():
    byol, hard = costs(manifests({"hard": 2.5e9, "byol": 1e9}), ["byol", "hard"])
    assert (byol.method, byol.ratio, byol.forward_passes) == ("byol", 1.0, 10_000)
    assert (hard.ratio, hard.flops, hard.flops_per_image) == (2.5, 2.5e9, 2.5e6)


def test_a_run_that_does_not_say_its_cost_is_left_out():
    found = manifests({"byol": 1e9, "hard": 2e9})
    del found["byol", 0]["cost"]
    assert [(cost.method, cost.ratio) for cost in costs(found, ["byol", "hard"])] == [("hard", None)]
    assert equal_compute(costs(found, ["byol", "hard"]), "byol", 40, {}) == []


def test_a_method_that_costs_more_is_told_what_equal_compute_would_be():
    (said,) = equal_compute(costs(manifests({"byol": 1e9, "hard": 2.3e9}), ["byol", "hard"]), "byol", 40, {})
    assert "hard cost 2.30 times the FLOPs of byol" in said
    assert "not at equal compute, where byol would train for 92 epochs instead of 40" in said
    assert "-S pretrain.epochs=92 -S 'experiment.methods=[byol]'" in said
    assert "python -m rsa compare byol_92_epochs:byol HEAD:hard" in said


@pytest.mark.parametrize("flops", [1.04e9, 0.96e9])
def test_nearly_the_same_cost_is_equal(flops: float):
    found = costs(manifests({"byol": 1e9, "rsa": flops}), ["byol", "rsa"])
    assert equal_compute(found, "byol", 40, {}) == ["rsa and byol cost the same: their differences are at equal compute."]


def test_a_method_that_costs_more_is_compared_with_one_that_trained_for_longer():
    found = costs(manifests({"byol": 1e9, "hard": 2e9, "long": 2.02e9}), ["byol", "hard", "long"])
    hard, long = equal_compute(found, "byol", 40, {"long": 80})
    assert hard.startswith(
        "hard cost 2.00 times the FLOPs of byol, as much as long: `python -m rsa compare workspace:long workspace:hard`"
    )
    assert long == "long trained for 80 epochs, for 2.02 times the FLOPs of byol."
