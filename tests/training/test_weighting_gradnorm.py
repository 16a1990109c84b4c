from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl.training.weighting import Weighting
from tests.training.weighting_cases import KEYS, Net, build, jacobian

FIRST = {"topic": 2.0, "mood": 4.0, "slots": 1.0}


def set_weights(weighting: Weighting, values: tuple[float, ...]) -> list[nn.Parameter]:
    parameters = list(weighting.parameters())
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.fill_(value)
    return parameters


def derivative(net: Net, weights: Tensor, alpha: float, keys: tuple[str, ...] = KEYS) -> Tensor:
    """Differentiate the loss of the paper by autograd, the target being a constant."""
    losses = net.losses(0, keys)
    weights = weights.clone().requires_grad_()
    lengths = torch.stack(
        [
            torch.cat([part.flatten() for part in parts]).norm()
            for key, weight in zip(keys, weights, strict=True)
            for parts in [torch.autograd.grad(weight * losses[key], net.shared, create_graph=True)]
        ]
    )
    left = torch.stack([losses[key].detach() / FIRST[key] for key in keys])
    target = (lengths.mean() * (left / left.mean()) ** alpha).detach()
    return torch.autograd.grad((lengths - target).abs().sum(), weights)[0]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
def test_weighting_gradnorm_weights_get_the_gradient_of_the_paper(alpha: float) -> None:
    net, weighting = Net(), build("gradnorm", weighting_options={"alpha": alpha})
    values = (0.5, 1.0, 1.5)
    parameters = set_weights(weighting, values)
    weighting.load_state_dict(weighting.state_dict() | {"first_losses": torch.tensor(list(FIRST.values()))})
    expected = derivative(net, torch.tensor(values), alpha)
    weighting.backward(net.losses(), net.shared)
    for parameter, slope in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, slope)


def test_weighting_gradnorm_of_two_tasks_leaves_the_third_alone() -> None:
    net, weighting = Net(), build("gradnorm")
    parameters = set_weights(weighting, (0.5, 1.0, 1.5))
    weighting.load_state_dict(weighting.state_dict() | {"first_losses": torch.tensor(list(FIRST.values()))})
    expected = derivative(net, torch.tensor([0.5, 1.0]), 1.5, KEYS[:2])
    weighting.backward(net.losses(keys=KEYS[:2]), net.shared)
    torch.testing.assert_close(torch.stack([p.grad for p in parameters[:2] if p.grad is not None]), expected)
    assert parameters[2].grad is None
    assert parameters[2].item() == 1.5


def test_weighting_gradnorm_remembers_the_first_loss_of_each_task() -> None:
    net, weighting = Net(), build("gradnorm")
    first = net.losses(0, ["topic"])
    weighting.backward(first, net.shared)
    second = net.losses(1)
    weighting.backward(second, net.shared)
    kept = weighting.state_dict()["first_losses"].tolist()
    assert kept == [first["topic"].item(), second["mood"].item(), second["slots"].item()]


def test_weighting_gradnorm_weights_sum_to_the_number_of_tasks_again_at_the_next_step() -> None:
    net, weighting = Net(), build("gradnorm")
    parameters = set_weights(weighting, (1.0, 2.0, 3.0))
    used = weighting.backward(net.losses(), net.shared)
    assert used == pytest.approx({"topic": 0.5, "mood": 1.0, "slots": 1.5})
    assert [parameter.item() for parameter in parameters] == pytest.approx([0.5, 1.0, 1.5])
    # an absent task keeps its weight, so the others share what is left
    set_weights(weighting, (1.0, 3.0, 1.0))
    used = weighting.backward(net.losses(keys=KEYS[:2]), net.shared)
    assert used == pytest.approx({"topic": 0.5, "mood": 1.5})
    assert parameters[2].item() == 1.0


def test_weighting_gradnorm_weights_stay_positive() -> None:
    net, weighting = Net(), build("gradnorm")
    set_weights(weighting, (-5.0, 2.0, 9.0))
    used = weighting.backward(net.losses(), net.shared)
    assert min(used.values()) > 0
    set_weights(weighting, (0.1, 0.1, 9.0))
    assert min(weighting.backward(net.losses(keys=KEYS[:2]), net.shared).values()) > 0


def lengths(weighting: Weighting, net: Any) -> Tensor:
    losses = net.losses()
    rows = jacobian(net.gradients(losses))
    used = weighting.backward({key: loss for key, loss in losses.items()}, net.shared)
    return rows.norm(dim=1) * torch.tensor(list(used.values()))


def test_weighting_gradnorm_brings_the_lengths_of_the_gradients_together() -> None:
    """The net stays as it is, so only the weights can do it."""
    net, weighting = Net(), build("gradnorm", weighting_options={"alpha": 0.0})
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    before = lengths(weighting, net)
    for _ in range(120):
        optimizer.step()
        optimizer.zero_grad()
        after = lengths(weighting, net)
    assert before.max() > 10 * before.min(), "the premise needs gradients of different sizes"
    assert after.max() < 1.5 * after.min()
    assert sum(parameter.item() for parameter in weighting.parameters()) == pytest.approx(3.0, rel=1e-3)


def test_weighting_gradnorm_pulls_along_the_task_that_lags() -> None:
    """Two tasks of the same gradient length; the loss of one has fallen to a tenth, that of the other not at all."""
    shared = nn.Parameter(torch.tensor([1.0, 1.0]))
    weighting = build("gradnorm", weighting_options={"alpha": 1.0})
    weighting.load_state_dict(weighting.state_dict() | {"first_losses": torch.tensor([1.0, 10.0, 1.0])})
    used = weighting.backward({"topic": shared[0] * 1.0, "mood": shared[1] * 1.0}, [shared])
    assert used == {"topic": 1.0, "mood": 1.0}
    lags, leads, _ = weighting.parameters()
    assert lags.grad is not None
    assert leads.grad is not None
    assert lags.grad.item() == -1.0  # descent raises it
    assert leads.grad.item() == 1.0


def test_weighting_gradnorm_learns_nothing_from_one_task_or_without_shared_weights() -> None:
    net, weighting = Net(), build("gradnorm")
    weighting.backward(net.losses(keys=["mood"]), net.shared)
    weighting.backward(net.losses(), [])
    assert all(parameter.grad is None for parameter in weighting.parameters())


def test_weighting_gradnorm_learns_nothing_from_a_task_that_does_not_reach_the_shared_weights() -> None:
    shared, own = nn.Parameter(torch.tensor([1.0, 1.0])), nn.Parameter(torch.tensor(1.0))
    weighting = build("gradnorm")
    weighting.backward({"topic": shared.sum(), "mood": own.square()}, [shared])
    assert all(parameter.grad is None for parameter in weighting.parameters())
