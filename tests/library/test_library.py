"""A saved encoder, images and features as a notebook uses them, against the pipeline's own path."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import rsa
from rsa.data.index import Split
from rsa.data.normalize import Normalize
from rsa.data.shards import write_shards
from rsa.evaluation.encode import encode_split, frozen
from rsa.models.backbones import build_backbone
from rsa.models.encoder import save_encoder
from rsa.models.pixels import Pixels
from rsa.params.document import Params
from tests.conftest import IMAGENET, described
from tests.data.photos import encoded, photographs, shard_params, source_of
from tests.engines.imports import ROOT

CPU = torch.device("cpu")


@pytest.fixture
def file(tiny: Params, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_encoder(build_backbone(tiny.model), tmp_path / "encoder.safetensors", described(tiny.model))
    return tmp_path / "encoder.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes that differ in colour: 6 images each, of other sizes and modes; one hidden file."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("jay", "robin")):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 100, (20 + number, 30, 3), dtype=np.uint8)
            pixels[:, :, 2 * label] += 150
            Image.fromarray(pixels).save(tmp_path / "birds" / name / f"{number}.png")
    (tmp_path / "birds" / ".thumb.png").write_bytes(b"")
    (tmp_path / "birds" / "notes.txt").write_text("")
    return tmp_path / "birds"


@pytest.mark.parametrize(("resize", "crop"), [(None, None), (20, 16)])
def test_features_of_files_are_those_of_the_pipeline(file: Path, tiny: Params, tmp_path: Path, resize: int, crop: int):
    """But for the rounding of another library's resizing: of pixels in [0, 255] less than a grey value on average."""
    photos = {f"photo_{i:03d}": encoded(image, quality=90) for i, image in enumerate(photographs(8))}
    (tmp_path / "shards").mkdir()
    write_shards(source_of(photos), shard_params(), {"dataset": "photos"}, tmp_path / "shards", tmp_path / "work")
    split = Split(tmp_path / "shards", "train")
    for key in split.keys:
        (tmp_path / f"{key}.jpg").write_bytes(photos[key])
    files = [tmp_path / f"{key}.jpg" for key in split.keys]
    encoder = rsa.load_encoder(file, resize=resize, crop=crop)
    p = tiny.evaluation.model_copy(update={"resize": resize or 16, "crop": crop or 16})
    for backbone in (encoder.backbone, Pixels(IMAGENET.mean, IMAGENET.std)):
        want = np.concatenate(list(encode_split(frozen(backbone, Normalize(IMAGENET, CPU)), split, p, 1, CPU)))
        got = rsa.features(rsa.Encoder(backbone, encoder.description, encoder.transform), files, batch_size=3)
        assert got.shape == want.shape
        assert got.dtype == np.float32
        assert ((got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)).min() > 0.99
    assert np.abs(got - want).mean() < 1 / 255  # of the pixels


def test_an_encoder_is_a_module_in_eval_mode_with_its_transform(file: Path, tiny: Params):
    encoder = rsa.load_encoder(str(file))
    assert not any(module.training for module in encoder.modules())
    image = Image.effect_noise((24, 16), 50)  # grey
    x = encoder.transform(image)
    pixels = np.asarray(image.convert("RGB"))[:, 4:20].transpose(2, 0, 1) / 255  # short side 16 already
    want = (pixels - np.array(IMAGENET.mean)[:, None, None]) / np.array(IMAGENET.std)[:, None, None]
    np.testing.assert_allclose(x, want, atol=1e-6)
    assert encoder(x[None]).shape == (1, encoder.num_features)
    assert type(x) is torch.Tensor
    assert encoder.description == described(tiny.model)
    assert encoder.device.type == "cpu"


def test_encoders_of_the_study_are_loaded_and_have_scores():
    study = ROOT / "studies/cifar10"
    scores = (study / "report/scores.csv").read_text()
    files = list((study / "encoders").iterdir())
    assert len(files) == 7
    for file in files:
        assert rsa.load_encoder(file)(torch.zeros(2, 3, 32, 32)).shape == (2, 128)
        assert f"\n{file.stem},0,cifar10,sklearn," in scores


