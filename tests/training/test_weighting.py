from __future__ import annotations

import torch
from torch import nn

from mtl.training.weighting import FixedWeighting


def test_weighting_gradient_is_that_of_the_weighted_sum() -> None:
    shared = nn.Parameter(torch.tensor([2.0, 3.0]))
    losses = {"topic": shared.square().sum(), "mood": shared[0] * 5}
    used = FixedWeighting({"topic": 0.5, "mood": 2.0}).backward(losses, [shared])
    assert used == {"topic": 0.5, "mood": 2.0}
    # by hand: 0.5 * 2x + 2 * (5, 0)
    assert shared.grad is not None
    assert shared.grad.tolist() == [0.5 * 4 + 10, 0.5 * 6]


def test_weighting_uses_the_tasks_of_this_batch_only() -> None:
    shared = nn.Parameter(torch.tensor(1.0))
    used = FixedWeighting({"topic": 1.0, "mood": 7.0}).backward({"topic": 3 * shared}, [shared])
    assert used == {"topic": 1.0}
    assert shared.grad is not None
    assert shared.grad.item() == 3.0


def test_weighting_of_zero_gives_no_gradient() -> None:
    shared = nn.Parameter(torch.tensor(1.0))
    FixedWeighting({"topic": 1.0, "mood": 0.0}).backward({"topic": shared * 1, "mood": shared * 9}, [shared])
    assert shared.grad is not None
    assert shared.grad.item() == 1.0


def test_weighting_with_nothing_to_learn_does_nothing() -> None:
    weighting = FixedWeighting({"topic": 1.0})
    assert weighting.backward({"topic": torch.tensor(2.0)}, []) == {"topic": 1.0}
    assert weighting.backward({}, []) == {}
