"""Beta that follows the losses: it falls when the model starts to fit its noisy pairs. This project's own.

Aggressive pairs are of two kinds: those that kept their meaning, whose loss falls early, and those that lost it (semantic
shift), whose loss stays high until the network has the capacity left to memorise them. That is how networks meet noisy
labels (Arpit et al. 2017, "A closer look at memorization"; Arazo et al. 2019 fit two components to the losses). So the
losses l of the last `window` aggressive pairs are taken for a mixture of two Gaussians, fitted anew after every step by
one round of expectation maximisation from where the last fit stood, and

    gap(t)  = mean of the upper component - mean of the lower one
    beta(t) = end + (start - end) min over s <= t of  gap(s) / max over r <= s of gap(r)

As long as the gap widens the network learns what the clean pairs share: beta stays at `start`. When it narrows the noisy
pairs are being fitted: beta falls in proportion, and never rises again. A pair counts by its probability of being noisy,
so a few outliers move nothing. Until the window is full for the first time beta is `start`.

All state is in buffers (a run continues to the bit), all work is a few operations on `window` numbers on the device: no
synchronisation. With several ranks, all judge the losses of all.
"""

import torch
from torch import Tensor, nn

from rsa.distributed import gathered

SMALLEST_SHARE = 0.02  # of a component, below which it has no say
SMALLEST_STD = 1e-3


class AdaptiveBeta(nn.Module):
    """Called with progress like every schedule, which it ignores; returns beta as a tensor ()."""

    recent: Tensor
    mixture: Tensor
    filled: Tensor
    peak: Tensor
    factor: Tensor

    def __init__(self, start: float, end: float, window: int) -> None:
        super().__init__()
        self.start, self.end = start, end
        self.register_buffer("recent", torch.zeros(window))
        self.register_buffer("filled", torch.zeros(()))  # losses seen, at most `window`
        self.register_buffer("mixture", torch.zeros(3, 2))  # means, standard deviations, shares; of the lower, the upper
        self.register_buffer("peak", torch.zeros(()))  # the largest gap
        self.register_buffer("factor", torch.ones(()))

    def forward(self, progress: float) -> Tensor:
        """beta, ()."""
        return self.end + (self.start - self.end) * self.factor

    @torch.no_grad()
    def observe(self, losses: Tensor) -> None:
        """The losses (B,) of aggressive pairs push the oldest ones out."""
        new = gathered(losses)[-len(self.recent) :].to(self.recent)
        self.recent.copy_(torch.cat([self.recent[len(new) :], new]))
        self.filled.add_(len(new)).clamp_(max=len(self.recent))

    @torch.no_grad()
    def judge(self) -> None:
        """Fit the mixture and lower the factor where its gap has narrowed."""
        full = self.filled >= len(self.recent)
        first = full & (self.mixture[1].sum() == 0)
        middle, spread = self.recent.mean(), self.recent.std().clamp(min=SMALLEST_STD)
        begin = torch.stack(
            [torch.stack([middle - spread, middle + spread]), spread.expand(2), torch.full_like(spread.expand(2), 0.5)]
        )
        fitted = self._fitted(torch.where(first, begin, self.mixture))
        self.mixture.copy_(torch.where(full, fitted, self.mixture))
        (low, high), _, shares = self.mixture
        gap = torch.where(shares.min() >= SMALLEST_SHARE, (high - low).clamp(min=0), self.peak * self.factor)
        self.peak.copy_(torch.where(full, torch.maximum(self.peak, gap), self.peak))
        ratio = torch.where(self.peak > 0, gap / self.peak.clamp(min=SMALLEST_STD), torch.ones_like(gap))
        self.factor.copy_(torch.where(full, torch.minimum(self.factor, ratio), self.factor))

    def _fitted(self, mixture: Tensor) -> Tensor:
        """One round of expectation maximisation on the recent losses."""
        means, stds, shares = mixture
        x = self.recent[:, None]  # (window, 1)
        log = -0.5 * ((x - means) / stds.clamp(min=SMALLEST_STD)) ** 2 - stds.clamp(min=SMALLEST_STD).log()
        weights = torch.softmax(log + shares.clamp(min=1e-12).log(), dim=1)  # (window, 2): whose each loss is
        total = weights.sum(0).clamp(min=1e-6)
        means = (weights * x).sum(0) / total
        stds = ((weights * (x - means) ** 2).sum(0) / total).sqrt().clamp(min=SMALLEST_STD)
        return torch.stack([means, stds, total / len(x)])
