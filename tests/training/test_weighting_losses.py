from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mtl.config import RunConfig
from mtl.tasks import TaskSpec
from mtl.training.weighting import build_weighting
from mtl.training.weighting.losses import RampWeighting
from tests.training.weighting_cases import KEYS, OUTPUTS, Net, build, flat

ONES = {key: torch.tensor(1.0) for key in KEYS}
PRIORS = {"topic": 0.5, "mood": 2.0, "slots": 3.0}


def test_weighting_equal_looks_away_from_the_persons_factors() -> None:
    assert build("equal", PRIORS).backward(ONES, []) == dict.fromkeys(KEYS, 1.0)


def test_weighting_fixed_is_the_persons_factors() -> None:
    assert build("fixed", PRIORS).backward(ONES, []) == PRIORS


def test_weighting_log_classes_makes_the_loss_of_guessing_one() -> None:
    weighting = build("log_classes")
    used = weighting.backward({key: torch.tensor(math.log(OUTPUTS[key])) for key in KEYS}, [])
    for key in KEYS:
        assert used[key] * math.log(OUTPUTS[key]) == pytest.approx(1.0)
    assert build("log_classes", PRIORS).backward(ONES, [])["slots"] == pytest.approx(3 / math.log(7))


# ------------------------------------------------------------------------------------------- uncertainty


def test_weighting_uncertainty_starts_at_half_the_sum() -> None:
    net, plain = Net(), Net()
    used = build("uncertainty").backward(net.losses(), net.shared)
    assert used == dict.fromkeys(KEYS, 0.5)
    (0.5 * torch.stack(list(plain.losses().values())).sum()).backward()
    torch.testing.assert_close(flat(net.parameters()), flat(plain.parameters()))


@pytest.mark.parametrize("clip", [None, 0.01])
def test_weighting_uncertainty_has_the_derivative_worked_out_by_hand(clip: float | None) -> None:
    weighting = build("uncertainty", PRIORS, clip_per_task=clip)
    parameters = list(weighting.parameters())
    for parameter, value in zip(parameters, (0.3, -0.7, 1.1), strict=True):
        parameter.data.fill_(value)
    net = Net()
    losses = net.losses()
    weighting.backward(losses, net.shared)
    for parameter, key in zip(parameters, KEYS, strict=True):
        # d/ds (0.5 exp(-s) p L + 0.5 s) = 0.5 - 0.5 exp(-s) p L
        expected = 0.5 - 0.5 * math.exp(-parameter.item()) * PRIORS[key] * losses[key].item()
        assert parameter.grad is not None
        assert parameter.grad.item() == pytest.approx(expected, rel=1e-5)


def test_weighting_uncertainty_settles_at_the_logarithm_of_the_loss() -> None:
    weighting = build("uncertainty")
    constant = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    sizes = {"topic": 0.1, "mood": 1.0, "slots": 4.0}
    for _ in range(200):
        weighting.backward({key: constant * size for key, size in sizes.items()}, [])
        optimizer.step()
        optimizer.zero_grad()
    used = weighting.backward({key: constant * size for key, size in sizes.items()}, [])
    assert used == pytest.approx({key: 0.5 / size for key, size in sizes.items()}, rel=1e-3)


def test_weighting_uncertainty_stays_finite_for_a_loss_of_zero() -> None:
    weighting = build("uncertainty")
    shared = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD(weighting.parameters(), lr=100.0)
    for _ in range(10):
        used = weighting.backward({"topic": shared * 0}, [shared])
        optimizer.step()
    assert 1 < used["topic"] < 1e5
    assert shared.grad is not None
    assert shared.grad.item() == 0.0


# ------------------------------------------------------------------------------------------------- epochs


def test_weighting_dwa_gives_the_numbers_worked_out_by_hand() -> None:
    weighting = build("dwa", weighting_options={"temperature": 2.0})
    assert weighting.backward(ONES, []) == dict.fromkeys(KEYS, 1.0)
    weighting.end_epoch(1, {"topic": 1.0, "mood": 2.0, "slots": 4.0}, {})
    assert weighting.backward(ONES, []) == dict.fromkeys(KEYS, 1.0)
    weighting.end_epoch(2, {"topic": 0.5, "mood": 1.8, "slots": 4.0}, {})
    # r = 0.5, 0.9, 1; exp(r / 2) = 1.2840254, 1.5683122, 1.6487213; their sum 4.5010589
    expected = {"topic": 0.8558156, "mood": 1.0452955, "slots": 1.0988889}
    assert weighting.backward(ONES, []) == pytest.approx(expected, abs=1e-6)
    weighting.end_epoch(3, {"topic": 0.5, "mood": 1.8, "slots": 4.0}, {})
    assert weighting.backward(ONES, []) == pytest.approx(dict.fromkeys(KEYS, 1.0))


def test_weighting_dwa_keeps_the_rate_of_a_task_that_was_absent() -> None:
    weighting = build("dwa", weighting_options={"temperature": 1.0})
    weighting.end_epoch(1, {"topic": 1.0, "mood": 1.0}, {})
    weighting.end_epoch(2, {"topic": 0.5, "slots": 1.0}, {})
    parts = {"topic": math.exp(0.5), "mood": math.e, "slots": math.e}  # mood and slots were seen once
    expected = {key: 3 * part / sum(parts.values()) for key, part in parts.items()}
    assert weighting.backward(ONES, []) == pytest.approx(expected)
    weighting.end_epoch(3, {"slots": 2.0}, {})
    parts["slots"] = math.exp(2.0)
    expected = {key: 3 * part / sum(parts.values()) for key, part in parts.items()}
    assert weighting.backward(ONES, []) == pytest.approx(expected)


