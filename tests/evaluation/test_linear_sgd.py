import copy
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.splits import held_out
from rsa.evaluation.linear_sgd import Frozen, Setting, _classifier, _factor, _normalizations, linear_sgd
from rsa.evaluation.score import Score
from rsa.models.backbones import build_backbone, variants
from rsa.params.document import Params
from rsa.params.linear import ImageProtocol
from rsa.training.checkpoint import Checkpoints
from tests.conftest import IMAGENET
from tests.evaluation.killed import again_and_again, at_once, equal, last_states

Data = tuple[Params, Split, Split]

PROTOCOL = {
    "lr": [0.3],
    "lr_per_256": False,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.0,
    "epochs": 3,
    "batch_size": 32,
    "schedule": {"schedule": "cosine"},
    "normalize": "none",
    "start": "normal",
    "blocks": [1],
    "pooling": ["avg"],
    "crop_scale": [0.8, 1.0],
    "crop_interpolation": "linear",
    "geometry": None,
    "precision": "float32",
    "held_out": 0.25,
    "best_on_test": False,
}


class Pixels(nn.Module):
    """The image itself, as a backbone with something to be frozen in it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.1 * self.norm(x)


def protocol(**changes: object) -> ImageProtocol:
    return ImageProtocol.model_validate(PROTOCOL | changes)


@pytest.fixture
def data(tiny: Params, train_split: Split, test_split: Split) -> Data:
    return tiny, train_split, test_split


def scored(data: Data, p: ImageProtocol, backbone: nn.Module | None = None) -> Score:
    tiny, train, test = data
    frozen = Frozen(backbone or Pixels(), Normalize(IMAGENET, torch.device("cpu")), tiny.evaluation, threads=1)
    return at_once(lambda checkpoints: linear_sgd("x", p, frozen, train, test, 0, checkpoints))


def relabelled(split: Split, labels: np.ndarray) -> Split:
    other = split.subset(np.arange(len(split)))
    other.rows = other.rows.copy()
    other.rows["label"] = labels
    return other


def test_a_linear_classifier_of_pixels_knows_most_digits_and_the_encoder_stays_as_it_was(data: Data):
    backbone = build_backbone(data[0].model)
    before = copy.deepcopy(backbone.state_dict())
    scored(data, protocol(epochs=1), backbone)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    score = scored(data, protocol(epochs=5))
    assert score["value"] > 75
    assert score == scored(data, protocol(epochs=5))
    assert (score["held_out_top1"], score["best_on_test"]) == ({}, None)


def test_of_several_rates_the_best_on_held_out_data_is_trained_again_on_everything(data: Data):
    rates = [1e-6, 0.3]
    score = scored(data, protocol(lr=rates))
    assert score["chosen"] == str(Setting(0.3, 1, "avg"))
    _, train_split, _ = data
    kept, out = (train_split.subset(ids) for ids in held_out(train_split.labels, train_split.classes, 0.25, 0))
    for rate in rates:
        alone = scored((data[0], kept, out), protocol(lr=[rate]))["value"]
        assert score["held_out_top1"][str(Setting(rate, 1, "avg"))] == alone
    assert score["value"] == scored(data, protocol(lr=[0.3]))["value"]


def test_killed_while_it_selects_and_while_it_trains_a_protocol_ends_in_the_same_bits(data: Data, tmp_path: Path):
    tiny, train, test = data
    p = protocol(lr=[0.01, 0.3], epochs=2, optimizer="lars", normalize="l2_standardize", best_on_test=True)
    frozen = Frozen(Pixels(), Normalize(IMAGENET, torch.device("cpu")), tiny.evaluation, threads=1)

    def train_both(checkpoints: Checkpoints) -> Score:
        return linear_sgd("x", p, frozen, train, test, 0, checkpoints)

    straight = train_both(Checkpoints(tmp_path / "straight", 1000, 60))
    killed, kills = again_and_again(train_both, tmp_path / "killed")
    assert killed == straight
    assert kills > 4
    assert len(last_states(tmp_path / "straight")) == 2  # classifiers for selection, classifiers for the score
    assert equal(last_states(tmp_path / "killed"), last_states(tmp_path / "straight"))


def test_labels_of_the_test_split_choose_nothing(data: Data):
    tiny, train_split, test_split = data
    p = protocol(lr=[1e-3, 0.03, 0.3], epochs=1)
    honest = scored(data, p)
    blind = scored((tiny, train_split, relabelled(test_split, np.roll(test_split.labels, 1))), p)
    assert blind["chosen"] == honest["chosen"]
    assert blind["held_out_top1"] == honest["held_out_top1"]
    assert blind["value"] < honest["value"]


def test_a_rate_that_diverges_is_not_chosen_and_where_all_do_it_is_an_error(data: Data):
    score = scored(data, protocol(lr=[1e38, 0.3], epochs=1))
    assert score["chosen"] == str(Setting(0.3, 1, "avg"))
    with pytest.raises(FloatingPointError, match="must be finite"):
        scored(data, protocol(lr=[1e38], epochs=1))


def test_best_on_test_is_the_best_of_all_epochs_and_settings_beside_an_unchanged_score(data: Data):
    settings = {"lr": [0.01, 0.3], "epochs": 2}
    honest, both = scored(data, protocol(**settings)), scored(data, protocol(**settings, best_on_test=True))
    assert both["best_on_test"] >= both["value"]
    assert {**both, "best_on_test": None} == honest


def test_standardised_unit_length_features_do_not_depend_on_the_features_units(data: Data):
    class Scaled(Pixels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1000 * super().forward(x)

    p = protocol(normalize="l2_standardize", lr=[0.01], epochs=1)
    want, got = (scored(data, p, backbone) for backbone in (Pixels(), Scaled()))
    assert got["value"] == pytest.approx(want["value"], abs=0.2)


def test_learning_rates_by_hand():
    steps = protocol(epochs=100, schedule={"schedule": "steps", "at": [60, 80], "factor": 0.1})
    assert [_factor(steps, epoch / 100, epoch) for epoch in (0, 59, 60, 79, 80, 99)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert [_factor(protocol(), progress, 0) for progress in (0, 0.5, 0.75)] == pytest.approx(
        [1, 0.5, (1 + math.cos(0.75 * math.pi)) / 2]
    )


def test_class_tokens_of_the_last_blocks_and_mean_patch_are_what_a_vit_gives():
    """Against the blocks' outputs, caught on their way."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=0, depth=3).eval()
    seen = []
    hooks = [block.register_forward_hook(lambda module, inputs, output: seen.append(vit.norm(output))) for block in vit.blocks]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        vit(x)
        for hook in hooks:
            hook.remove()
        found = variants(vit, x, [1, 2], ["cls", "cls_avg"])
    one, two = seen[2][:, 0], torch.cat([seen[1][:, 0], seen[2][:, 0]], 1)
    mean = seen[2][:, 1:].mean(1)
    for key, want in {
        (1, "cls"): one,
        (2, "cls"): two,
        (1, "cls_avg"): torch.cat([one, mean], 1),
        (2, "cls_avg"): torch.cat([two, mean], 1),
    }.items():
        torch.testing.assert_close(found[key], want)