def test_a_folder_a_list_and_a_tensor_give_the_same_features(file: Path, folder: Path):
    encoder = rsa.load_encoder(file)
    paths = rsa.list_images(folder)
    assert [str(path.relative_to(folder)) for path in paths] == [f"{name}/{i}.png" for name in ("jay", "robin") for i in range(6)]
    of_folder = rsa.features(encoder, folder)
    np.testing.assert_array_equal(rsa.features(encoder, paths, workers=1), of_folder)
    one = torch.from_numpy(np.array(Image.open(paths[3]))).permute(2, 0, 1)
    np.testing.assert_allclose(rsa.features(encoder, one[None]), of_folder[3:4], rtol=1e-5, atol=1e-6)


def test_knn_votes_by_names_of_classes(file: Path, folder: Path, tiny: Params, tmp_path: Path):
    save_encoder(Pixels(IMAGENET.mean, IMAGENET.std), tmp_path / "pixels", described(tiny.model))
    encoder = rsa.load_encoder(tmp_path / "pixels")
    paths = rsa.list_images(folder)
    x, y = rsa.features(encoder, paths), [path.parent.name for path in paths]
    assert x.shape == (12, encoder.num_features) == (12, 3 * 16 * 16)
    assert rsa.knn(x[::2], y[::2], x[1::2], k=3).tolist() == y[1::2]
    with pytest.raises(ValueError, match=r"must agree in N and D, got \(12, 768\), \(11,\) and \(12, 768\)"):
        rsa.knn(x, y[1:], x)


def test_what_cannot_be_used_is_named(file: Path, folder: Path, tmp_path: Path):
    encoder = rsa.load_encoder(file)
    (folder / "jay/1.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"jay/1\.png must be an image that Pillow can decode, got 12 bytes that begin"):
        rsa.features(encoder, folder)
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, 3, H, W\), got torch.float32 \(3, 16, 16\)"):
        rsa.features(encoder, torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match=r"none must hold images \(bmp, .*\), got no folder of this name"):
        rsa.list_images(tmp_path / "none")
    with pytest.raises(ValueError, match=r"crop must be at most resize \(16 px\), got 32"):
        rsa.load_encoder(file, resize=16, crop=32)
    with pytest.raises(ValueError, match=r"none\.safetensors does not exist"):
        rsa.load_encoder(tmp_path / "none.safetensors")


def test_a_damaged_description_is_named(tiny: Params, tmp_path: Path):
    other = tiny.model.model_copy(update={"backbone_args": {"layers": [1, 1, 1, 1], "channels": [16, 8, 8, 8]}})
    save_encoder(build_backbone(other), tmp_path / "encoder.safetensors", described(tiny.model))
    with pytest.raises(ValueError, match=r"encoder\.safetensors must fit the model of its own description, got \d+ tensors"):
        rsa.load_encoder(tmp_path / "encoder.safetensors")


class Flat(nn.Module):
    """The smallest backbone."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mean((2, 3)))


@pytest.mark.parametrize("method", ["byol", "rsa"])
def test_a_method_is_built_around_a_backbone_of_ones_own(method: str):
    torch.manual_seed(0)
    network, views = rsa.build(method, backbone=Flat())
    images = [torch.randn(4, 3, 8, 8) for _ in views.names]
    loss = network.losses(network.embed(images), progress=0.0)["loss"]
    assert loss.shape == (4,)
    loss.mean().backward()
    assert network.backbone.layer.weight.grad.abs().sum() > 0
    torch.manual_seed(0)
    assert torch.equal(rsa.build(method, backbone=Flat()).method.backbone.layer.weight, network.backbone.layer.weight)


def test_a_method_that_a_recipe_does_not_train_is_named():
    with pytest.raises(ValueError, match=r"method must be a method that recipe cifar10_methods trains, got 'random' \("):
        rsa.build("random")
    with pytest.raises(ValueError, match=r"recipe must be .*, got 'cifar11' \(did you mean cifar10"):
        rsa.build("byol", recipe="cifar11")
