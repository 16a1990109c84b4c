"""What all weightings share: the backward passes, in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from mtl.config import WeightingOptions
from mtl.training.weighting.gradients import Gradient, add_gradient, each_gradient

# A seed of the person's is below this, so that no draw of a weighting repeats one of dropout.
OTHER_SEEDS = 2**31


@dataclass(frozen=True)
class TaskWeights:
    """What a weighting is built from. Dictionaries are keyed by task key.

    Attributes:
        weights: The person's factor of each loss.
        final: The factor in the last epoch.
        outputs: C, the width of the logits.
        epochs: Of the whole run.
        seed: Of the run.
        clip: Largest norm of a task's own gradient of the shared weights, if any.
        options: Of the chosen method.
    """

    weights: Mapping[str, float]
    final: Mapping[str, float]
    outputs: Mapping[str, int]
    epochs: int
    seed: int
    clip: float | None
    options: WeightingOptions


class Weighting(nn.Module):
    """Turns task losses into gradients.

    Parameters and buffers are the whole state. A task that is absent from a batch keeps its part of it. Where a task
    has nothing to learn or its weight is 0, it takes no part. Subclasses say how in `weigh`, and in `combine` if they
    must see each task's own gradient.

    Args:
        weights: Task key -> the person's own factor, which every loss is multiplied with first.
        clip: Largest norm of each task's own gradient of the shared weights, before its weight and anything else;
            None: no such clipping.
    """

    takes_apart = False  # whether `combine` needs the gradients of two tasks and more one by one

    def __init__(self, weights: Mapping[str, float], *, clip: float | None = None) -> None:
        super().__init__()
        self.weights, self.clip = dict(weights), clip

    def backward(self, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter]) -> dict[str, float]:
        """Add to the gradients of everything that learns.

        Losses that nothing has to be known of but their sum take one backward pass; otherwise each task takes one.

        Args:
            losses: Task key -> loss, for the tasks that are labelled in this batch.
            shared: The encoder's trainable weights.

        Returns:
            Task key -> the factor of its loss, for gradient surgery of its gradient of the shared weights.
        """
        factors = self.weigh(losses)
        used = {key: _number(factors[key]) for key in losses}
        learning = {key: loss for key, loss in losses.items() if loss.requires_grad and used[key]}
        if not learning:
            return used
        terms = self.terms(learning, factors)
        apart = self.clip is not None or (self.takes_apart and len(terms) > 1)
        if not shared or not apart:
            reduce(add, terms.values()).backward()
            return used
        limits = {} if self.clip is None else {key: self.clip * abs(used[key]) for key in terms}
        changed = self.combine(each_gradient(terms, shared, limits), shared, learning)
        return {key: value * changed.get(key, 1.0) for key, value in used.items()}

    def weigh(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return task key -> the factor of its loss, at least for the tasks of this batch."""
        return self.weights

    def terms(self, losses: Mapping[str, Tensor], factors: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
        """Return task key -> its part of the sum, for the tasks that learn from this batch."""
        return {key: loss * factors[key] for key, loss in losses.items()}

    def combine(
        self,
        gradients: Iterator[tuple[str, Gradient]],
        shared: Sequence[nn.Parameter],
        losses: Mapping[str, Tensor],
    ) -> dict[str, float]:
        """Add the tasks' gradients of the shared weights to those that the weights have.

        Args:
            gradients: Task key and gradient, each from a backward pass that runs when it is asked for.
            shared: The weights.
            losses: Task key -> loss without any weight, of the same tasks.

        Returns:
            Task key -> what its gradient was multiplied with here; a task that is absent: 1.
        """
        for _, gradient in gradients:
            add_gradient(shared, gradient)
        return {}

    def begin_epoch(self, epoch: int) -> None:
        """Say which epoch comes, 1 for the first; only needed where epochs are left out."""

    def end_epoch(self, epoch: int, losses: Mapping[str, float], scores: Mapping[str, float]) -> None:
        """Take in how an epoch went.

        Args:
            epoch: 1 for the first.
            losses: Task key -> mean training loss; tasks without labels are absent.
            scores: Task key -> main score on the validation rows, from 0 to 1; likewise.
        """


def _number(factor: Tensor | float) -> float:
    return factor.item() if isinstance(factor, Tensor) else factor


def random_state(seed: int) -> Tensor:
    """Return a state for `own_randomness` that is apart from the draws of dropout. Shape: (bytes,)."""
    return torch.Generator().manual_seed(OTHER_SEEDS + seed).get_state()


@contextmanager
def own_randomness(state: Tensor) -> Iterator[None]:
    """Let torch draw from a state that is kept in a buffer; its own random numbers go on as if nothing had been drawn.

    Args:
        state: Of a generator on the CPU; moved on in place.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state.cpu())
        yield
        state.copy_(torch.get_rng_state())
