from __future__ import annotations

import itertools
import math
from typing import get_args

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional as F

from mtl.choices import CLASS_WEIGHTS_HELP, LOSS_HELP, ClassWeights, Loss
from mtl.data.batching import IGNORE_INDEX
from mtl.modeling.heads.losses import LOSSES, WEIGHERS, weights_of_classes

EVERY = settings(max_examples=100, derandomize=True, deadline=None)
WEIGHTS = torch.tensor([0.5, 2.0, 1.0])
# every loss with and without weights and smoothing
VARIANTS = [
    pytest.param(name, weights, smoothing, id=f"{name}-{'weights' if weights is not None else 'equal'}-{smoothing}")
    for name, weights, smoothing in itertools.product(LOSSES, [None, WEIGHTS], [0.0, 0.1])
]
# log 3 against 0 is 3/4 against 1/4
THREE_QUARTERS = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)], [math.log(3), 0.0]])


def loss_of(
    name: Loss,
    logits: Tensor,
    labels: list[int] | Tensor,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    gamma: float = 2.0,
) -> Tensor:
    """Compute a loss; labels may be a list."""
    labels = torch.as_tensor(labels)
    return LOSSES[name](logits, labels, class_weights=weights, label_smoothing=smoothing, gamma=gamma)


def random_logits(count: int = 6, seed: int = 0) -> Tensor:
    """Draw logits of three classes. Shape: (count, 3)."""
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * 2


def test_losses_are_those_of_the_configuration() -> None:
    assert set(LOSSES) == set(get_args(Loss)) == set(LOSS_HELP)
    assert {"none", *WEIGHERS} == set(get_args(ClassWeights)) == set(CLASS_WEIGHTS_HELP)


# ----------------------------------------------------------------------------------------------------- every loss


@pytest.mark.parametrize(("name", "weights", "smoothing"), VARIANTS)
def test_losses_take_nothing_from_items_without_a_label(name: Loss, weights: Tensor | None, smoothing: float) -> None:
    logits = random_logits()
    labels = torch.tensor([0, IGNORE_INDEX, 2, 1, IGNORE_INDEX, 1])
    logits[1] *= 1000  # loud, but not looked at
    logits.requires_grad_()
    whole = loss_of(name, logits, labels, weights, smoothing)
    labelled = labels != IGNORE_INDEX
    alone = loss_of(name, logits[labelled], labels[labelled], weights, smoothing)
    assert whole.item() == pytest.approx(alone.item(), rel=1e-6)
    whole.backward()
    assert logits.grad is not None
    assert bool((logits.grad[~labelled] == 0).all())
    assert bool((logits.grad[labelled] != 0).any(dim=1).all())


@pytest.mark.parametrize(("name", "weights", "smoothing"), VARIANTS)
def test_losses_are_means_weighted_by_the_class(name: Loss, weights: Tensor | None, smoothing: float) -> None:
    logits, labels = random_logits(), [0, 1, 2, 1, 0, 1]
    factors = [1.0 if weights is None else weights[label].item() for label in labels]
    # an item alone is divided by its own weight, which the mean gives back
    alone = [loss_of(name, logits[i : i + 1], [label], weights, smoothing).item() for i, label in enumerate(labels)]
    mean = sum(f * one for f, one in zip(factors, alone, strict=True)) / sum(factors)
    assert loss_of(name, logits, labels, weights, smoothing).item() == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(("name", "weights", "smoothing"), VARIANTS)
def test_losses_fall_when_the_logits_follow_their_gradient(
    name: Loss, weights: Tensor | None, smoothing: float
) -> None:
    logits = random_logits().requires_grad_()
    before = loss_of(name, logits, [0, 1, 2, 1, 0, 1], weights, smoothing)
    (gradient,) = torch.autograd.grad(before, logits)
    assert loss_of(name, logits - 0.01 * gradient, [0, 1, 2, 1, 0, 1], weights, smoothing) < before
    assert gradient.sum(dim=1).abs().max() < 1e-6  # only differences of logits matter


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compute_half_precision_in_full(name: Loss) -> None:
    logits = random_logits().bfloat16()
    assert loss_of(name, logits, [0, 1, 2, 1, 0, 1]).item() == loss_of(name, logits.float(), [0, 1, 2, 1, 0, 1]).item()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_what_is_certain_are_finite(name: Loss, smoothing: float, gamma: float) -> None:
    logits = torch.tensor([[500.0, 0.0, 0.0], [0.0, 500.0, 0.0], [90.0, 0.0, 0.0]], requires_grad=True)
    loss = loss_of(name, logits, [0, 0, 0], smoothing=smoothing, gamma=gamma)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(loss.item())
    assert bool(gradient.isfinite().all())


