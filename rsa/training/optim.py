"""The optimiser that params.yaml names, and its learning rate and weight decay as functions of progress."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from rsa.params import optimizer as params
from rsa.params.optimizer import SGD, AdamW, Optimizer
from rsa.params.pretrain import Pretrain
from rsa.schedules import cosine, warmup_cosine
from rsa.training.lars import LARS


def build_optimizer(
    parameters: Iterable[nn.Parameter], constant_lr: Iterable[nn.Parameter], p: Optimizer
) -> torch.optim.Optimizer:
    """Build the optimiser of all parameters that require a gradient; `set_schedules` sets its rates before each step.

    SGD applies weight decay to every parameter, as RSA's and SimSiam's authors do. LARS and AdamW exclude biases and norms
    (1-D parameters), to which LARS may give a rate of their own; MoCo v3's authors have AdamW decay those, too: `decay_all`.
    """
    constant = {id(parameter) for parameter in constant_lr}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 or isinstance(p, SGD) or (isinstance(p, AdamW) and p.decay_all)
            groups.setdefault((decayed, id(parameter) in constant), []).append(parameter)
    param_groups: list[dict[str, Any]] = [
        {"params": members, "decayed": decayed, "constant_lr": fixed, "weight_decay": p.weight_decay if decayed else 0.0}
        for (decayed, fixed), members in groups.items()
    ]
    fused = all(member.device.type != "meta" for group in param_groups for member in group["params"])  # a single pass over memory
    if isinstance(p, AdamW):
        return torch.optim.AdamW(param_groups, lr=0.0, betas=p.betas, fused=fused)
    if isinstance(p, params.LARS):
        return LARS(param_groups, 0.0, momentum=p.momentum, trust=p.trust)
    return torch.optim.SGD(param_groups, lr=0.0, momentum=p.momentum, fused=fused)


def set_schedules(optimizer: torch.optim.Optimizer, p: Optimizer, pretrain: Pretrain, progress: float) -> dict[str, float]:
    """Set each group's learning rate and weight decay for `progress`; return the scheduled values for the curve."""
    lr = learning_rate(p, pretrain, progress)
    vectors = (p.vector_base_lr or p.base_lr) / p.base_lr if isinstance(p, params.LARS) else 1.0
    decay = cosine(progress, p.weight_decay, p.end_weight_decay) if isinstance(p, AdamW) else p.weight_decay
    for group in optimizer.param_groups:
        group["lr"] = (peak(p, pretrain) if group["constant_lr"] else lr) * (1.0 if group["decayed"] else vectors)
        group["weight_decay"] = decay if group["decayed"] else 0.0
    return {"lr": lr, "weight_decay": decay} if isinstance(p, AdamW) else {"lr": lr}


def peak(p: Optimizer, pretrain: Pretrain) -> float:
    """Return the peak learning rate, base_lr x batch_size / 256 (linear scaling, Goyal et al. 2017)."""
    return p.base_lr * pretrain.batch_size / 256


def learning_rate(p: Optimizer, pretrain: Pretrain, progress: float) -> float:
    """Return the learning rate: linear warmup to the peak, then half a cosine to 0 (AdamW: end_lr; LARS: end_share of the peak).

    It follows the step, as in the code of RSA's authors for ImageNet, of DINO's, iBOT's, MoCo v3's and Barlow Twins', which count
    steps from 0, so that each rate comes one step later. RSA's for small images and SimSiam's lower it once an epoch.
    """
    end = p.end_lr if isinstance(p, AdamW) else p.end_share * peak(p, pretrain) if isinstance(p, params.LARS) else 0.0
    return warmup_cosine(progress, pretrain.warmup_epochs / pretrain.epochs, peak(p, pretrain), end)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], p: Optimizer) -> None:
    """Clip gradients: each parameter's to the norm `clip_each` (DINO's authors), all of them together to `clip_norm` (HVP's)."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if p.clip_each is not None:
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        norms = torch._foreach_norm(gradients)
        torch._foreach_mul_(gradients, [(p.clip_each / (norm + 1e-6)).clamp(max=1.0) for norm in norms])
    if p.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, p.clip_norm)
