"""RSA's step as one writes it by hand for speed: autocast, channels_last, fused SGD, no logging, no determinism."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_rows.pretraining import Training
from benchmarks.gpu_rows.stopwatch import Stopwatch

BETA, TAU = 0.4, 0.99


def rsa_step(training: Training) -> Callable[[], None]:
    """Return a step of RSA on one batch, with the networks of `training`."""
    m: Any = training.model
    device = training.device
    online, target = [m.backbone, m.projector], [m.target_backbone, m.target_projector]
    moving, still = ([w for part in network for w in part.parameters()] for network in (target, online))
    trained = [w for w in m.parameters() if w.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.03, momentum=0.9, weight_decay=5e-4, fused=True)
    normalize = training.p.views.normalize
    mean, std = (255 * torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (normalize.mean, normalize.std))
    views = training.made[0].views

    def d(q: Tensor, z: Tensor) -> Tensor:
        return 2 - 2 * F.cosine_similarity(q, z.detach()).mean()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(moving, still, 1 - TAU)
        with torch.autocast(device.type, torch.bfloat16):
            w1, w2, a1, a2 = ((view.permute(0, 3, 1, 2).float() - mean) / std for view in views)
            q1, q2 = (m.predictor(m.projector(m.backbone(x))) for x in (a1, a2))
            with torch.no_grad():
                z1, z2 = (m.target_projector(m.target_backbone(x)) for x in (w1, w2))
            loss = BETA * (d(q1, q2) + d(q2, q1)) + (1 - BETA) * (d(q1, z2) + d(q2, z1))
        loss.backward()
        optimizer.step()

    return step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of a whole step."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def step_laps(step: Callable[[], object], device: torch.device, warm: int, measured: int) -> list[float]:
    """Return the seconds of each of the `measured` steps after `warm` others."""
    watch = Stopwatch(device)
    for _ in watch.before_each(range(warm + measured)):
        step()
    watch.mark()
    return watch.laps()[warm:]
