from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torchjd.aggregation import IMTLG, MGDA, Aggregator, CAGrad, NashMTL, PCGrad, UPGrad

from mtl.training.weighting.surgery import SURGERIES, LeastSquaresProjector
from tests.training.weighting_cases import KEYS, Net, build, flat, jacobian

PRIORS = {"topic": 0.5, "mood": 2.0, "slots": 3.0}
ALL = pytest.mark.parametrize("name", SURGERIES)
AGGREGATORS: dict[str, Callable[[], Aggregator]] = {
    "pcgrad": PCGrad,
    "mgda": MGDA,
    "imtl_g": IMTLG,
    "upgrad": lambda: UPGrad(projector=LeastSquaresProjector()),
    "cagrad": lambda: CAGrad(0.4),
    "nash_mtl": lambda: NashMTL(3),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Let TorchJD's own aggregators warn; our code has to be quiet by itself, which test_weighting.py sees to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are solving a parameterized problem")
        yield


def combined(name: str, *rows: tuple[float, ...]) -> list[float]:
    """Combine gradients that are given outright."""
    shared = nn.Parameter(torch.zeros(len(rows[0])))
    losses = {key: shared @ torch.tensor(row) for key, row in zip(KEYS, rows, strict=False)}
    build(name).backward(losses, [shared])
    assert shared.grad is not None
    return shared.grad.tolist()


def test_weighting_surgeries_are_all_compared_with_torchjd() -> None:
    assert AGGREGATORS.keys() == SURGERIES.keys()


@ALL
@pytest.mark.parametrize("seed", range(3))
def test_weighting_surgery_is_torchjds_aggregation_of_the_jacobian(name: str, seed: int) -> None:
    net, weighting = Net(seed), build(name, PRIORS)
    losses = net.losses()
    matrix = jacobian(net.gradients(losses)) * torch.tensor(list(PRIORS.values()))[:, None]
    assert (matrix @ matrix.T < 0).any() or seed != 1, "the premise needs a conflict"
    with torch.random.fork_rng():
        torch.manual_seed(2**31 + 7)  # what PCGrad's orders are drawn from
        expected = AGGREGATORS[name]()(matrix)
    weighting.backward(losses, net.shared)
    torch.testing.assert_close(flat(net.shared), expected, rtol=1e-3, atol=1e-4)


# --------------------------------------------------------------------------- two gradients, worked out by hand


def test_weighting_pcgrad_by_hand() -> None:
    # (1, 0) loses its part along (-1, 1): (0.5, 0.5); (-1, 1) loses its part along (1, 0): (0, 1)
    assert combined("pcgrad", (1.0, 0.0), (-1.0, 1.0)) == pytest.approx([0.5, 1.5])
    assert combined("pcgrad", (1.0, 0.0), (1.0, 1.0)) == pytest.approx([2.0, 1.0])


def test_weighting_mgda_by_hand() -> None:
    # the point of the line between them that is nearest to 0
    assert combined("mgda", (1.0, 0.0), (-1.0, 1.0)) == pytest.approx([0.2, 0.4], abs=1e-3)
    # the shorter one itself where the longer one agrees with it
    assert combined("mgda", (1.0, 0.0), (3.0, 1.0)) == pytest.approx([1.0, 0.0], abs=1e-3)


def test_weighting_imtl_g_by_hand() -> None:
    # w (1, 0) + (1 - w) (-1, 1) has equal projections on both where w = 2 - sqrt(2)
    w = 2 - 2**0.5
    assert combined("imtl_g", (1.0, 0.0), (-1.0, 1.0)) == pytest.approx([2 * w - 1, 1 - w], abs=1e-5)


def test_weighting_upgrad_by_hand() -> None:
    # the mean of the two projections that PCGrad sums
    assert combined("upgrad", (1.0, 0.0), (-1.0, 1.0)) == pytest.approx([0.25, 0.75], abs=1e-3)
    assert combined("upgrad", (1.0, 0.0), (1.0, 1.0)) == pytest.approx([1.0, 0.5], abs=1e-3)


def test_weighting_upgrad_is_the_example_of_torchjds_documentation() -> None:
    found = combined("upgrad", (-4.0, 1.0, 1.0), (6.0, 1.0, 1.0))
    assert found == pytest.approx([0.2929, 1.9004, 1.9004], abs=1e-3)


def test_weighting_cagrad_is_the_best_step_for_the_worst_task_in_the_ball() -> None:
    rows = torch.tensor([[1.0, 0.0], [-0.5, 0.3]])
    step = torch.tensor(combined("cagrad", *[tuple(row) for row in rows.tolist()]))
    mean = rows.mean(dim=0)
    radius = 0.4 * mean.norm()
    assert (step - mean).norm() <= radius * (1 + 1e-3)
    angles = torch.linspace(0, 2 * torch.pi, 100_000)
    rim = mean + radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert (rows @ step).min().item() == pytest.approx((rim @ rows.T).min(dim=1).values.max().item(), rel=1e-3)
    assert (rows @ mean).min() < (rows @ step).min()


def test_weighting_cagrad_without_room_is_the_mean() -> None:
    shared = nn.Parameter(torch.zeros(2))
    losses = {"topic": shared[0] * 1.0, "mood": shared[1] - shared[0]}
    build("cagrad", weighting_options={"caution": 0.0}).backward(losses, [shared])
    assert shared.grad is not None
    assert shared.grad.tolist() == pytest.approx([0.0, 0.5], abs=1e-6)


def test_weighting_nash_mtl_gives_every_task_the_same_product_of_weight_and_gain() -> None:
    rows = torch.tensor([[1.0, 0.0], [-0.5, 1.5]])
    shared = nn.Parameter(torch.zeros(2))
    used = build("nash_mtl").backward({"topic": shared @ rows[0], "mood": shared @ rows[1]}, [shared])
    weights = torch.tensor(list(used.values()))
    gains = weights * (rows @ (weights @ rows))  # G a = 1 / a, but for the length of the step
    assert gains[0].item() == pytest.approx(gains[1].item(), rel=1e-2)
    assert (weights @ rows).norm().item() == pytest.approx(1.0, rel=1e-4)


def test_weighting_nash_mtl_bargains_among_those_that_are_there() -> None:
    net, weighting, pair = Net(), build("nash_mtl"), NashMTL(2)
    weighting.backward(net.losses(0), net.shared)
    before = weighting.state_dict()["last"].clone()
    net.zero_grad()
    losses = net.losses(1, KEYS[1:])
    expected = pair(jacobian(net.gradients(losses)))
    weighting.backward(losses, net.shared)
    after = weighting.state_dict()["last"]
    torch.testing.assert_close(flat(net.shared), expected, rtol=1e-2, atol=1e-2)
    assert before[0] == after[0]
    assert (before[1:] != after[1:]).all()


def test_weighting_nash_mtl_keeps_the_last_bargain_where_it_finds_none() -> None:
    """There is none with a task that has nothing to gain; then the state is what decides."""
    weighting, shared = build("nash_mtl"), nn.Parameter(torch.zeros(2))
    weighting.load_state_dict({"last": torch.tensor([3.0, 1.0, 5.0])})
    used = weighting.backward({"topic": shared[0] * 2, "mood": shared[1] * 0}, [shared])
    assert used["topic"] / used["mood"] == pytest.approx(3.0)
    assert weighting.state_dict()["last"].tolist() == [3.0, 1.0, 5.0]


# ------------------------------------------------------------------------------------------------ properties


@pytest.mark.parametrize("name", sorted(SURGERIES.keys() - {"imtl_g"}))
def test_weighting_surgery_finds_a_point_where_no_task_can_gain_without_a_loss(name: str) -> None:
    """The points between the minima of two quadratics are those; the step gets shorter, as Nash-MTL's never does.

    On that line the gradients are exactly opposite, where IMTL-G has no answer.
    """
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0])
    place = nn.Parameter(torch.tensor([0.5, 2.0]))
    weighting = build(name)
    for step in range(25):
        place.grad = None
        losses = {"topic": 0.5 * (place - low).square().sum(), "mood": 2 * (place - high).square().sum()}
        weighting.backward(losses, [place])
        with torch.no_grad():
            place.sub_(place.grad, alpha=0.5 / (1 + step / 4))  # type: ignore[arg-type]
    assert abs(place[1].item()) < 0.1
    assert -1.1 < place[0].item() < 1.1