@pytest.mark.parametrize("losses", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1e-38, 1e5)])
def test_weighting_dwa_is_finite_and_sums_to_the_number_of_tasks(losses: tuple[float, float]) -> None:
    weighting = build("dwa", weighting_options={"temperature": 0.01})
    for epoch, loss in enumerate(losses, start=1):
        weighting.end_epoch(epoch, {"topic": loss, "mood": 1.0, "slots": 1.0}, {})
    used = weighting.backward(ONES, [])
    assert sum(used.values()) == pytest.approx(3.0)


def test_weighting_dtp_gives_the_numbers_worked_out_by_hand() -> None:
    weighting = build("dtp", PRIORS, weighting_options={"gamma": 2.0, "smoothing": 0.75})
    assert weighting.backward(ONES, []) == PRIORS
    weighting.end_epoch(1, {}, {"topic": 0.8, "mood": 0.5})
    used = weighting.backward(ONES, [])
    assert used["topic"] == pytest.approx(0.5 * -(0.2**2) * math.log(0.8), rel=1e-5)
    assert used["mood"] == pytest.approx(2.0 * -(0.5**2) * math.log(0.5), rel=1e-5)
    assert used["slots"] == 3.0  # has no score yet
    weighting.end_epoch(2, {}, {"topic": 0.4, "slots": 0.3})
    used = weighting.backward(ONES, [])
    assert used["topic"] == pytest.approx(0.5 * -(0.3**2) * math.log(0.7), rel=1e-5)  # 0.75 * 0.8 + 0.25 * 0.4
    assert used["mood"] == pytest.approx(2.0 * -(0.5**2) * math.log(0.5), rel=1e-5)
    assert used["slots"] == pytest.approx(3.0 * -(0.7**2) * math.log(0.3), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 10.0])
def test_weighting_dtp_falls_with_the_score_and_is_finite_and_positive(gamma: float) -> None:
    found = []
    for score in (0.0, 0.1, 0.5, 0.9, 1.0):
        weighting = build("dtp", weighting_options={"gamma": gamma})
        weighting.end_epoch(1, {}, {"topic": score})
        found.append(weighting.backward(ONES, [])["topic"])
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 5
    assert 0 < found[-1]
    assert found[0] < 7


def test_weighting_ramp_goes_in_a_straight_line() -> None:
    weighting = RampWeighting({"topic": 1.0, "mood": 0.3}, {"topic": 0.0, "mood": 0.3}, epochs=5)
    found = []
    for epoch in range(1, 7):
        found.append(weighting.backward({"topic": torch.tensor(1.0), "mood": torch.tensor(1.0)}, []))
        weighting.end_epoch(epoch, {}, {})
    assert [used["topic"] for used in found] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert {used["mood"] for used in found} == {0.3}
    weighting.begin_epoch(3)  # a phase that was cut short leaves epochs out
    assert weighting.backward({"topic": torch.tensor(1.0)}, []) == {"topic": 0.5}


def test_weighting_ramp_takes_both_ends_from_the_configuration() -> None:
    task = TaskSpec(name="Topic", key="topic", kind="classification", labels=())
    ends = {"Topic": {"loss_weight": 2.0, "final_loss_weight": 0.5}}
    for epochs, last in ((3, 0.5), (1, 2.0)):
        training = {"weighting": "ramp", "epochs": epochs}
        weighting = build_weighting(
            [task], {"topic": 2}, RunConfig.model_validate({"tasks": ends, "training": training})
        )
        assert weighting.backward({"topic": torch.tensor(1.0)}, []) == {"topic": 2.0}
        for epoch in range(1, epochs):
            weighting.end_epoch(epoch, {}, {})
        assert weighting.backward({"topic": torch.tensor(1.0)}, []) == {"topic": last}
    del ends["Topic"]["final_loss_weight"]
    weighting = build_weighting([task], {"topic": 2}, RunConfig.model_validate({"tasks": ends, "training": training}))
    weighting.end_epoch(1, {}, {})
    assert weighting.backward({"topic": torch.tensor(1.0)}, []) == {"topic": 2.0}


# ------------------------------------------------------------------------------------------------- random


def test_weighting_random_is_the_softmax_of_normal_draws() -> None:
    weighting = build("random", PRIORS, seed=3)
    generator = torch.Generator().manual_seed(2**31 + 3)
    for _ in range(3):
        drawn = torch.randn(3, generator=generator).softmax(dim=0).tolist()
        expected = {key: PRIORS[key] * share for key, share in zip(KEYS, drawn, strict=True)}
        assert weighting.backward(ONES, []) == expected


def test_weighting_random_draws_for_all_tasks_whatever_is_there() -> None:
    both, some = build("random"), build("random")
    both.backward(ONES, [])
    assert some.backward({"mood": ONES["mood"]}, []).keys() == {"mood"}
    assert both.backward(ONES, []) == some.backward(ONES, [])


def test_weighting_random_differs_by_step_and_by_seed_and_is_even_in_the_mean() -> None:
    first, other = build("random", seed=0), build("random", seed=1)
    drawn = [list(first.backward(ONES, []).values()) for _ in range(2000)]
    assert drawn[0] != drawn[1]
    assert drawn[0] != list(other.backward(ONES, []).values())
    assert all(sum(values) == pytest.approx(1.0) for values in drawn)
    means = torch.tensor(drawn).mean(dim=0)
    # the standard deviation of one draw is about 0.2, of the mean of 2,000 about 0.005
    torch.testing.assert_close(means, torch.full((3,), 1 / 3), atol=0.02, rtol=0)
