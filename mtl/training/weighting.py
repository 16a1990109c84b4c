"""How the losses of several tasks become one backward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

from torch import Tensor, nn


class Weighting(nn.Module):
    """Turns task losses into gradients."""

    def backward(self, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter]) -> dict[str, float]:
        """Fill the gradients of everything that learns.

        Args:
            losses: Task key -> loss, for the tasks that are labelled in this batch.
            shared: The encoder's trainable weights.

        Returns:
            Task key -> the weight that was used.
        """
        raise NotImplementedError


class FixedWeighting(Weighting):
    """The weighted sum of the losses, with the weights of the configuration.

    Args:
        weights: Task key -> factor.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def backward(self, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter]) -> dict[str, float]:
        """Run one backward pass through the weighted sum. With nothing to learn it does nothing."""
        used = {key: self.weights[key] for key in losses}
        terms = [losses[key] * weight for key, weight in used.items()]
        if terms and (total := reduce(add, terms)).requires_grad:
            total.backward()
        return used
