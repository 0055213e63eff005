"""Adaptive beta: it falls when the model starts to fit its noisy pairs. This schedule is new in this project.

Aggressive pairs are of two kinds: clean pairs keep their semantics and their loss falls early; noisy pairs have lost them
(semantic shift) and their loss stays high until the network memorises them. Networks treat noisy labels in the same way
(Arpit et al. 2017, "A closer look at memorization"; Arazo et al. 2019 fit two components to the losses). Therefore a mixture
of two Gaussians is fitted after every step to the logarithms of the last `window` losses of aggressive pairs, by a few
iterations of expectation maximisation that start at the quartiles, and

    gap(t)  = mean of the upper component - mean of the lower one, averaged over the last steps
    beta(t) = end + (start - end) min over s <= t of  gap(s) / max over r <= s of gap(r),   r, s > after

Gaps are in log-loss, so a uniform decrease leaves them unchanged. While the gap widens, the network learns what the clean
pairs share and beta stays at `start`. When the gap narrows, the noisy pairs are being fitted: beta falls in proportion and
never rises again. Each pair is weighted by its probability of being noisy, so a few outliers have little effect. Beta is
not updated before the fraction `after` of training, because the losses of the first steps fluctuate, nor before the window
is full.

All state is in buffers, so a resumed run is bit-identical. An update is a few operations on `window` numbers on the device,
without synchronisation. With several ranks, every rank uses the losses of all ranks.
"""

import torch
from torch import Tensor, nn

from rsa.distributed import all_gather_with_grad

SMALLEST_LOSS, SMALLEST_STD = 1e-6, 1e-3
ROUNDS = 5  # iterations of expectation maximisation
MEMORY = 0.95  # of the gap's exponential moving average, per step


class AdaptiveBeta(nn.Module):
    """The adaptive schedule. It is called with progress like every schedule, ignores it, and returns beta as a tensor ()."""

    recent: Tensor
    filled: Tensor
    gap: Tensor
    peak: Tensor
    factor: Tensor

    def __init__(self, start: float, end: float, window: int, after: float) -> None:
        super().__init__()
        self.start, self.end, self.after = start, end, after
        self.register_buffer("recent", torch.zeros(window))  # losses
        self.register_buffer("filled", torch.zeros(()))  # losses seen, at most `window`
        self.register_buffer("gap", torch.zeros(()))  # 0: not estimated yet
        self.register_buffer("peak", torch.zeros(()))  # the largest gap
        self.register_buffer("factor", torch.ones(()))

    def forward(self, progress: float) -> Tensor:
        """Return the current beta, ()."""
        return self.end + (self.start - self.end) * self.factor

    @torch.no_grad()
    def observe(self, losses: Tensor) -> None:
        """Add the losses (B,) of aggressive pairs to the window; the oldest ones drop out."""
        new = all_gather_with_grad(losses)[-len(self.recent) :].to(self.recent)
        self.recent.copy_(torch.cat([self.recent[len(new) :], new]))
        self.filled.add_(len(new)).clamp_(max=len(self.recent))

    @torch.no_grad()
    def judge(self, progress: float) -> None:
        """Fit the mixture and lower the factor if the gap has narrowed."""
        if progress <= self.after:
            return
        full = self.filled >= len(self.recent)
        (low, high), _, _ = mixture(self.recent)
        gap = torch.where(self.gap == 0, high - low, torch.lerp(high - low, self.gap, MEMORY))
        self.gap.copy_(torch.where(full, gap, self.gap))
        self.peak.copy_(torch.maximum(self.peak, self.gap))
        ratio = self.gap / self.peak.clamp(min=SMALLEST_STD)
        self.factor.copy_(torch.where(full, torch.minimum(self.factor, ratio), self.factor))


def mixture(losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit two Gaussians to the log-losses; return means, standard deviations and weights, each (2,), the lower one first."""
    x = losses.clamp(min=SMALLEST_LOSS).log()
    means = torch.quantile(x, torch.tensor([0.25, 0.75], dtype=x.dtype, device=x.device))
    stds, shares = x.std().clamp(min=SMALLEST_STD).expand(2), torch.full_like(means, 0.5)
    for _ in range(ROUNDS):
        log = -0.5 * ((x[:, None] - means) / stds) ** 2 - stds.log() + shares.log()
        weights = torch.softmax(log, dim=1)  # (window, 2): responsibilities
        total = weights.sum(0).clamp(min=1e-6)
        means = (weights * x[:, None]).sum(0) / total
        stds = ((weights * (x[:, None] - means) ** 2).sum(0) / total).sqrt().clamp(min=SMALLEST_STD)
        shares = total / len(x)
    order = means.argsort()
    return means[order], stds[order], shares[order]
