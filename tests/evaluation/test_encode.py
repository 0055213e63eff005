import numpy as np
import torch

from rsa.data.normalize import Normalize
from rsa.evaluation.encode import frozen
from rsa.models.backbones import build_backbone
from rsa.params.document import Params
from tests.conftest import IMAGENET

CPU = torch.device("cpu")


def images(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_extraction_moves_nothing_in_the_encoder(tiny: Params):
    """A known fault of the reference: the probe's train mode moves the frozen backbone's batch norms."""
    backbone = build_backbone(tiny.model).train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    encode = frozen(backbone, Normalize(IMAGENET, CPU))
    for _ in range(3):
        encode(images())
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_features_of_an_image_do_not_depend_on_its_batch(tiny: Params):
    encode = frozen(build_backbone(tiny.model), Normalize(IMAGENET, CPU))
    whole = encode(images())
    alone = np.concatenate([encode(images()[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(whole, alone, atol=1e-5)


def test_features_are_the_backbones_output_for_normalised_images(tiny: Params):
    backbone = build_backbone(tiny.model)
    got = frozen(backbone, Normalize(IMAGENET, CPU))(images())
    x = (images().numpy() / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
    with torch.no_grad():
        want = backbone.eval()(torch.tensor(x, dtype=torch.float32).permute(0, 3, 1, 2))
    np.testing.assert_allclose(got, want.numpy(), atol=1e-4)
    assert got.dtype == np.float32
    assert got.shape == (6, backbone.num_features)
