"""No training step dispatches an operator that strict determinism refuses on GPUs. Shown on the CPU, which has them all."""

from pathlib import Path

import pytest
import timm
import torch

from rsa import recipes
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.shards import write_shards
from rsa.data.sources import open_source
from rsa.evaluation.finetune import finetune
from rsa.evaluation.linear_sgd import Frozen, linear_sgd
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from rsa.params.model import Model
from rsa.training.checkpoint import Checkpoints
from tests.training.operators import VIT, Operators, operators_of, small_recipe

# Parts of the names of operators for which torch.use_deterministic_algorithms raises an error on CUDA, from its documentation;
# of pools and interpolations it is the backward pass.
REFUSED = (
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool", "avg_pool3d_backward",
    "fractional_max_pool", "max_pool3d_with_indices_backward", "max_unpool", "upsample_linear1d_backward",
    "upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "upsample_trilinear3d_backward", "_aa_backward",
    "reflection_pad", "replication_pad", "nll_loss2d", "ctc_loss", "embedding_bag", "put_", "histc", "bincount", "kthvalue",
    "median", "grid_sampler", "cumsum", "scatter_reduce", "index_reduce", "roi_align", "roi_pool",
)  # fmt: skip
ALLOWED = ("index_put_", "_unsafe_index_put")  # have deterministic kernels


def refused(operators: set[str]) -> set[str]:
    return {name for name in operators if any(part in name for part in REFUSED) and name.split(".")[0] not in ALLOWED}


STEPS = [(recipe, method) for recipe in recipes.names() for method in recipes.load_recipe(recipe).trained]


@pytest.mark.parametrize(("recipe", "method"), STEPS)
def test_no_step_of_a_recipe_dispatches_an_operator_that_is_refused(recipe: str, method: str):
    assert refused(set(operators_of(small_recipe(recipe), method))) == set()


def test_the_list_names_what_timms_own_resizing_dispatches(monkeypatch: pytest.MonkeyPatch):
    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, **VIT)
    monkeypatch.setattr("timm.models.vision_transformer.resample_abs_pos_embed", timm.layers.resample_abs_pos_embed)
    with Operators() as operators:
        backbone(torch.randn(2, 3, 16, 16)).sum().backward()
    assert refused(set(operators.count)) == {"_upsample_bicubic2d_aa_backward"}


def test_nor_do_linear_classifiers_and_fine_tuning_of_a_vit_at_another_size(tiny: Params, tmp_path: Path):
    write_shards(open_source(tiny.datasets["digits"], 0), tiny.shards, {}, tmp_path, tmp_path / "work")
    train, test = (Split(tmp_path, name) for name in ("train", "test"))
    arguments = {**VIT, "depth": 4, "dynamic_img_size": True}
    backbone = build_backbone(Model(backbone="vit_tiny_patch16_224", backbone_args=arguments, small_stem=False))
    p = recipes.load_recipe("imagenet_hard_dino")
    normalize = Normalize(p.views.normalize, torch.device("cpu"))
    with Operators() as operators:
        short = p.finetune.training.model_copy(update={"epochs": 1, "warmup_epochs": 0, "batch_size": 512})
        finetune(backbone, short, tiny.evaluation, 1, train, test, 0, normalize, Checkpoints(tmp_path / "finetune", 1000, 60))
        for name in p.linear.protocols:
            protocol = p.linear.protocols[name].model_copy(update={"epochs": 1, "batch_size": 512})
            linear_sgd(
                name,
                protocol,
                Frozen(backbone, normalize, tiny.evaluation, 1),
                train,
                test,
                0,
                Checkpoints(tmp_path / name, 1000, 60),
            )
    assert operators.count["native_layer_norm_backward"] > 0
    assert refused(set(operators.count)) == set()
