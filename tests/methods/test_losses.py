"""The loss of every method against its paper written again in NumPy, and against lightly's where it does the same thing.

Inputs are float64 embeddings, so equality is to rounding and gradients can be compared with finite differences.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from lightly.loss import BarlowTwinsLoss, DINOLoss, IBOTPatchLoss, NegativeCosineSimilarity, NTXentLoss

from rsa.methods import barlow_twins, dino, ibot, method_class, moco_v3, simclr, simsiam, supervised
from rsa.methods.method import Method
from tests.methods.networks import Backbone
from tests.methods.paper import numeric_gradient
from tests.methods.sections import section

B, P = 5, 4
F64 = np.ndarray


def build(name: str, **changes: Any) -> Method:
    torch.manual_seed(0)
    return method_class(name)(Backbone(), section(name, **changes)).double().train()


def arrays(count: int, seed: int = 0, shape: tuple[int, ...] = (B, P)) -> list[F64]:
    return list(np.random.default_rng(seed).normal(size=(count, *shape)))


def unit(x: F64) -> F64:
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def softmax(x: F64) -> F64:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- the papers ----------------------------------------------------------------------------------


def simsiam_paper(p1: F64, p2: F64, z1: F64, z2: F64) -> F64:
    return -((unit(p1) * unit(z2)).sum(1) + (unit(p2) * unit(z1)).sum(1)) / 2


def simclr_paper(z1: F64, z2: F64, temperature: float = 0.2) -> F64:
    """Equation 1, sample by sample."""
    z = unit(np.concatenate([z1, z2]))
    losses = np.zeros(2 * B)
    for i in range(2 * B):
        partner = (i + B) % (2 * B)
        numerator = np.exp(z[i] @ z[partner] / temperature)
        denominator = sum(np.exp(z[i] @ z[k] / temperature) for k in range(2 * B) if k != i)
        losses[i] = -np.log(numerator / denominator)
    return (losses[:B] + losses[B:]) / 2


def barlow_paper(z1: F64, z2: F64, off_diagonal: float = 0.005) -> float:
    """The loss of the batch: equations 1 and 2."""
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z1, z2))
    loss = 0.0
    for i in range(P):
        for j in range(P):
            c = (a[:, i] * b[:, j]).mean()
            loss += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return loss


def moco_paper(q1: F64, q2: F64, k1: F64, k2: F64, temperature: float = 0.2) -> F64:
    """Algorithm 1."""

    def ctr(q: F64, k: F64) -> F64:
        similarity = softmax(unit(q) @ unit(k).T / temperature)
        return -2 * temperature * np.log(similarity.diagonal())

    return ctr(q1, k2) + ctr(q2, k1)


def dino_paper(students: list[F64], teachers: list[F64], center: F64, teacher_temperature: float) -> F64:
    total, terms = np.zeros(B), 0
    for t, teacher in enumerate(teachers):
        for v, student in enumerate(students):
            if t != v:
                total += -(softmax((teacher - center) / teacher_temperature) * np.log(softmax(student / 0.1))).sum(1)
                terms += 1
    return total / terms


# ---- ours, as functions of arrays ----------------------------------------------------------------

EMBEDDED: dict[str, Callable[..., Any]] = {
    "simsiam": lambda p1, p2, z1, z2: simsiam.SimSiamEmbeddings((p1, p2), (z1, z2)),
    "simclr": lambda z1, z2: simclr.SimCLREmbeddings((z1, z2)),
    "barlow_twins": lambda z1, z2: barlow_twins.BarlowTwinsEmbeddings((z1, z2)),
    "moco_v3": lambda q1, q2, k1, k2: moco_v3.MoCoEmbeddings((q1, q2), (k1, k2)),
}
PAPERS: dict[str, tuple[int, Callable[..., Any]]] = {
    "simsiam": (4, simsiam_paper),
    "simclr": (2, simclr_paper),
    "barlow_twins": (2, barlow_paper),
    "moco_v3": (4, moco_paper),
}


def ours(name: str, inputs: list[Any]) -> torch.Tensor:
    return build(name).losses(EMBEDDED[name](*(torch.as_tensor(x) for x in inputs)), 0.5)["loss"]


@pytest.mark.parametrize("name", PAPERS)
def test_the_loss_is_the_papers(name: str):
    count, paper = PAPERS[name]
    inputs = arrays(count)
    got, want = ours(name, inputs), np.asarray(paper(*inputs))
    assert got.shape == (B,)
    assert float(got.mean()) == pytest.approx(float(want.mean()), rel=1e-10)
    if want.shape == (B,):
        np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("name", PAPERS)
def test_the_gradient_is_that_of_finite_differences(name: str):
    count, paper = PAPERS[name]
    inputs = arrays(count, seed=1)
    online = 2  # the first two are online embeddings, the others targets
    tensors = [torch.tensor(x, requires_grad=i < online) for i, x in enumerate(inputs)]
    ours(name, tensors).mean().backward()
    for i in range(online):
        want = numeric_gradient(lambda x: float(np.mean(paper(*inputs[:i], x, *inputs[i + 1 :]))), inputs[i])  # noqa: B023
        np.testing.assert_allclose(tensors[i].grad, want, atol=1e-8)


@pytest.mark.parametrize("name", PAPERS)
def test_swapping_the_views_changes_nothing(name: str):
    inputs = arrays(PAPERS[name][0], seed=2)
    swapped = [inputs[i ^ 1] for i in range(len(inputs))]
    torch.testing.assert_close(ours(name, inputs), ours(name, swapped), rtol=1e-10, atol=1e-10)


# ---- DINO and iBOT -------------------------------------------------------------------------------

K = 12  # prototypes


def test_dino_is_the_papers_with_local_views_centre_and_warm_temperature():
    students, teachers, center = arrays(5, shape=(B, K)), arrays(2, 3, (B, K)), arrays(1, 4, (K,))[0]
    method = build("dino")
    method.center.copy_(torch.tensor(center))
    embedded = dino.DINOEmbeddings(tuple(map(torch.tensor, students)), (*map(torch.tensor, teachers), None, None, None))
    for progress, temperature in ((0.15, 0.055), (0.3, 0.07), (0.9, 0.07)):  # a line from 0.04 to 0.07 over the first 0.3
        got = method.losses(embedded, progress)["loss"]
        np.testing.assert_allclose(got, dino_paper(students, teachers, center, temperature), rtol=1e-10)


def test_dinos_gradient_is_that_of_finite_differences():
    students, teachers = arrays(3, 5, (B, K)), arrays(2, 6, (B, K))
    tensors = [torch.tensor(x, requires_grad=True) for x in students]
    embedded = dino.DINOEmbeddings(tuple(tensors), (*map(torch.tensor, teachers), None))
    build("dino").losses(embedded, 0.9)["loss"].mean().backward()
    for i in range(3):
        want = numeric_gradient(
            lambda x: dino_paper([*students[:i], x, *students[i + 1 :]], teachers, np.zeros(K), 0.07).mean(),  # noqa: B023
            students[i],
        )
        np.testing.assert_allclose(tensors[i].grad, want, atol=1e-7)


def test_ibots_patch_loss_is_the_papers():
    rng = np.random.default_rng(0)
    sample = np.array([0, 0, 2, 3, 3, 3])
    student, teacher = rng.normal(size=(2, 6, K))
    center = rng.normal(size=K)
    method = vit_ibot()
    method.patch_center.copy_(torch.tensor(center))
    count = np.bincount(sample, minlength=B)
    patches = ibot.Patches(*map(torch.tensor, (student, teacher, sample, count)), torch.zeros(K))
    (got,) = method._patch_losses(SimpleNamespace(patches=(patches, None)), 0.9).values()
    each = -(softmax((teacher - center) / 0.07) * np.log(softmax(student / 0.1))).sum(1)
    want = [each[sample == i].mean() if (sample == i).any() else 0 for i in range(B)]
    np.testing.assert_allclose(got, want, rtol=1e-10)


def vit_ibot() -> Method:
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=0,
        img_size=16,
        patch_size=4,
        embed_dim=12,
        depth=1,
        num_heads=2,
        dynamic_img_size=True,
    )
    return ibot.IBOT(vit, section("ibot")).double().train()


# ---- lightly -------------------------------------------------------------------------------------


def test_simclr_is_lightlys():
    z1, z2 = map(torch.tensor, arrays(2, 7))
    assert float(ours("simclr", [z1, z2]).mean()) == pytest.approx(float(NTXentLoss(temperature=0.2)(z1, z2)), rel=1e-6)


def test_simsiam_is_lightlys():
    p1, p2, z1, z2 = map(torch.tensor, arrays(4, 8))
    negative = NegativeCosineSimilarity()
    want = (negative(p1, z2) + negative(p2, z1)) / 2
    assert float(ours("simsiam", [p1, p2, z1, z2]).mean()) == pytest.approx(float(want), rel=1e-6)


def test_barlow_twins_is_lightlys():
    z1, z2 = map(torch.tensor, arrays(2, 9))
    assert float(ours("barlow_twins", [z1, z2]).mean()) == pytest.approx(
        float(BarlowTwinsLoss(lambda_param=0.005)(z1, z2)), rel=1e-4
    )


def test_dino_and_its_centre_are_lightlys():
    students, teachers = torch.tensor(np.stack(arrays(4, 10, (B, K)))), torch.tensor(np.stack(arrays(2, 11, (B, K))))
    theirs = DINOLoss(output_dim=K, warmup_teacher_temp=0.07, teacher_temp=0.07, student_temp=0.1, center_momentum=0.9).double()
    method = build("dino")
    embedded = dino.DINOEmbeddings(tuple(students), (*teachers, None, None))
    for _ in range(2):  # the second time with a centre
        want = float(theirs(list(teachers), list(students)))
        assert float(method.losses(embedded, 0.9)["loss"].mean()) == pytest.approx(want, rel=1e-6)
        method.after_backward(embedded)
        method.after_step(0.9)


def test_ibots_patch_loss_and_its_centre_are_lightlys():
    rng = np.random.default_rng(1)
    mask = torch.tensor(rng.random((B, 4, 4)) < 0.4)
    everything = torch.tensor(rng.normal(size=(B, 16, K)))
    where = mask.flatten(1)
    student = torch.tensor(rng.normal(size=(int(where.sum()), K)))
    theirs = IBOTPatchLoss(output_dim=K, teacher_temp=0.07, student_temp=0.1, center_momentum=0.9).double()
    want = float(theirs(everything[where], student, mask))
    patches = ibot.Patches(student, everything[where], where.nonzero()[:, 0], where.sum(1), everything[where].mean(0))
    (got,) = vit_ibot()._patch_losses(SimpleNamespace(patches=(patches,)), 0.9).values()
    assert float(got.mean()) == pytest.approx(want, rel=1e-6)


# ---- supervised ----------------------------------------------------------------------------------


def test_supervised_is_cross_entropy_with_smoothed_labels():
    (logits,), labels = arrays(1, shape=(B, 3)), np.array([0, 2, 1, 1, 0])
    target = np.full((B, 3), 0.1 / 3)
    target[np.arange(B), labels] += 0.9
    got = build("supervised").losses(supervised.SupervisedEmbeddings((torch.tensor(logits),), (torch.tensor(labels),)), 0.5)
    np.testing.assert_allclose(got["loss"], -(target * np.log(softmax(logits))).sum(1), rtol=1e-10)
    np.testing.assert_array_equal(got["top1"], 100.0 * (logits.argmax(1) == labels))
