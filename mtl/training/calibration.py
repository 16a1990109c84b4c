"""Confidences that keep their word: a temperature for the logits, and how far confidence and accuracy are apart.

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599. N texts or tokens, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.data.batching import IGNORE_INDEX

FEWEST_ROWS = 20
LOWEST, HIGHEST = 0.05, 20.0
BINS = 15
HALVINGS = 32  # of log T's range of 6, which leaves 1e-9
# A mean loss that falls by less is no gain; logits that are all equal gain nothing at any temperature.
SMALLEST_GAIN = 1e-6


@dataclass(frozen=True)
class Bin:
    """The predictions whose confidence lies in one interval.

    Attributes:
        low: The confidence is above it.
        high: Or equal to it.
        count: How many predictions.
        confidence: Their mean; None if there are none.
        accuracy: How many of them are right, as a share; likewise.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the T for which softmax(logits / T) has the least negative log-likelihood; it changes no prediction.

    The loss is convex in 1 / T, so the one root of its slope is found by halving an interval of log T. One more row is
    assumed that could be any class, spread over all rows (as in Platt 1999): without it a few rows that are all right
    would ask for a confidence of exactly 1.

    Args:
        logits: Of rows that were not learnt from. Shape: (N, C).
        labels: Class indices, `IGNORE_INDEX` among them. Shape: (N,).

    Returns:
        From 0.05 to 20; 1.0 if fewer than 20 rows are labelled, or if nothing is gained.
    """
    labelled = labels != IGNORE_INDEX
    values, truth = logits[labelled].double(), labels[labelled]
    if len(values) < FEWEST_ROWS or not bool(values.isfinite().all()):
        return 1.0
    doubt = 1 / (len(values) + 1)
    wanted = values.gather(1, truth[:, None]).squeeze(1).lerp(values.mean(dim=1), doubt)

    def slope(inverse: float) -> float:
        """The derivative of the loss by 1 / T."""
        expected = ((values * inverse).softmax(dim=1) * values).sum(dim=1)
        return float((expected - wanted).mean())

    def loss(inverse: float) -> float:
        return float(((values * inverse).logsumexp(dim=1) - wanted * inverse).mean())

    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(-middle)) < 0 else (middle, high)
    best = math.exp((low + high) / 2)
    return best if loss(1.0) - loss(1 / best) > SMALLEST_GAIN else 1.0


def calibrated(logits: Tensor, temperature: float) -> Tensor:
    """Turn logits into probabilities. Shape of both: (N, C)."""
    return F.softmax(logits.double() / temperature, dim=1)


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> list[Bin]:
    """Sort the labelled predictions into intervals of equal width by their confidence: a reliability diagram.

    Args:
        probabilities: Shape: (N, C).
        labels: Class indices, `IGNORE_INDEX` among them. Shape: (N,).
        bins: How many intervals divide the way from 0 to 1.
    """
    labelled = labels != IGNORE_INDEX
    confidences, guesses = probabilities[labelled].double().max(dim=1)
    right = (guesses == labels[labelled]).double()
    index = (confidences * bins).ceil().long().clamp(1, bins) - 1
    counts = torch.bincount(index, minlength=bins).tolist()
    sums = torch.bincount(index, confidences, minlength=bins).tolist()
    hits = torch.bincount(index, right, minlength=bins).tolist()
    return [
        Bin(n / bins, (n + 1) / bins, count, sums[n] / count if count else None, hits[n] / count if count else None)
        for n, count in enumerate(counts)
    ]


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Average how far confidence and accuracy are apart (ECE): sum over the bins of n / N * |accuracy - confidence|.

    The confidence of a prediction is the probability of its class, the greatest one; n of the N labelled predictions
    lie in a bin (`reliability`). 0 where nothing is labelled.

    Args:
        probabilities: Shape: (N, C).
        labels: Class indices, `IGNORE_INDEX` among them. Shape: (N,).
        bins: Intervals of equal width.
    """
    return calibration_error(reliability(probabilities, labels, bins))


def calibration_error(bins: list[Bin]) -> float:
    """Sum up bins as `expected_calibration_error` does."""
    total = sum(bin.count for bin in bins)
    apart = [
        bin.count * abs(bin.accuracy - bin.confidence)
        for bin in bins
        if bin.accuracy is not None and bin.confidence is not None
    ]
    return sum(apart) / max(1, total)
