from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from mtl import choices
from mtl.config import RunConfig
from mtl.errors import ConfigError
from mtl.tasks import TaskSpec
from mtl.training import demands
from mtl.training.weighting import WEIGHTINGS, FixedWeighting, build_weighting, cost
from tests.training.weighting_cases import KEYS, SURGERIES, Net, build, flat, jacobian, warmed_up

ALL = pytest.mark.parametrize("name", WEIGHTINGS)
CLIPS = pytest.mark.parametrize("clip", [None, 0.1], ids=["unclipped", "clipped"])
PRIORS = {"topic": 0.5, "mood": 2.0, "slots": 3.0}


# ----------------------------------------------------------------------------------------- the registry


def test_weighting_registry_holds_every_choice_of_the_configuration() -> None:
    assert list(WEIGHTINGS) == list(get_args(choices.Weighting))
    assert set(choices.WEIGHTING_EXTRAS) <= set(WEIGHTINGS)


def test_weighting_needs_a_resolved_configuration() -> None:
    with pytest.raises(ValueError, match="resolve"):
        build("fixed", epochs="auto")


@ALL
def test_weighting_accepts_tasks_of_any_key(name: str) -> None:
    """Columns may be called like a method of the containers that hold a weighting's own parameters."""
    tasks = [TaskSpec(name=key, key=key, kind="classification", labels=()) for key in ("copy", "get", "append")]
    settings = RunConfig.model_validate({"training": {"weighting": name, "epochs": 2}})
    weighting = build_weighting(tasks, {task.key: 3 for task in tasks}, settings)
    shared = nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = {"copy": shared[0] ** 2, "get": shared.sum() ** 2, "append": (shared[1] - 1) ** 2}
    assert weighting.backward(losses, [shared]).keys() == losses.keys()


# ------------------------------------------------------------------------------------------ the gradients


@ALL
@CLIPS
def test_weighting_gradient_is_the_combination_that_it_reports(name: str, clip: float | None) -> None:
    net, weighting = Net(), warmed_up(name, PRIORS, clip_per_task=clip)
    losses = net.losses()
    rows = jacobian(net.gradients(losses))
    if clip is not None:
        assert (rows.norm(dim=1) > clip).all(), "the premise needs gradients to clip"
        rows = rows * (clip / rows.norm(dim=1, keepdim=True))
    used = weighting.backward(losses, net.shared)
    assert used.keys() == losses.keys()
    expected = torch.tensor(list(used.values())) @ rows
    torch.testing.assert_close(flat(net.shared), expected, rtol=1e-4, atol=1e-5)


@ALL
def test_weighting_leaves_gradients_alone_that_are_shorter_than_the_limit(name: str) -> None:
    nets = Net(), Net()
    used = [
        warmed_up(name, clip_per_task=clip).backward(net.losses(), net.shared)
        for net, clip in zip(nets, (None, 1e4), strict=True)
    ]
    assert used[0] == pytest.approx(used[1])
    torch.testing.assert_close(flat(nets[0].parameters()), flat(nets[1].parameters()))


@ALL
@CLIPS
def test_weighting_heads_get_the_gradient_of_their_own_weighted_loss(name: str, clip: float | None) -> None:
    net, weighting = Net(), warmed_up(name, PRIORS, clip_per_task=clip)
    losses = net.losses()
    expected = {
        key: torch.autograd.grad(loss, net.head(key).weight, retain_graph=True)[0] for key, loss in losses.items()
    }
    used = weighting.backward(losses, net.shared)
    for key in KEYS:
        factor = PRIORS[key] if name in SURGERIES else used[key]
        assert net.head(key).weight.grad is not None
        torch.testing.assert_close(net.head(key).weight.grad, factor * expected[key])


@ALL
@CLIPS
def test_weighting_adds_to_the_gradients_that_are_there(name: str, clip: float | None) -> None:
    nets = Net(), Net()
    for parameter in nets[1].parameters():
        parameter.grad = torch.ones_like(parameter)
    for net in nets:
        warmed_up(name, clip_per_task=clip).backward(net.losses(), net.shared)
    torch.testing.assert_close(flat(nets[1].parameters()), flat(nets[0].parameters()) + 1, rtol=1e-5, atol=1e-5)


@ALL
def test_weighting_multiplies_each_loss_with_the_persons_factor_first(name: str) -> None:
    nets = Net(), Net()
    losses = nets[0].losses(), nets[1].losses()
    scaled = {key: loss * PRIORS[key] for key, loss in losses[0].items()}
    used = [
        warmed_up(name, weights).backward(given, net.shared)
        for net, weights, given in zip(nets, (None, PRIORS), (scaled, losses[1]), strict=True)
    ]
    if name == "equal":
        assert used[1] == dict.fromkeys(KEYS, 1.0)
        return
    assert used[1] == pytest.approx({key: used[0][key] * PRIORS[key] for key in KEYS}, rel=1e-4)
    torch.testing.assert_close(flat(nets[0].parameters()), flat(nets[1].parameters()), rtol=1e-4, atol=1e-5)


@ALL
def test_weighting_of_one_task_or_without_shared_weights_sums(name: str) -> None:
    alone, net = Net(), Net()
    weighting = warmed_up(name, PRIORS)
    used = weighting.backward(alone.losses(keys=["mood"]), alone.shared)
    expected = jacobian(net.gradients(net.losses(keys=["mood"])))[0]
    torch.testing.assert_close(flat(alone.shared), used["mood"] * expected)
    if name in SURGERIES:
        assert used == {"mood": 2.0}

    heads = Net()
    heads.first.requires_grad_(False), heads.second.requires_grad_(False)
    losses = heads.losses()
    gradients = {k: torch.autograd.grad(x, heads.head(k).bias, retain_graph=True)[0] for k, x in losses.items()}
    used = warmed_up(name, PRIORS).backward(losses, [])
    for key, gradient in gradients.items():
        torch.testing.assert_close(heads.head(key).bias.grad, used[key] * gradient)
    if name in SURGERIES:
        assert used == PRIORS