def test_a_network_without_class_token_has_only_its_own_representation(tiny: Params):
    with pytest.raises(ValueError, match=r"pooling must be \[avg\] for a backbone without a class token, got \['cls'\]"):
        variants(build_backbone(tiny.model), torch.zeros(2, 3, 16, 16), [4], ["cls"])
    with pytest.raises(ValueError, match=r"blocks must be \[1\] for pooling avg, got \[1, 4\]"):
        variants(build_backbone(tiny.model), torch.zeros(2, 3, 16, 16), [1, 4], ["avg"])


def test_features_are_standardised_as_rsas_authors_do(data: Data):
    """By the unbiased variance plus 1e-5: a dimension that hardly varies stays small."""
    tiny, train, _ = data

    class Flat(Pixels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([super().forward(x).flatten(1), 1e-3 * x[:, 0, :1, 0], x.new_ones(len(x), 1)], 1)

    p = protocol(normalize="l2_standardize")
    frozen = Frozen(Flat(), Normalize(IMAGENET, torch.device("cpu")), tiny.evaluation, threads=1)
    (h,) = frozen.features(train, p).values()
    unit = h.double() / h.double().norm(dim=1, keepdim=True)
    want = (unit - unit.mean(0)) / (unit.var(0) + 1e-5) ** 0.5
    torch.testing.assert_close(_normalizations(p, frozen, train)[1, "avg"](h), want.float(), rtol=1e-3, atol=1e-4)


def test_a_classifier_starts_as_told():
    torch.manual_seed(3)
    usual = nn.Linear(4096, 5)
    same = _classifier(protocol(start="torch"), 4096, 5, seed=3)
    assert torch.equal(same.weight, usual.weight)
    assert torch.equal(same.bias, usual.bias)
    small = _classifier(protocol(), 4096, 5, seed=3)
    assert small.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert not small.bias.any()