@pytest.mark.parametrize("seed", range(4))
def test_weighting_imtl_g_goes_equally_far_along_every_gradient(seed: int) -> None:
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)) * torch.tensor([[1.0], [10.0], [0.2]])
    step = torch.tensor(combined("imtl_g", *[tuple(row) for row in rows.tolist()]))
    gains = rows @ step / rows.norm(dim=1)
    torch.testing.assert_close(gains, gains.mean().expand(3), rtol=1e-3, atol=1e-5)


@ALL
@pytest.mark.parametrize("size", [1e-8, 1e-3, 1e4])
def test_weighting_surgery_does_not_depend_on_the_size_of_the_gradients(name: str, size: float) -> None:
    """TorchJD's own thresholds would make small gradients count as none."""
    net, other = Net(), Net()
    used = build(name).backward(net.losses(), net.shared)
    scaled = build(name).backward({key: loss * size for key, loss in other.losses().items()}, other.shared)
    first, second = (torch.tensor(list(weights.values())) for weights in (used, scaled))
    torch.testing.assert_close(first / first.norm(), second / second.norm(), rtol=1e-2, atol=1e-3)
    if name != "nash_mtl":  # whose step is at most 1 long
        torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["mgda", "upgrad", "nash_mtl"])
@pytest.mark.parametrize("seed", range(4))
def test_weighting_surgery_harms_no_task(name: str, seed: int) -> None:
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
    rows[1] = 0.3 * rows[1] - rows[0]
    step = torch.tensor(combined(name, *[tuple(row) for row in rows.tolist()]))
    assert (rows @ rows.sum(dim=0)).min() < 0 or seed, "the premise needs a task that the sum harms"
    assert (rows @ step).min() > -0.01


