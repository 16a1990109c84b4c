"""Losses of a head, and how much each class counts in them.

N items (texts or tokens), C classes.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.choices import ClassWeights, Loss
from mtl.data.batching import IGNORE_INDEX

BETA = 0.999  # of the effective number of samples


class ItemLoss(Protocol):
    """A loss of logits, shape (N, C), and class indices, shape (N,), averaged over those not `IGNORE_INDEX`."""

    def __call__(
        self, logits: Tensor, labels: Tensor, *, class_weights: Tensor | None, label_smoothing: float, gamma: float
    ) -> Tensor:
        """Compute it.

        Args:
            logits: Shape: (N, C).
            labels: At least one must be labelled. Shape: (N,).
            class_weights: How much an item of each class counts in the mean; None: the same. Shape: (C,).
            label_smoothing: Share of the target that is spread over all classes (Szegedy 2016, arXiv:1512.00567).
            gamma: Of focal loss; the others do not look at it.

        Returns:
            The mean, weighted if there are weights. Shape: ().
        """
        ...


def cross_entropy(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None, label_smoothing: float, gamma: float
) -> Tensor:
    """Average the negative logarithm of the right class's probability. Shape: ()."""
    return F.cross_entropy(
        logits.float(), labels, weight=class_weights, ignore_index=IGNORE_INDEX, label_smoothing=label_smoothing
    )


def focal(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None, label_smoothing: float, gamma: float
) -> Tensor:
    """Average the cross-entropy, each item's times (1 - p)^gamma, p being the right class's probability. Shape: ().

    So it looks away from what is easy already (Lin 2017, arXiv:1708.02002); with a gamma of 0 it is cross-entropy.
    With smoothing, the smoothed cross-entropy is multiplied. The mean divides by the sum of the class weights alone.
    """
    labelled = labels != IGNORE_INDEX
    logits, labels = logits[labelled].float(), labels[labelled]
    losses = F.cross_entropy(logits, labels, weight=class_weights, label_smoothing=label_smoothing, reduction="none")
    right = logits.log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    # where p is 1, the slope of a root (gamma below 1) would be infinite: no gradient there
    rest = (-torch.expm1(right)).clamp(min=torch.finfo(right.dtype).tiny)
    counted = len(labels) if class_weights is None else class_weights[labels].sum()
    return (losses * rest**gamma).sum() / counted


LOSSES: dict[Loss, ItemLoss] = {"cross_entropy": cross_entropy, "focal": focal}


def balanced(counts: Tensor) -> Tensor:
    """Weigh classes so that all have the same share: n / (C n_c), as scikit-learn does. Shape of both: (C,)."""
    return counts.sum() / (len(counts) * counts)


def effective(counts: Tensor) -> Tensor:
    """Weigh classes by the effective number of samples (Cui 2019, arXiv:1901.05555). Shape of both: (C,).

    The weight is (1 - beta) / (1 - beta^n_c), scaled to a mean of 1. It follows `balanced` for rare classes and no
    longer falls above some 1 / (1 - beta) samples.
    """
    weights = (1 - BETA) / (1 - BETA**counts)
    return weights / weights.mean()


WEIGHERS = {"balanced": balanced, "effective": effective}


def weights_of_classes(labels: Tensor, classes: int, method: ClassWeights) -> Tensor | None:
    """Say how much each class counts, from the training targets; None: all the same.

    A class that does not occur has the weight 1, and the others are weighed as if it did not exist: nothing of it
    can be learnt, but the loss of validation rows that hold it must not be undefined.

    Args:
        labels: Class indices, `IGNORE_INDEX` among them. Shape: (N,).
        classes: C.
        method: `none`, `balanced` or `effective`.
    """
    if method == "none":
        return None
    counts = torch.bincount(labels[labels != IGNORE_INDEX].cpu(), minlength=classes).double()
    weights = torch.ones(classes, dtype=torch.double)
    weights[counts > 0] = WEIGHERS[method](counts[counts > 0])
    return weights.float()
