"""Copies from the CPU to the device of a run."""

import torch
from torch import Tensor


def upload(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor on the CPU to `device`; a GPU gets it through pinned memory, so that the CPU does not wait."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
