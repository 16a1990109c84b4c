from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mtl.data.batching import pad, tokenise
from mtl.modeling.multitask import MultiTaskModel
from mtl.training.components import encoder_components
from mtl.training.conflict import BACKWARD_SHARE, FEWEST_LOOKS, TIME_SHARE, Conflict, interval, is_look, measure

NAMES = {"topic": "Topic", "mood": "Mood"}
Parts = dict[str, list[nn.Parameter]]


def weight(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def losses_of(model: MultiTaskModel) -> dict[str, Tensor]:
    """Losses of one batch, with dropout; the last text has no topic. The same bits at each call."""
    texts = ["the team was great", "the soup was awful today", "rain and snow", "the chef"]
    labels = {"topic": torch.tensor([0, 1, 2, -100]), "mood": torch.tensor([1, 0, 0, 1])}
    torch.manual_seed(0)
    model.train()
    return model.losses(model(pad(tokenise(texts, model.encoder.tokenizer, 32), model.encoder.tokenizer)), labels)


def shared_parts(model: MultiTaskModel) -> Parts:
    return {part: list(module.parameters()) for part, module in encoder_components(model.encoder).items()}


@pytest.mark.parametrize(
    ("towards", "cosine"), [((6.0, 8.0), 1.0), ((-0.3, -0.4), -1.0), ((4.0, -3.0), 0.0), ((0.0, 2.0), 0.8)]
)
def test_conflict_cosine_of_two_weights(towards: tuple[float, float], cosine: float) -> None:
    """The first task's gradient is (3, 4), of length 5; the other's is `towards`."""
    x = weight(1.0, 1.0)
    losses = {"topic": (x * torch.tensor([3.0, 4.0])).sum(), "mood": (x * torch.tensor(towards)).sum()}
    found = measure(losses, {"layer.0": [x]}, NAMES)
    assert found is not None
    assert found.cosines == {"layer.0": {"Topic | Mood": pytest.approx(cosine, abs=1e-6)}}
    length = math.hypot(*towards)
    assert found.norms == pytest.approx({"Topic": 5, "Mood": length})
    assert found.shares == pytest.approx({"Topic": 5 / (5 + length), "Mood": length / (5 + length)})


def test_conflict_part_by_part_and_norms_over_all() -> None:
    """Together below, against each other above; a part's weights count as one vector."""
    x, y, z = weight(1.0), weight(1.0), weight(1.0)
    losses = {"topic": (3 * x + 4 * y + 12 * z).sum(), "mood": (4 * x + 3 * y - z).sum()}
    found = measure(losses, {"layer.0": [x, y], "layer.1": [z]}, NAMES)
    assert found is not None
    assert found.cosines["layer.0"]["Topic | Mood"] == pytest.approx(24 / 25)
    assert found.cosines["layer.1"]["Topic | Mood"] == pytest.approx(-1)
    assert found.norms == pytest.approx({"Topic": 13, "Mood": math.sqrt(26)})
    assert sum(found.shares.values()) == pytest.approx(1)


def test_conflict_of_three_tasks_in_the_order_of_the_tasks() -> None:
    x = weight(1.0, 1.0)
    losses = {"c": x[0] + x[1], "a": x[0] * 1, "b": x[1] * 1}
    found = measure(losses, {"layer.0": [x]}, {"a": "A", "b": "B", "c": "C", "absent": "D"})
    assert found is not None
    half = math.sqrt(0.5)
    assert found.cosines["layer.0"] == pytest.approx({"A | B": 0, "A | C": half, "B | C": half}, abs=1e-6)
    assert list(found.shares) == list(found.norms) == ["A", "B", "C"]


def test_conflict_leaves_out_a_pair_without_a_gradient() -> None:
    """Mood does not use layer.1, and topic's gradient is zero in layer.2: there is no angle."""
    x, y, z = weight(1.0), weight(1.0), weight(0.0)
    losses = {"topic": (x + y + z.square()).sum(), "mood": (-2 * x + z).sum()}
    found = measure(losses, {"layer.0": [x], "layer.1": [y], "layer.2": [z]}, NAMES)
    assert found is not None
    assert found.cosines == {"layer.0": {"Topic | Mood": pytest.approx(-1)}}
    assert found.norms == pytest.approx({"Topic": math.sqrt(2), "Mood": math.sqrt(5)})


def test_conflict_of_a_task_that_moves_nothing_shared() -> None:
    x = weight(1.0)
    found = measure({"topic": 2 * x.sum(), "mood": torch.tensor(3.0)}, {"layer.0": [x]}, NAMES)
    assert found == Conflict(cosines={}, shares={"Topic": 1.0, "Mood": 0.0}, norms={"Topic": 2.0, "Mood": 0.0})


def test_conflict_needs_two_tasks_and_something_shared_that_learns() -> None:
    x, frozen = weight(1.0), weight(1.0).requires_grad_(False)
    both = {"topic": x.sum(), "mood": 2 * x.sum()}
    assert measure(both, {"layer.0": [x]}, NAMES) is not None, "the premise"
    assert measure({"topic": x.sum()}, {"layer.0": [x]}, NAMES) is None
    assert measure({}, {"layer.0": [x]}, NAMES) is None
    assert measure(both, {}, NAMES) is None
    assert measure(both, {"layer.0": [frozen]}, NAMES) is None
    assert measure(both, {"layer.0": [weight(1.0)]}, NAMES) is None, "neither task moves it"


def test_conflict_passes_over_what_is_frozen() -> None:
    x, frozen = weight(1.0), weight(1.0).requires_grad_(False)
    losses = {"topic": (x * frozen).sum(), "mood": (-x).sum()}
    found = measure(losses, {"embeddings": [frozen], "layer.0": [x, frozen]}, NAMES)
    assert found is not None
    assert found.cosines == {"layer.0": {"Topic | Mood": -1.0}}


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_conflict_of_a_gradient_that_is_not_finite_is_none(bad: float) -> None:
    x = weight(1.0)
    assert measure({"topic": (x * bad).sum(), "mood": x.sum()}, {"layer.0": [x]}, NAMES) is None


def test_conflict_cosine_never_leaves_its_range() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        direction = torch.randn(7, generator=generator)
        x = nn.Parameter(torch.zeros(7))
        found = measure({"topic": x @ direction, "mood": x @ (-3 * direction)}, {"layer.0": [x]}, NAMES)
        assert found is not None
        assert -1 <= found.cosines["layer.0"]["Topic | Mood"] <= -1 + 1e-6


def test_conflict_on_a_model_equals_gradients_by_hand(tiny_model: MultiTaskModel) -> None:
    parts = shared_parts(tiny_model)
    found = measure(losses_of(tiny_model), parts, NAMES)
    assert found is not None
    flat: dict[str, dict[str, Tensor]] = {}
    for task, name in NAMES.items():
        tiny_model.zero_grad(set_to_none=True)
        losses_of(tiny_model)[task].backward()
        flat[name] = {
            part: torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in weights])
            for part, weights in parts.items()
        }
    assert set(found.cosines) == {"embeddings", "layer.0", "layer.1"}
    for part, pairs in found.cosines.items():
        expected = torch.cosine_similarity(flat["Topic"][part], flat["Mood"][part], dim=0)
        assert pairs == {"Topic | Mood": pytest.approx(float(expected), abs=1e-5)}
        assert abs(float(expected)) < 0.999, "the premise: something to tell apart"
    norms = {name: float(torch.cat(list(gradients.values())).norm()) for name, gradients in flat.items()}
    assert found.norms == pytest.approx(norms, rel=1e-5)
    assert found.shares["Topic"] == pytest.approx(norms["Topic"] / sum(norms.values()), rel=1e-5)


