"""Projection and prediction heads."""

from torch import nn


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """BYOL's head (Grill et al. 2020, section 3.3): linear, batch norm, ReLU, linear; (B, inputs) -> (B, outputs)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))
