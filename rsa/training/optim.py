"""The optimiser that params.yaml names, and its learning rate as a function of progress."""

from collections.abc import Callable
from functools import partial

import torch

from rsa.params import SGD, Pretrain
from rsa.schedules import warmup_cosine
from rsa.training.loop import Method


def build_optimizer(method: Method, p: SGD) -> torch.optim.Optimizer:
    """SGD over the parameters that get a gradient; the loop sets the learning rate before each step."""
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    return torch.optim.SGD(parameters, lr=0.0, momentum=p.momentum, weight_decay=p.weight_decay)


def learning_rate(p: SGD, pretrain: Pretrain) -> Callable[[float], float]:
    """lr(progress): base_lr x batch_size / 256 (Goyal et al. 2017, linear scaling), warmed up, then half a cosine to 0."""
    peak = p.base_lr * pretrain.batch_size / 256
    factor = partial(warmup_cosine, warmup=pretrain.warmup_epochs / pretrain.epochs)
    return lambda progress: peak * factor(progress)