@ALL
def test_weighting_leaves_weights_without_gradient_where_no_task_reaches_them(name: str) -> None:
    both, one, none = (nn.Parameter(torch.tensor([1.0, 2.0])) for _ in range(3))
    losses = {"topic": (both * one).sum(), "mood": both.square().sum(), "slots": -both.sum()}
    build(name).backward(losses, [both, one, none])
    assert both.grad is not None
    assert one.grad is not None
    assert none.grad is None


@ALL
def test_weighting_sums_what_does_not_meet_in_a_shared_weight(name: str) -> None:
    shared, own = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor(3.0))
    losses = {"topic": shared.square().sum(), "mood": own.square()}
    used = build(name).backward(losses, [shared])
    assert own.grad is not None
    assert own.grad.item() == pytest.approx(6.0 * used["mood"])
    if name in SURGERIES:
        assert used == {"topic": 1.0, "mood": 1.0}


@ALL
def test_weighting_gives_a_task_of_weight_zero_no_part(name: str) -> None:
    if name == "equal":
        return
    net, without = Net(), Net()
    weighting = warmed_up(name, PRIORS | {"slots": 0.0})
    used = weighting.backward(net.losses(), net.shared)
    assert used["slots"] == 0
    assert net.head("slots").weight.grad is None
    assert all(parameter.grad is None for parameter in list(weighting.parameters())[2:])
    same = warmed_up(name, PRIORS | {"slots": 0.0})
    same.backward(without.losses(keys=KEYS[:2]), without.shared)
    torch.testing.assert_close(flat(net.parameters()), flat(without.parameters()))


@ALL
def test_weighting_passes_over_what_cannot_learn(name: str) -> None:
    net, weighting = Net(), warmed_up(name, PRIORS)
    losses = {key: loss.detach() for key, loss in net.losses().items()}
    assert weighting.backward(losses, []).keys() == set(KEYS)
    assert weighting.backward(losses, net.shared).keys() == set(KEYS)
    assert weighting.backward({}, net.shared) == {}
    assert all(parameter.grad is None for parameter in [*net.parameters(), *weighting.parameters()])
    mixed = losses | net.losses(keys=["mood"])
    assert weighting.backward(mixed, net.shared).keys() == set(KEYS)
    assert net.head("mood").weight.grad is not None
    assert net.head("topic").weight.grad is None


@ALL
@CLIPS
@pytest.mark.parametrize("value", [0.0, 1e-30, math.nan, math.inf])
def test_weighting_goes_on_whatever_the_gradients_are(name: str, clip: float | None, value: float) -> None:
    shared = nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = {"topic": shared.sum() * value, "mood": shared[1] * value, "slots": shared[0] * value}
    build(name, clip_per_task=clip).backward(losses, [shared])
    assert shared.grad is not None
    assert bool(shared.grad.isfinite().all()) == math.isfinite(value)


# ------------------------------------------------------------------------------------------- what it costs


@ALL
@CLIPS
def test_weighting_takes_as_many_backward_passes_as_it_is_said_to(
    name: str, clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, backward = [], Tensor.backward

    def count(self: Tensor, *arguments: Any, **options: Any) -> None:
        passes.append(self)
        backward(self, *arguments, **options)

    monkeypatch.setattr(Tensor, "backward", count)
    net = Net()
    build(name, clip_per_task=clip).backward(net.losses(), net.shared)
    assert len(passes) == cost(name, len(KEYS), clip_per_task=clip is not None)


def test_weighting_costs_are_those_of_one_pass_or_one_for_each_task() -> None:
    assert cost("fixed", 3, clip_per_task=False) == 1
    assert cost("fixed", 3, clip_per_task=True) == 3
    assert cost("pcgrad", 4, clip_per_task=False) == 4
    assert cost("gradnorm", 4, clip_per_task=True) == 4
    assert cost("pcgrad", 1, clip_per_task=False) == 1


@pytest.mark.parametrize("name", choices.WEIGHTING_EXTRAS)
def test_weighting_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demands, "find_spec", lambda module: None if module == "cvxpy" else object())
    with pytest.raises(ConfigError) as raised:
        build(name)
    assert str(raised.value) == (
        f"training.weighting: {name} needs cvxpy, which this installation lacks. "
        f'Install it with pip install "torchjd[{name}]==0.18.0", or choose another weighting.'
    )
    monkeypatch.setattr(demands, "find_spec", lambda module: None)
    build("upgrad")
    with pytest.raises(ConfigError, match="needs cvxpy and "):
        build(name)


# ---------------------------------------------------------------------------------------------- the sum


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


def test_weighting_clips_before_it_weighs() -> None:
    """A limit on each task's gradient does not take the person's weight away."""
    shared = nn.Parameter(torch.zeros(2))
    losses = {"topic": shared @ torch.tensor([30.0, 40.0]), "mood": shared @ torch.tensor([0.0, 0.5])}
    FixedWeighting({"topic": 10.0, "mood": 1.0}, clip=1.0).backward(losses, [shared])
    # by hand: 10 * (30, 40) / 50 + (0, 0.5)
    assert shared.grad is not None
    assert shared.grad.tolist() == pytest.approx([6.0, 8.5])
