"""Weightings that only multiply losses: by what the person says, by epoch, loss or score, at random, or as learned."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl.training.weighting.base import Weighting, own_randomness, random_state

MOST_LOG_VARIANCE = 10.0
SMALLEST_LOSS, SMALLEST_SCORE = 1e-12, 1e-3


class FixedWeighting(Weighting):
    """The weighted sum of the losses, with weights that stay."""


class RampWeighting(Weighting):
    """Each weight moves in a straight line from its value in the first epoch to that in the last.

    Args:
        weights: Task key -> factor in the first epoch.
        final: Task key -> factor in the last epoch.
        epochs: Of the whole run; of a single one it is the first.
        clip: As in `Weighting`.
    """

    epoch: Tensor

    def __init__(
        self, weights: Mapping[str, float], final: Mapping[str, float], *, epochs: int, clip: float | None = None
    ) -> None:
        super().__init__(weights, clip=clip)
        self.final, self.epochs = dict(final), epochs
        self.register_buffer("epoch", torch.tensor(1))

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the weights of the current epoch."""
        passed = min(1.0, (int(self.epoch) - 1) / max(1, self.epochs - 1))
        return {key: self.weights[key] + passed * (self.final[key] - self.weights[key]) for key in losses}

    def begin_epoch(self, epoch: int) -> None:
        """Move the weights to where they are in this epoch."""
        self.epoch.fill_(epoch)

    def end_epoch(self, epoch: int, losses: Mapping[str, float], scores: Mapping[str, float]) -> None:
        """Move the weights on by one epoch."""
        self.begin_epoch(epoch + 1)


class UncertaintyWeighting(Weighting):
    """Homoscedastic uncertainty (Kendall 2018, arXiv:1705.07115): the sum of 0.5 * exp(-s) * loss + 0.5 * s.

    s is the logarithm of a task's variance, starts at 0 and learns along. It settles where exp(s) is the loss, so a
    factor that the person gives is undone in time.

    Args:
        weights: As in `Weighting`.
        clip: As in `Weighting`.
    """

    def __init__(self, weights: Mapping[str, float], *, clip: float | None = None) -> None:
        super().__init__(weights, clip=clip)
        self.log_variances = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in weights)

    @property
    def _own(self) -> dict[str, nn.Parameter]:
        return dict(zip(self.weights, self.log_variances, strict=True))

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return 0.5 * exp(-s), with its graph.

        A loss that has become exactly 0 would drive s down without end, so s stays within +-10.
        """
        own = self._own
        with torch.no_grad():
            for key in losses:
                own[key].clamp_(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)
        return {key: 0.5 * self.weights[key] * torch.exp(-own[key]) for key in losses}

    def terms(self, losses: Mapping[str, Tensor], factors: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        """Return the weighted losses, each with the price of its uncertainty."""
        own = self._own
        return {key: loss * factors[key] + 0.5 * own[key] for key, loss in losses.items()}


class DynamicWeightAverage(Weighting):
    """More for a task whose loss falls slowly (Liu 2019, arXiv:1803.10704): K * softmax(r / temperature).

    r is a task's mean loss of the last epoch by that of the epoch before; 1 as long as the two are not known, so all
    weights are 1 in the first two epochs.

    Args:
        weights: As in `Weighting`.
        temperature: Higher is nearer to equal weights.
        clip: As in `Weighting`.
    """

    losses: Tensor

    def __init__(self, weights: Mapping[str, float], *, temperature: float, clip: float | None = None) -> None:
        super().__init__(weights, clip=clip)
        self.temperature = temperature
        self.register_buffer("losses", torch.full((2, len(weights)), math.nan))  # before the last epoch; in the last

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the weights of this epoch, of all tasks."""
        before, last = self.losses.tolist()
        ratios = [1.0 if math.isnan(b) else a / max(b, SMALLEST_LOSS) for a, b in zip(last, before, strict=True)]
        highest = max(ratios)
        parts = [math.exp((ratio - highest) / self.temperature) for ratio in ratios]
        total = sum(parts)
        return {
            key: weight * len(parts) * part / total
            for (key, weight), part in zip(self.weights.items(), parts, strict=True)
        }

    def end_epoch(self, epoch: int, losses: Mapping[str, float], scores: Mapping[str, float]) -> None:
        """Remember the losses of an epoch; a task that had none keeps its last two."""
        for place, key in enumerate(self.weights):
            if key in losses:
                self.losses[0, place] = self.losses[1, place]
                self.losses[1, place] = losses[key]


class DynamicTaskPrioritisation(Weighting):
    """More for a task with a low validation score (Guo 2018, ECCV): -(1 - k)^gamma * ln(k).

    k is the moving average of a task's score, held between 0.001 and 0.999, where the weight is finite and not 0.
    Before the first score the weight is 1, so without validation rows it stays there.

    Args:
        weights: As in `Weighting`.
        gamma: How much a low score counts.
        smoothing: How much of the earlier epochs' score is kept.
        clip: As in `Weighting`.
    """

    scores: Tensor

    def __init__(
        self, weights: Mapping[str, float], *, gamma: float, smoothing: float, clip: float | None = None
    ) -> None:
        super().__init__(weights, clip=clip)
        self.gamma, self.smoothing = gamma, smoothing
        self.register_buffer("scores", torch.full((len(weights),), math.nan))

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the weights of this epoch, of all tasks."""
        known = zip(self.weights.items(), self.scores.tolist(), strict=True)
        return {key: weight * self._priority(score) for (key, weight), score in known}

    def _priority(self, score: float) -> float:
        if math.isnan(score):
            return 1.0
        score = min(max(score, SMALLEST_SCORE), 1 - SMALLEST_SCORE)
        return -((1 - score) ** self.gamma) * math.log(score)

    def end_epoch(self, epoch: int, losses: Mapping[str, float], scores: Mapping[str, float]) -> None:
        """Take the scores of an epoch into the average; a task that has none keeps its own."""
        for place, key in enumerate(self.weights):
            if key in scores:
                before, now = float(self.scores[place]), scores[key]
                first = math.isnan(before)
                self.scores[place] = now if first else self.smoothing * before + (1 - self.smoothing) * now


class RandomWeighting(Weighting):
    """Random loss weighting (Lin 2022, arXiv:2111.10603): the softmax of a normal draw, anew in every step.

    It draws for all tasks whichever are in the batch, so what one batch lacks does not change the draws after it.

    Args:
        weights: As in `Weighting`.
        seed: Of the draws, which leave torch's own random numbers alone.
        clip: As in `Weighting`.
    """

    random_state: Tensor

    def __init__(self, weights: Mapping[str, float], *, seed: int, clip: float | None = None) -> None:
        super().__init__(weights, clip=clip)
        self.register_buffer("random_state", random_state(seed))

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Draw the weights of this step; those of all tasks sum to 1."""
        with own_randomness(self.random_state):
            drawn = torch.randn(len(self.weights)).softmax(dim=0).tolist()
        return {key: weight * share for (key, weight), share in zip(self.weights.items(), drawn, strict=True)}