def test_weighting_pcgrad_draws_other_orders_in_every_step_and_for_every_seed() -> None:
    rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    rows = rows - rows.mean(dim=0)  # each against the two others
    gramian = rows @ rows.T
    same, other = build("pcgrad", seed=0), build("pcgrad", seed=1)
    found = [tuple(same.solve(gramian, KEYS).tolist()) for _ in range(20)]  # type: ignore[operator]
    assert 1 < len(set(found)) <= 8  # two orders for each of the three
    assert found != [tuple(other.solve(gramian, KEYS).tolist()) for _ in range(20)]  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["random", "parallel", "opposite", "one is 0", "all the same"])
@pytest.mark.parametrize("size", [2, 3, 6])
def test_weighting_surgery_projector_solves_its_problem(kind: str, size: int) -> None:
    """The least v'Gv with v >= u, as another solver finds it."""
    rows = torch.randn(size, 5, generator=torch.Generator().manual_seed(size))
    changed: dict[str, Callable[[], Tensor]] = {
        "parallel": lambda: 2 * rows[0],
        "opposite": lambda: -rows[0],
        "one is 0": lambda: 0 * rows[0],
    }
    if kind in changed:
        rows[1] = changed[kind]()
    if kind == "all the same":
        rows[:] = rows[0].clone()
    gramian = rows @ rows.T
    found = LeastSquaresProjector()(torch.eye(size), gramian)
    used = gramian.double().numpy() / float(gramian.trace()) + 1e-4 * np.eye(size)
    for lower, row in zip(np.eye(size), found.double().numpy(), strict=True):
        assert (row >= lower - 1e-6).all()
        best = minimize(
            lambda v: v @ used @ v, lower + 0.5, jac=lambda v: 2 * used @ v, bounds=[(x, None) for x in lower],
            options={"ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        assert row @ used @ row <= best.fun * (1 + 1e-4) + 1e-9


@ALL
def test_weighting_surgery_tells_heads_nothing(name: str) -> None:
    """Where the tasks conflict the encoder takes a compromise, and each head still follows its own loss."""
    head = nn.Parameter(torch.tensor(1.0))
    shared = nn.Parameter(torch.tensor([1.0, 1.0]))
    build(name).backward({"topic": shared[0] * 2 + head.square(), "mood": shared[1] - shared[0]}, [shared])
    assert head.grad is not None
    assert head.grad.item() == 2.0
