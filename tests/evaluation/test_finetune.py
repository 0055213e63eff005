from pathlib import Path

import numpy as np
import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.evaluation.finetune import _optimizer, finetune, labelled
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.finetune import FinetuneTraining
from rsa.training.checkpoint import Checkpoints
from tests.conftest import IMAGENET
from tests.evaluation.killed import again_and_again, at_once, equal, last_states

TO_INPUT = Normalize(IMAGENET, torch.device("cpu"))


def fine_tuned(tiny: Params, train: Split, test: Split, **changes: object) -> dict:
    torch.manual_seed(0)
    p = tiny.finetune.training.model_copy(update={"epochs": 3, "crop_scale": (0.8, 1.0), **changes})
    backbone = build_backbone(tiny.model)
    return at_once(lambda checkpoints: finetune(backbone, p, tiny.evaluation, 1, train, test, 0, TO_INPUT, checkpoints))


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_a_percent_of_every_class_is_labelled_by_seed_alone(train_split: Split, percent: int):
    part = labelled(train_split, percent, seed=3)
    count = np.bincount(train_split.labels)
    assert np.bincount(part.labels).tolist() == [max(1, round(n * percent / 100)) for n in count]
    assert part.keys == labelled(train_split, percent, seed=3).keys
    assert part.keys != labelled(train_split, percent, seed=4).keys
    assert len(set(part.keys)) == len(part)
    where = dict(zip(train_split.keys, train_split.labels, strict=True))
    assert [where[key] for key in part.keys] == part.labels.tolist()
    assert labelled(train_split, 100, seed=3) is train_split


def test_fine_tuning_learns_repeats_to_the_bit_and_moves_the_whole_network(tiny: Params, train_split: Split, test_split: Split):
    p = tiny.finetune.training
    faster = p.optimizer.model_copy(update={"base_lr": 0.05})
    score = fine_tuned(tiny, train_split, test_split, epochs=6, optimizer=faster)
    assert score["value"] > 20  # ten classes
    assert score["train_images"] == len(train_split)
    torch.manual_seed(0)
    backbone = build_backbone(tiny.model)
    before = {name: tensor.clone() for name, tensor in backbone.named_parameters()}
    first = at_once(
        lambda checkpoints: finetune(backbone, p, tiny.evaluation, 1, train_split, test_split, 0, TO_INPUT, checkpoints)
    )
    assert not any(torch.equal(tensor, before[name]) for name, tensor in backbone.named_parameters())
    assert first == fine_tuned(tiny, train_split, test_split, epochs=p.epochs, crop_scale=p.crop_scale)


def test_killed_again_and_again_a_fine_tuning_ends_in_the_same_bits(
    tiny: Params, train_split: Split, test_split: Split, tmp_path: Path
):
    """With stochastic depth, which draws from torch's generator at every step."""
    p = tiny.finetune.training.model_copy(update={"epochs": 2})
    args = tiny.model.backbone_args | {"layers": [2, 1, 1, 1], "drop_path_rate": 0.5}
    model = tiny.model.model_copy(update={"backbone_args": args})

    def train(checkpoints: Checkpoints) -> dict:
        torch.manual_seed(0)
        return finetune(build_backbone(model), p, tiny.evaluation, 1, train_split, test_split, 0, TO_INPUT, checkpoints)

    straight = train(Checkpoints(tmp_path / "straight", 1000, 60))
    killed, kills = again_and_again(train, tmp_path / "killed")
    assert killed == straight
    assert kills > 2
    assert equal(last_states(tmp_path / "killed"), last_states(tmp_path / "straight"))


def test_fewer_labels_than_a_batch_are_one_batch(tiny: Params, train_split: Split, test_split: Split):
    few = labelled(train_split, 1, 0)
    assert len(few) < tiny.finetune.training.batch_size
    assert fine_tuned(tiny, few, test_split)["steps"] == 3


def test_rates_fall_from_block_to_block_and_every_parameter_is_in_one_group(tiny: Params):
    backbone, classifier = build_backbone(tiny.model), nn.Linear(8, 10)
    p = FinetuneTraining.model_validate(tiny.finetune.training.model_dump() | {"layer_decay": 0.5})
    groups = _optimizer(backbone, classifier, p).param_groups
    everything = [parameter for group in groups for parameter in group["params"]]
    assert {id(x) for x in everything} == {id(x) for x in [*backbone.parameters(), *classifier.parameters()]}
    assert len(everything) == len({id(x) for x in everything})
    scales = {group["lr_scale"] for group in groups}
    assert max(scales) == 1.0
    assert all(scale == 0.5 ** round(-np.log2(scale)) for scale in scales)
    first = next(group for group in groups if any(x is next(backbone.parameters()) for x in group["params"]))
    assert first["lr_scale"] == min(scales)
    for group in groups:
        assert all((x.ndim > 1) == (group["weight_decay"] > 0) for x in group["params"])
    assert len(param_groups_layer_decay(backbone, 0.05)) > 2


def test_a_rate_that_diverges_is_an_error(tiny: Params, train_split: Split, test_split: Split):
    with pytest.raises(FloatingPointError, match=r"at step \d+ of \d+: lower finetune\.training\.optimizer\.base_lr"):
        fine_tuned(tiny, train_split, test_split, optimizer=tiny.finetune.training.optimizer.model_copy(update={"base_lr": 1e38}))
