from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl.training.weighting import WEIGHTINGS, Weighting
from tests.training.weighting_cases import KEYS, Net, build, warmed_up

ALL = pytest.mark.parametrize("name", WEIGHTINGS)
PRIORS = {"topic": 0.5, "mood": 2.0, "slots": 3.0}


def train(net: Net, weighting: Weighting, optimizer: torch.optim.Optimizer, steps: range) -> list[dict[str, float]]:
    """Take steps; every third batch lacks a task."""
    used = []
    for step in steps:
        keys = KEYS if step % 3 else KEYS[:2]
        used.append(weighting.backward(net.losses(step, keys), net.shared))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return used


def adam(net: Net, weighting: Weighting) -> torch.optim.Optimizer:
    own = list(weighting.parameters())
    groups: list[dict[str, Any]] = [{"params": list(net.parameters())}]
    return torch.optim.Adam([*groups, {"params": own}] if own else groups, lr=0.025)


def state(weighting: Weighting) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in weighting.state_dict().items()}


@ALL
def test_weighting_keeps_the_state_of_an_absent_task(name: str) -> None:
    net, weighting = Net(), warmed_up(name)
    optimizer = adam(net, weighting)
    train(net, weighting, optimizer, range(1, 3))
    before, slots = state(weighting), KEYS.index("slots")
    for step in (4, 5):
        weighting.backward(net.losses(step, KEYS[:2]), net.shared)
        assert net.head("slots").weight.grad is None
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    losses, scores = {"topic": 0.5, "mood": 0.3}, {"topic": 0.8, "mood": 0.7}
    weighting.end_epoch(3, losses, scores)
    after = state(weighting)
    own = [key for key in before if key not in ("random_state", "epoch")]
    for key in own:
        if before[key].dim():
            assert torch.equal(before[key][..., slots], after[key][..., slots])
        elif key.endswith(f".{slots}"):
            assert torch.equal(before[key], after[key])
    if own:
        assert any(not torch.equal(before[key], after[key]) for key in own), "the premise needs the others to move"


@ALL
def test_weighting_continues_to_the_bit_from_its_state(name: str) -> None:
    net, weighting = Net(), warmed_up(name, PRIORS)
    optimizer = adam(net, weighting)
    train(net, weighting, optimizer, range(5))
    weights, memory, kept = copy.deepcopy((net.state_dict(), optimizer.state_dict(), weighting.state_dict()))

    again = Net(seed=1)
    again.load_state_dict(weights)
    resumed = build(name, PRIORS)
    resumed.load_state_dict(kept)
    resumed_optimizer = adam(again, resumed)
    resumed_optimizer.load_state_dict(memory)

    used = []
    for one, other, through in ((net, weighting, optimizer), (again, resumed, resumed_optimizer)):
        first = train(one, other, through, range(5, 9))
        other.end_epoch(3, {"topic": 0.4, "mood": 0.8}, {"topic": 0.7})
        used.append(first + train(one, other, through, range(9, 11)))
    assert used[0] == used[1]
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert all(map(torch.equal, state(weighting).values(), state(resumed).values()))


@ALL
def test_weighting_state_is_made_of_tensors_that_can_be_moved_and_saved(name: str) -> None:
    for value in build(name).state_dict().values():
        assert value.is_contiguous()
        assert value.dtype in (torch.float32, torch.int64, torch.uint8)  # what every device has


@ALL
def test_weighting_of_a_seed_always_does_the_same_and_leaves_torchs_random_numbers_alone(name: str) -> None:
    nets, used = (Net(), Net()), []
    for seed, net in enumerate(nets):
        torch.manual_seed(seed)
        weighting = warmed_up(name)
        before = torch.get_rng_state()
        used.append(train(net, weighting, adam(net, weighting), range(4)))
        assert torch.equal(torch.get_rng_state(), before)
    assert used[0] == used[1]
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