def test_conflict_leaves_graph_gradients_and_random_numbers_alone(tiny_model: MultiTaskModel) -> None:
    """The same bits reach every `.grad`, whether or not somebody looked before the step."""
    parts = shared_parts(tiny_model)
    gradients: list[dict[str, Tensor]] = []
    for looks in (False, True):
        tiny_model.zero_grad(set_to_none=True)
        losses = losses_of(tiny_model)
        state = torch.get_rng_state()
        if looks:
            assert measure(losses, parts, NAMES) is not None
            assert all(w.grad is None for w in tiny_model.parameters())
        assert torch.equal(torch.get_rng_state(), state)
        (losses["topic"] + 2 * losses["mood"]).backward()
        gradients.append({n: w.grad.clone() for n, w in tiny_model.named_parameters() if w.grad is not None})
    plain, looked = gradients
    assert plain.keys() == looked.keys()
    assert len(plain) > 30
    assert all(torch.equal(plain[name], looked[name]) for name in plain)


def test_conflict_does_not_add_to_gradients_that_are_there() -> None:
    x = weight(1.0, 2.0)
    x.grad = torch.tensor([5.0, 6.0])
    measure({"topic": x.sum(), "mood": x[0] * 1}, {"layer.0": [x]}, NAMES)
    assert x.grad.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("tasks", range(2, 12))
def test_conflict_auto_interval_stays_within_its_share_of_the_time(tasks: int) -> None:
    every = interval("auto", tasks, 10**6, shared=True)
    assert tasks * BACKWARD_SHARE / every <= TIME_SHARE
    assert tasks * BACKWARD_SHARE / (every - 1) > TIME_SHARE, "and looks as often as that allows"
    shortest = FEWEST_LOOKS * every
    assert interval("auto", tasks, shortest, shared=True) == every
    assert sum(is_look(step, every) for step in range(1, shortest + 1)) == FEWEST_LOOKS
    assert interval("auto", tasks, shortest - 1, shared=True) == 0


def test_conflict_interval_as_it_is_set() -> None:
    assert interval(7, 2, 3, shared=True) == 7
    assert interval(0, 2, 10**6, shared=True) == 0


@pytest.mark.parametrize("setting", ["auto", 1, 50])
def test_conflict_interval_is_never_where_there_is_nothing_to_see(setting: int) -> None:
    assert interval(setting, 1, 10**6, shared=True) == 0
    assert interval(setting, 3, 10**6, shared=False) == 0
    assert interval(setting, 3, 10**6, shared=True) > 0, "the premise"


def test_conflict_looks_come_at_the_end_of_each_interval() -> None:
    assert [step for step in range(1, 13) if is_look(step, 5)] == [5, 10]
    assert [step for step in range(1, 4) if is_look(step, 1)] == [1, 2, 3]
    assert not any(is_look(step, 0) for step in range(1, 100))
