"""GradNorm: weights that learn to make the tasks' gradients of one size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.training.weighting.base import Weighting
from mtl.training.weighting.gradients import Gradient, add_gradient, norm, reaches

SMALLEST = 1e-12
SMALLEST_BALANCE = 1e-3


class GradNormWeighting(Weighting):
    """Gradient normalisation (Chen 2018, arXiv:1711.02257).

    A task's gradient should be as long as their mean, times r^alpha: r is the share of its first loss that is left, by
    the mean of these shares. The weights start at 1, learn along in the optimizer, and sum to K. The lengths are taken
    over all shared weights that learn, not over the last layer alone as in the paper: which layer is the last that all
    tasks share depends on the pooling, the kinds of heads and the phase. In a batch of one task, and while nothing
    shared learns, the weights stay. A factor that the person gives is undone in time, as it is part of the length.

    Args:
        weights: As in `Weighting`.
        alpha: How strongly slow tasks are pulled along; 0: all gradients are to be of one length.
        clip: As in `Weighting`.
    """

    takes_apart = True
    first_losses: Tensor

    def __init__(self, weights: Mapping[str, float], *, alpha: float, clip: float | None = None) -> None:
        super().__init__(weights, clip=clip)
        self.alpha = alpha
        self.balances = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in weights)
        self.register_buffer("first_losses", torch.full((len(weights),), math.nan))

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """Return the weights after the optimizer's last step, the sum of all being K again."""
        own = self._renormalised(losses)
        return {key: self.weights[key] * own[key].detach() for key in losses}

    @torch.no_grad()
    def _renormalised(self, present: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
        """Scale the weights of this batch's tasks so that all sum to K; those of the others stay as they are."""
        own = dict(zip(self.weights, self.balances, strict=True))
        if present:
            mine = [own[key].clamp_(min=SMALLEST_BALANCE) for key in present]
            others = [value for key, value in own.items() if key not in present]
            room = len(own) - sum(float(value) for value in others)
            factor = max(room, SMALLEST_BALANCE) / sum(float(value) for value in mine)
            for value in mine:
                value.mul_(factor)
        return own

    def terms(self, losses: Mapping[str, Tensor], factors: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        """Return the weighted losses, and remember the first loss of each task."""
        for place, key in enumerate(self.weights):
            if key in losses and bool(self.first_losses[place].isnan()):
                self.first_losses[place] = losses[key].detach()
        return super().terms(losses, factors)

    def combine(
        self,
        gradients: Iterator[tuple[str, Gradient]],
        shared: Sequence[nn.Parameter],
        losses: Mapping[str, Tensor],
    ) -> dict[str, float]:
        """Add the gradients up and give the weights theirs."""
        lengths = {}
        for key, gradient in gradients:
            if reaches(gradient):
                lengths[key] = norm(gradient)
            add_gradient(shared, gradient)
        if len(lengths) > 1:
            self._pull(lengths, losses)
        return {}

    def _pull(self, lengths: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> None:
        """Add the gradient of the sum of |length - target|, where a length is proportional to its task's weight."""
        places = [place for place, key in enumerate(self.weights) if key in lengths]
        keys = [list(self.weights)[place] for place in places]
        device = self.first_losses.device
        length = torch.stack([lengths[key] for key in keys]).to(device).float()
        left = torch.stack([losses[key].detach() for key in keys]).to(device).float()
        left = left / self.first_losses[places].clamp(min=SMALLEST)
        target = length.mean() * (left / left.mean().clamp(min=SMALLEST)) ** self.alpha
        for place, slope in zip(places, torch.sign(length - target) * length, strict=True):
            parameter = self.balances[place]
            found = (slope / parameter.detach()).to(parameter.device)
            parameter.grad = found if parameter.grad is None else parameter.grad + found