# --------------------------------------------------------------------------------------------------- cross-entropy


def test_losses_cross_entropy_by_hand() -> None:
    # the right classes have 3/4, 1/4 and 1/4: (-log 3/4 - 2 log 1/4) / 3
    by_hand = -(math.log(0.75) + 2 * math.log(0.25)) / 3
    assert loss_of("cross_entropy", THREE_QUARTERS, [0, 0, 1]).item() == pytest.approx(by_hand, rel=1e-6)


def test_losses_cross_entropy_with_class_weights_by_hand() -> None:
    # the same items, those of class 0 three times as heavy, divided by 3 + 3 + 1
    by_hand = -(3 * math.log(0.75) + 3 * math.log(0.25) + math.log(0.25)) / (3 + 3 + 1)
    found = loss_of("cross_entropy", THREE_QUARTERS, [0, 0, 1], torch.tensor([3.0, 1.0]))
    assert found.item() == pytest.approx(by_hand, rel=1e-6)


def test_losses_cross_entropy_with_smoothing_by_hand() -> None:
    # a target of 0.9 + 0.1/2 and 0.1/2 on the first item
    by_hand = -(0.95 * math.log(0.75) + 0.05 * math.log(0.25))
    found = loss_of("cross_entropy", THREE_QUARTERS[:1], [0], smoothing=0.1)
    assert found.item() == pytest.approx(by_hand, rel=1e-6)


@EVERY
@given(st.integers(0, 1000), st.floats(0, 0.9))
def test_losses_smoothing_is_cross_entropy_to_the_smoothed_target(seed: int, smoothing: float) -> None:
    logits, labels = random_logits(seed=seed), torch.tensor([0, 1, 2, 1, 0, 1])
    target = F.one_hot(labels, 3) * (1 - smoothing) + smoothing / 3
    reference = F.cross_entropy(logits, target)
    assert loss_of("cross_entropy", logits, labels, smoothing=smoothing).item() == pytest.approx(reference.item(), 1e-5)


# ----------------------------------------------------------------------------------------------------------- focal


def test_losses_focal_by_hand() -> None:
    # gamma 2; p = 3/4: (1/4)^2 * -log 3/4; p = 1/4, twice: (3/4)^2 * -log 1/4
    by_hand = -(math.log(0.75) / 16 + 2 * math.log(0.25) * 9 / 16) / 3
    assert loss_of("focal", THREE_QUARTERS, [0, 0, 1]).item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_focal_with_gamma_zero_is_cross_entropy(weights: Tensor | None, smoothing: float) -> None:
    labels = [0, IGNORE_INDEX, 2, 1, 0, 1]
    first, second = random_logits().requires_grad_(), random_logits().requires_grad_()
    focal = loss_of("focal", first, labels, weights, smoothing, gamma=0.0)
    plain = loss_of("cross_entropy", second, labels, weights, smoothing)
    assert focal.item() == pytest.approx(plain.item(), rel=1e-6)
    torch.testing.assert_close(*torch.autograd.grad(focal, first), *torch.autograd.grad(plain, second))


