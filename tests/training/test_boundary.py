"""What the frozen parts give is computed once, and is what they would give each time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl.config import RunConfig, task_specs
from mtl.config_text import override
from mtl.data.splitting import Splits
from mtl.modeling.layers import Below, output_below
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.training import boundary
from mtl.training.boundary import keep_below, lowest
from mtl.training.course import Course
from mtl.training.evaluation import tokenised
from mtl.training.events import EpochEnd, EvaluationStep, Event, RunEnd, StepEnd
from mtl.training.loop import take_step, train
from mtl.training.setup import Setup

HALF = ["training.freeze=[bottom.1]", "training.epochs=3"]


def run(model: MultiTaskModel, splits: Splits, config: RunConfig, *settings: str, **options: Any) -> list[Event]:
    return list(train(model, splits, override(config, list(settings)), **options))


def weights(model: MultiTaskModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the rows that go through the lowest layer of any model, really computed."""
    from transformers.models.bert.modeling_bert import BertLayer

    seen: list[int] = []
    forward = BertLayer.forward

    def counted(self: nn.Module, hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
        seen.append(len(hidden_states))
        return forward(self, hidden_states, *arguments, **options)

    monkeypatch.setattr(BertLayer, "forward", counted)
    yield seen


@pytest.mark.parametrize(
    ("freeze", "epochs", "expected"),
    [
        ("[encoder]", 1, 2),
        ("[bottom.1]", 3, 1),
        ("[bottom.1]", 1, 0),
        ("[layer.0]", 3, 0),
        ("[embeddings, layer.1]", 3, 0),
        ("[embeddings]", 3, 0),
        ("[everything]", 3, 2),
    ],
)
def test_boundary_is_below_the_lowest_layer_that_learns(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    freeze: str,
    epochs: int,
    expected: int,
) -> None:
    config = override(tiny_config, [f"training.freeze={freeze}", f"training.epochs={epochs}"])
    assert Setup(tiny_model, tiny_splits, config, None).plan.kept_layers(1) == expected


@pytest.mark.parametrize("count", [1, 2])
def test_boundary_gives_what_a_whole_pass_gives(tiny_model: MultiTaskModel, tiny_splits: Splits, count: int) -> None:
    model = tiny_model.eval()
    names = list(model.state_dict())
    rows = tokenised(model, tiny_splits.train)
    below = lowest(model, count)
    assert below == Below(count, in_tuple=below.in_tuple if below else False)
    whole = [model.encode(rows.batch(range(n, n + 3)).features) for n in (0, 3)]
    list(keep_below(model, rows, count, torch.float32))
    model.below = below
    for n, expected in zip((0, 3), whole, strict=True):
        features = rows.batch(range(n, n + 3)).features
        assert features["below"].shape == (*features["input_ids"].shape, 16)
        found = model.encode(features)
        mask = features["attention_mask"].bool()
        torch.testing.assert_close(
            found["token_embeddings"][mask], expected["token_embeddings"][mask], atol=1e-5, rtol=1e-5
        )
        assert "below" not in found
    assert list(model.state_dict()) == names
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_boundary_changes_nothing_but_the_time(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    passes: list[int],
) -> None:
    again = copy.deepcopy(tiny_model)
    kept = run(tiny_model, tiny_splits, tiny_config, *HALF)
    with_it = sum(passes)
    passes.clear()
    monkeypatch.setattr(boundary, "MOST_BYTES", 0)
    monkeypatch.setattr(boundary, "MOST_DISK_BYTES", 0)
    each_time = run(again, tiny_splits, tiny_config, *HALF)
    assert with_it < 0.85 * sum(passes)
    steps = [[event for event in events if isinstance(event, StepEnd)] for events in (kept, each_time)]
    for left, right in zip(*steps, strict=True):
        assert left.losses == pytest.approx(right.losses, abs=1e-4)
    for name, value in weights(tiny_model).items():
        torch.testing.assert_close(value, weights(again)[name], atol=2e-3, rtol=1e-2)
    ends = [[event for event in events if isinstance(event, EpochEnd)] for events in (kept, each_time)]
    for left, right in zip(*ends, strict=True):
        assert left.validation.losses == pytest.approx(right.validation.losses, abs=1e-3)


def test_boundary_makes_two_runs_equal_bit_for_bit(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    again = copy.deepcopy(tiny_model)
    first = run(tiny_model, tiny_splits, tiny_config, *HALF)
    second = run(again, tiny_splits, tiny_config, *HALF)
    assert first == second
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(tiny_model).items())


def test_boundary_in_a_file_is_the_one_in_memory(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    again = copy.deepcopy(tiny_model)
    in_memory = run(tiny_model, tiny_splits, tiny_config, *HALF)
    monkeypatch.setattr(boundary, "MOST_BYTES", 0)
    opened: list[Path | None] = []
    store = boundary.TokenStore

    def noted(*arguments: Any) -> Any:
        opened.append(arguments[3])
        return store(*arguments)

    monkeypatch.setattr(boundary, "TokenStore", noted)
    in_file = run(again, tiny_splits, tiny_config, *HALF, cache_dir=tmp_path)
    assert opened == [tmp_path / "frozen"] * 2
    assert in_memory == in_file
    assert list((tmp_path / "frozen").iterdir()) == []


def test_boundary_moves_down_as_layers_thaw(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, passes: list[int]
) -> None:
    phases = "[{epochs: 2, learn: [heads]}, {epochs: 2, learn: [top.1]}, {epochs: 2, learn: [encoder]}]"
    config = override(tiny_config, [f"training.phases={phases}", "training.epochs=6"])
    setup = Setup(tiny_model, tiny_splits, config, None)
    found = {}
    for epoch in range(1, 7):
        embedded = [event for event in setup.keep_frozen(epoch) if isinstance(event, EvaluationStep)]
        rows = setup.train
        found[epoch] = (rows.embeddings is not None, rows.below is not None, bool(embedded))
    assert found == {
        1: (True, False, True),
        2: (True, False, False),
        3: (False, True, True),
        4: (False, True, False),
        5: (False, False, False),
        6: (False, False, False),
    }
    assert tiny_model.below is None


def test_boundary_of_one_epoch_would_save_nothing(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    config = override(tiny_config, ["training.freeze=[bottom.1]", "training.epochs=1"])
    setup = Setup(tiny_model, tiny_splits, config, None)
    assert list(setup.keep_frozen(1)) == []
    assert setup.train.below is None


@pytest.mark.parametrize("stop", [1, 5, 9])
def test_boundary_is_there_again_after_a_continuation(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, stop: int
) -> None:
    config = override(tiny_config, HALF)
    fresh = copy.deepcopy(tiny_model)
    whole = list(train(tiny_model, tiny_splits, config))
    half = copy.deepcopy(fresh)
    state = None
    for event in train(half, tiny_splits, config):
        if isinstance(event, StepEnd) and event.step == stop:
            assert event.capture is not None
            state = copy.deepcopy(event.capture())
            break
    rest = list(train(fresh, tiny_splits, config, resume=state))
    steps = [event for event in whole if isinstance(event, StepEnd) and event.step > stop]
    assert [event for event in rest if isinstance(event, StepEnd)] == steps
    assert all(torch.equal(value, weights(fresh)[name]) for name, value in weights(tiny_model).items())
    assert isinstance(rest[-1], RunEnd) and rest[-1].outcome == "done"


def test_boundary_of_layers_that_hand_on_more_is_none(
    tiny_model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = tiny_model.layers[0]
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *a, **k: (forward(*a, **k), "a position bias"))
    with pytest.raises(ValueError, match="more than token vectors"):
        output_below([layer], 1, lambda: layer(torch.zeros(1, 2, 16)))
    assert lowest(tiny_model.eval(), 0) is None


def test_boundary_that_gives_something_else_is_none(
    tiny_model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    encode = tiny_model.encode

    def drifting(features: dict[str, Tensor]) -> dict[str, Tensor]:
        nonlocal passes
        passes += 1
        found = encode(features)
        return {**found, "token_embeddings": found["token_embeddings"] + passes}

    monkeypatch.setattr(tiny_model, "encode", drifting)
    assert lowest(tiny_model, 1) is None


def test_boundary_with_parts_learns_as_without(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    config = override(tiny_config, HALF)
    found = []
    for parts in (1, 3):
        model = build_model(config, task_specs(config))
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        setup = Setup(model, tiny_splits, config, None)
        list(setup.prepare_rows())
        setup.order_rows()
        course = Course(setup)
        list(setup.keep_frozen(1))
        setup.parts = parts
        draw = course.enter(1)[0]
        found.append(take_step(setup, setup.batch(draw), course.meter, 1, 1).losses)
    assert found[0] == pytest.approx(found[1], abs=1e-5)