@EVERY
@given(st.floats(-8, 8), st.floats(0, 5))
def test_losses_focal_is_cross_entropy_times_what_is_left_to_learn(logit: float, gamma: float) -> None:
    logits = torch.tensor([[logit, 0.0]])
    p = 1 / (1 + math.exp(-logit))
    expected = (1 - p) ** gamma * -math.log(p)
    assert loss_of("focal", logits, [0], gamma=gamma).item() == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_losses_focal_gradient_by_hand() -> None:
    # z against 0, p = sigmoid(z): d/dz of -(1-p)^g log p is g (1-p)^g p log p - (1-p)^(g+1)   (Lin 2017, appendix B)
    z = torch.tensor([[math.log(3), 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss_of("focal", z, [0], gamma=2.0), z)
    by_hand = 2 * 0.25**2 * 0.75 * math.log(0.75) - 0.25**3
    assert gradient.tolist()[0] == pytest.approx([by_hand, -by_hand], rel=1e-5)


# --------------------------------------------------------------------------------------------------- class weights


def labels_of(*counts: int) -> Tensor:
    """Make labels in which class c occurs counts[c] times, and some missing ones."""
    return torch.tensor([c for c, count in enumerate(counts) for _ in range(count)] + [IGNORE_INDEX] * 5)


def test_losses_no_class_weights_are_none() -> None:
    assert weights_of_classes(labels_of(1, 2), 2, "none") is None


def test_losses_balanced_weights_by_hand() -> None:
    # n / (C n_c): 8 / (2 * 2) and 8 / (2 * 6)
    weights = weights_of_classes(labels_of(2, 6), 2, "balanced")
    assert weights is not None
    assert weights.tolist() == pytest.approx([2, 2 / 3])


def test_losses_effective_weights_by_hand() -> None:
    # beta .999: of 1 item 1, of 1000 (1 - .999) / (1 - .999^1000) = .001 / .632305; then divided by their mean
    rare, frequent = 1.0, 0.001 / (1 - 0.999**1000)
    mean = (rare + frequent) / 2
    weights = weights_of_classes(labels_of(1, 1000), 2, "effective")
    assert weights is not None
    assert weights.tolist() == pytest.approx([rare / mean, frequent / mean], rel=1e-6)
    assert weights.tolist() == pytest.approx([1.9968, 0.0032], abs=1e-4)


@EVERY
@given(st.lists(st.integers(1, 50), min_size=2, max_size=6))
def test_losses_balanced_weights_are_those_of_scikit_learn(counts: list[int]) -> None:
    labels = labels_of(*counts)
    known = labels[labels >= 0].numpy()
    weights = weights_of_classes(labels, len(counts), "balanced")
    assert weights is not None
    reference = compute_class_weight("balanced", classes=np.arange(len(counts)), y=known)
    np.testing.assert_allclose(weights.numpy(), reference, rtol=1e-6)


@pytest.mark.parametrize("method", WEIGHERS)
@EVERY
@given(counts=st.lists(st.integers(1, 3000), min_size=2, max_size=6))
def test_losses_weigh_rare_classes_more(method: ClassWeights, counts: list[int]) -> None:
    weights = weights_of_classes(labels_of(*counts), len(counts), method)
    assert weights is not None
    assert weights.dtype == torch.float32
    assert bool((weights > 0).all())
    for (n, w), (m, v) in itertools.pairwise(sorted(zip(counts, weights.tolist(), strict=True), reverse=True)):
        assert w == pytest.approx(v) if n == m else w < v + 1e-6


@EVERY
@given(counts=st.lists(st.integers(1, 3000), min_size=2, max_size=6))
def test_losses_effective_weights_are_milder_than_balanced(counts: list[int]) -> None:
    spread = []
    for method in ("effective", "balanced"):
        weights = weights_of_classes(labels_of(*counts), len(counts), method)
        assert weights is not None
        spread.append((weights.max() / weights.min()).item())
    assert spread[0] <= spread[1] * (1 + 1e-5)
    assert weights_mean(counts) == pytest.approx(1, rel=1e-5)


def weights_mean(counts: list[int]) -> float:
    """Average the effective weights of classes."""
    weights = weights_of_classes(labels_of(*counts), len(counts), "effective")
    assert weights is not None
    return weights.mean().item()


@pytest.mark.parametrize("method", WEIGHERS)
def test_losses_weigh_a_class_that_is_not_there_as_an_average_one(method: ClassWeights) -> None:
    with_gap = weights_of_classes(labels_of(3, 0, 9), 3, method)
    without = weights_of_classes(labels_of(3, 9), 2, method)
    assert with_gap is not None and without is not None
    assert with_gap.tolist() == [without[0].item(), 1.0, without[1].item()]
    # so a validation batch of nothing else has a loss
    assert math.isfinite(loss_of("cross_entropy", random_logits(2), [1, 1], with_gap).item())


@pytest.mark.parametrize("method", WEIGHERS)
def test_losses_weigh_the_same_where_nothing_is_labelled(method: ClassWeights) -> None:
    weights = weights_of_classes(labels_of(0, 0), 2, method)
    assert weights is not None
    assert weights.tolist() == [1, 1]
