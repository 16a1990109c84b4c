from __future__ import annotations

import copy
import json
import math
from collections.abc import Generator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl.config import RunConfig, TaskConfig, task_specs
from mtl.config_text import override
from mtl.data.splitting import Examples, Splits
from mtl.modeling import ways
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.training import loop, setup
from mtl.training.components import components
from mtl.training.course import Course
from mtl.training.evaluation import evaluate, tokenised
from mtl.training.events import EpochEnd, EvaluationStep, Event, RunBegin, RunEnd, Side, StepEnd, as_json
from mtl.training.loop import train
from mtl.training.metrics import Evaluation
from mtl.training.schedules import rate_factor

EMPTY = Examples((), {"topic": (), "mood": ()}, ())


def run(model: MultiTaskModel, splits: Splits, config: RunConfig, *settings: str) -> list[Event]:
    """Train to the end and return all events."""
    return list(train(model, splits, override(config, list(settings))))


def only(kind: type, events: Sequence[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def ending(events: Sequence[Event]) -> RunEnd:
    assert isinstance(events[-1], RunEnd)
    return events[-1]


def beginning(events: Sequence[Event]) -> RunBegin:
    assert isinstance(events[0], RunBegin)
    return events[0]


def weights(model: MultiTaskModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def finite(model: MultiTaskModel) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


# ------------------------------------------------------------------------------------------- events


def test_loop_events_come_in_order(tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig) -> None:
    events = run(tiny_model, tiny_splits, tiny_config, "training.epochs=2")
    begin, end = beginning(events), ending(events)
    per_epoch = -(-len(tiny_splits.train) // 8)
    assert begin.steps == 2 * per_epoch
    assert begin.epochs == 2
    assert begin.rows == {side: len(getattr(tiny_splits, side)) for side in ("train", "validation", "test")}
    steps, epochs = only(StepEnd, events), only(EpochEnd, events)
    assert [step.step for step in steps] == list(range(1, begin.steps + 1))
    assert [step.epoch for step in steps] == [1] * per_epoch + [2] * per_epoch
    assert [(epoch.epoch, epoch.step) for epoch in epochs] == [(1, per_epoch), (2, 2 * per_epoch)]
    sides = [event.side for event in only(EvaluationStep, events)]
    assert sides == sorted(sides, key=["validation", "test"].index)
    assert events.index(epochs[-1]) < events.index(only(EvaluationStep, events)[-1])
    assert (end.outcome, end.reason) == ("done", "all epochs done")


def test_loop_events_are_plain_json_without_a_clock(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    values = [as_json(event) for event in run(tiny_model, tiny_splits, tiny_config, "training.epochs=1")]
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert "logits" not in json.dumps(values)
    assert not any(word in json.dumps(values) for word in ("time", "seconds", "/tmp"))


def test_loop_learns(tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig) -> None:
    events = run(tiny_model, tiny_splits, tiny_config, "training.epochs=15", "training.patience=15")
    epochs = only(EpochEnd, events)
    assert epochs[-1].train.losses["mood"] < epochs[0].train.losses["mood"] / 10
    assert epochs[-1].train.losses["topic"] < epochs[0].train.losses["topic"]
    assert max(epoch.validation.scores["mood"]["accuracy"] for epoch in epochs) > 0.8


def test_loop_needs_a_resolved_configuration(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    unresolved = tiny_config.model_copy(update={"training": RunConfig().training})
    with pytest.raises(ValueError, match="resolve the configuration"):
        next(iter(train(tiny_model, tiny_splits, unresolved)))


def test_loop_stops_when_nobody_iterates(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    before = weights(tiny_model)
    events = train(tiny_model, tiny_splits, tiny_config)
    assert isinstance(next(events), RunBegin)
    assert equal(weights(tiny_model), before), "no step before the first event"
    assert isinstance(next(events), StepEnd)
    after_one = weights(tiny_model)
    assert not equal(after_one, before)
    events.close()  # type: ignore[attr-defined]
    assert equal(weights(tiny_model), after_one)


# ------------------------------------------------------------------------------------------- freezing

EVERYTHING = {"embeddings", "layer.0", "layer.1", "head.topic", "head.mood"}
FREEZE: dict[str, set[str]] = {
    "everything": EVERYTHING,
    "encoder": {"embeddings", "layer.0", "layer.1"},
    "embeddings": {"embeddings"},
    "head.topic": {"head.topic"},
    "head.mood": {"head.mood"},
    "layer.0": {"layer.0"},
    "nothing": set(),
}


@pytest.mark.parametrize("preset", FREEZE)
def test_loop_leaves_frozen_parts_bit_identical_and_trains_the_rest(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, preset: str
) -> None:
    before = copy.deepcopy(tiny_model)
    run(tiny_model, tiny_splits, tiny_config, f"training.freeze={preset}", "training.epochs=2")
    unchanged = {
        name
        for (name, old), new in zip(components(before).items(), components(tiny_model).values(), strict=True)
        if all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    }
    assert unchanged == FREEZE[preset]
    pooler = [name for name in tiny_model.state_dict() if ".pooler." in name]
    assert pooler
    assert all(torch.equal(tiny_model.state_dict()[name], before.state_dict()[name]) for name in pooler)


@pytest.mark.parametrize("preset", FREEZE)
def test_loop_keeps_frozen_parts_in_evaluation_mode(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, preset: str
) -> None:
    config = override(tiny_config, [f"training.freeze={preset}", "training.epochs=2"])
    seen = 0
    for event in train(tiny_model, tiny_splits, config):
        if isinstance(event, StepEnd):
            seen += 1
            for name, part in components(tiny_model).items():
                modes = {module.training for module in part.modules()}
                assert modes == {name not in FREEZE[preset]}, name
    assert seen > 0


def test_loop_freezing_the_encoder_lets_the_new_parts_learn(tiny_splits: Splits, tiny_config: RunConfig) -> None:
    settings = ["encoder.pooling=attention", "encoder.projection=6", "encoder.layer_norm=true"]
    config = override(tiny_config, [*settings, "training.freeze=encoder", "training.projection_learning_rate=0.01"])
    model = build_model(config, task_specs(config))
    before = copy.deepcopy(model)
    list(train(model, tiny_splits, config))
    changed = {
        name
        for (name, old), new in zip(components(before).items(), components(model).values(), strict=True)
        if not all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    }
    assert changed == {"pooling", "projection", "layer_norm", "head.topic", "head.mood"}


def test_loop_runs_a_frozen_encoder_over_each_text_once(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = 0
    transformer = tiny_model.encoder[0]
    forward = transformer.forward

    def counted(features: dict[str, Tensor]) -> Any:
        nonlocal encoded
        encoded += len(features["input_ids"])
        return forward(features)

    monkeypatch.setattr(transformer, "forward", counted)
    events = run(tiny_model, tiny_splits, tiny_config, "training.freeze=encoder", "training.epochs=4")
    assert encoded == sum(beginning(events).rows.values())
    steps = [event for event in only(EvaluationStep, events) if event.side == "embedding"]
    assert [step.total for step in steps if step.done == step.total] == [len(tiny_splits.train), 9]


def test_loop_embedding_once_changes_nothing_but_the_time(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["training.freeze=encoder", "training.epochs=3"]
    again = copy.deepcopy(tiny_model)
    once = run(tiny_model, tiny_splits, tiny_config, *settings)
    monkeypatch.setattr(setup, "embed_once", lambda *_: iter(()))
    each_time = run(again, tiny_splits, tiny_config, *settings)
    assert ending(once).best_epoch == ending(each_time).best_epoch
    for left, right in zip(only(StepEnd, once), only(StepEnd, each_time), strict=True):
        assert left.losses == pytest.approx(right.losses, abs=1e-5)
    for name, value in tiny_model.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], atol=1e-4, rtol=1e-3)


def test_loop_with_everything_frozen_is_a_legal_run_that_learns_nothing(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    before = weights(tiny_model)
    events = run(tiny_model, tiny_splits, tiny_config, "training.freeze=everything")
    assert equal(weights(tiny_model), before)
    begin = beginning(events)
    assert begin.trainable == 0 < begin.parameters
    assert any("Everything is frozen: nothing is learnt" in warning for warning in begin.warnings)
    assert all(step.gradient_norm is None and step.learning_rates == {} for step in only(StepEnd, events))
    assert ending(events).outcome == "done"
    assert ending(events).test is not None


def test_loop_warns_of_a_head_frozen_at_random(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    events = run(tiny_model, tiny_splits, tiny_config, "training.freeze=head.mood", "training.epochs=1")
    (warning,) = beginning(events).warnings
    assert "mood" in warning
    assert "frozen at its random start" in warning
    assert "topic" not in warning


def test_loop_warns_of_nothing_in_an_ordinary_run(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    events = run(tiny_model, tiny_splits, tiny_config, "training.epochs=1")
    assert beginning(events).warnings == ()


def test_loop_counts_what_learns(tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig) -> None:
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in components(tiny_model).items()}
    begin = next(iter(train(tiny_model, tiny_splits, override(tiny_config, ["training.freeze=encoder"]))))
    assert isinstance(begin, RunBegin)
    assert begin.parameters == sum(sizes.values())
    assert begin.trainable == sizes["head.topic"] + sizes["head.mood"]


# ------------------------------------------------------------------------------------------- seeds


def seeded(splits: Splits, config: RunConfig, seed: int, *settings: str) -> tuple[list[Event], dict[str, Tensor]]:
    config = override(config, [f"training.seed={seed}", "training.epochs=2", *settings])
    model = build_model(config, task_specs(config))
    torch.seed()  # whatever was drawn in between does not matter
    return list(train(model, splits, config)), weights(model)


def test_loop_with_the_same_seed_gives_the_same_bits(tiny_splits: Splits, tiny_config: RunConfig) -> None:
    first, same = (seeded(tiny_splits, tiny_config, 3, "tasks.topic.head=mlp") for _ in range(2))
    assert first[0] == same[0]
    assert equal(first[1], same[1])


def test_loop_with_another_seed_gives_another_run(tiny_splits: Splits, tiny_config: RunConfig) -> None:
    first, other = (seeded(tiny_splits, tiny_config, seed) for seed in (3, 4))
    assert first[0] != other[0]
    assert not equal(first[1], other[1])


# ------------------------------------------------------------------------------------------- steps


def test_loop_uses_the_scheduled_rate_of_each_part(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    settings = ["tasks.mood.learning_rate=0.02", "training.freeze=embeddings", "training.warmup=0.25"]
    events = run(tiny_model, tiny_splits, tiny_config, *settings)
    peaks = {"layer.0": 5e-3, "layer.1": 5e-3, "head.topic": 5e-2, "head.mood": 0.02}
    total = beginning(events).steps
    for step in only(StepEnd, events):
        factor = rate_factor("linear", step.step - 1, steps=total, warmup=0.25)
        assert step.learning_rates == pytest.approx({name: rate * factor for name, rate in peaks.items()})


def test_loop_moves_each_weight_by_its_rate_in_the_first_step(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    # Adam's first step is the rate times the sign of the gradient, whatever the gradient's size
    settings = ["training.freeze=nothing", "training.weight_decay=0", "training.warmup=0"]
    rates = ["training.embeddings_learning_rate=1e-4", "training.encoder_learning_rate=2e-3"]
    before = copy.deepcopy(tiny_model)
    events = train(tiny_model, tiny_splits, override(tiny_config, [*settings, *rates]))
    next(step for step in events if isinstance(step, StepEnd))
    expected = {"embeddings": 1e-4, "layer.0": 2e-3, "layer.1": 2e-3, "head.topic": 5e-2, "head.mood": 5e-2}
    for (name, old), new in zip(components(before).items(), components(tiny_model).values(), strict=True):
        moves = [(a - b).abs().max().item() for a, b in zip(old.parameters(), new.parameters(), strict=True)]
        assert max(moves) == pytest.approx(expected[name], rel=1e-2), name


@pytest.mark.parametrize("clip", [0.01, 100.0])
def test_loop_clips_the_gradient(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    clip: float,
) -> None:
    used: list[float] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:
            gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            used.append(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])).item())
            super().step(closure)

    monkeypatch.setitem(setup.OPTIMIZERS, "adamw", Watched)
    steps = only(StepEnd, run(tiny_model, tiny_splits, tiny_config, f"training.clip={clip}", "training.epochs=1"))
    norms = [step.gradient_norm for step in steps]
    assert all(norm > 0.01 for norm in norms), "otherwise there would be nothing to clip"
    assert used == pytest.approx([min(norm, clip) for norm in norms], rel=1e-3)


def test_loop_without_a_limit_does_not_clip(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    free, wide = (
        run(copy.deepcopy(tiny_model), tiny_splits, tiny_config, f"training.clip={clip}", "training.epochs=1")
        for clip in ("null", "1e9")
    )
    assert only(StepEnd, free) == only(StepEnd, wide)


def test_loop_loss_is_the_weighted_sum(tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig) -> None:
    events = run(tiny_model, tiny_splits, tiny_config, "tasks.topic.loss_weight=0.25", "tasks.mood.loss_weight=3")
    for step in only(StepEnd, events):
        assert step.weights == {"topic": 0.25, "mood": 3.0}
        assert step.loss == pytest.approx(0.25 * step.losses["topic"] + 3 * step.losses["mood"])
    for epoch in only(EpochEnd, events):
        for side in (epoch.train, epoch.validation):
            assert side.loss == pytest.approx(0.25 * side.losses["topic"] + 3 * side.losses["mood"])


def test_loop_task_of_weight_zero_teaches_nothing(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    before = copy.deepcopy(tiny_model.heads["mood"].state_dict())
    settings = ["tasks.mood.loss_weight=0", "training.weight_decay=0"]
    run(tiny_model, tiny_splits, tiny_config, *settings)
    assert equal(tiny_model.heads["mood"].state_dict(), before)


def test_loop_train_scores_count_the_labelled_rows(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    events = run(tiny_model, tiny_splits, tiny_config, "training.epochs=1")
    labelled = {task: sum(cell != "" for cell in cells) for task, cells in tiny_splits.train.cells.items()}
    assert only(EpochEnd, events)[0].train.counts == labelled


def test_loop_batch_without_a_task_leaves_that_task_out(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    cells = tiny_splits.train.cells
    topic_only = [i for i in range(len(tiny_splits.train)) if cells["topic"][i] and not cells["mood"][i]]
    splits = Splits(tiny_splits.train.take(topic_only), tiny_splits.validation, EMPTY)
    before = copy.deepcopy(tiny_model.heads["mood"].state_dict())
    events = run(tiny_model, splits, tiny_config, "training.epochs=1")
    assert all(set(step.losses) == {"topic"} for step in only(StepEnd, events))
    assert equal(tiny_model.heads["mood"].state_dict(), before)


def test_loop_in_bfloat16_keeps_float32_weights_and_scores_the_test_in_float32_if_it_differs(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "TOLERANCE", 1e-12)
    events = run(tiny_model, tiny_splits, tiny_config, "training.precision=bfloat16")
    assert beginning(events).numerics["precision"] == "bfloat16"
    assert ending(events).outcome == "done"
    assert all(parameter.dtype == torch.float32 for parameter in tiny_model.parameters())
    assert tiny_model.precision == torch.float32
    assert evaluate(tiny_model, tiny_splits.test) == ending(events).test


def test_loop_runs_with_adam(tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig) -> None:
    before = weights(tiny_model)
    assert ending(run(tiny_model, tiny_splits, tiny_config, "training.optimizer=adam")).outcome == "done"
    assert not equal(weights(tiny_model), before)


# ------------------------------------------------------------------------------- selection and stopping


class Script:
    """Replaces the evaluation: epoch n gets the n-th validation loss and score, and the weights are noted."""

    def __init__(self, losses: list[float], scores: list[float]) -> None:
        self.validations = [
            Evaluation(loss, {"topic": loss}, {"topic": {"macro_f1": score}}, {"topic": 1}, {"topic": "macro_f1"})
            for loss, score in zip(losses, scores, strict=True)
        ]
        self.seen: list[dict[str, Tensor]] = []

    def __call__(
        self, model: MultiTaskModel, rows: Any, factors: Any, main: Any, side: Side
    ) -> Generator[Event, None, Evaluation | None]:
        """Act as `evaluation`."""
        yield EvaluationStep(side, 1, 1)
        if side == "test":
            return None
        self.seen.append(weights(model))
        return self.validations[min(len(self.seen), len(self.validations)) - 1]


@pytest.mark.parametrize(
    ("select_by", "best"),
    [("mean_score", 2), ("validation_loss", 3)],
)
def test_loop_keeps_the_best_epoch_and_the_earliest_of_equals(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    select_by: str,
    best: int,
) -> None:
    script = Script(losses=[3.0, 2.0, 1.0, 1.0, 1.5], scores=[0.2, 0.5, 0.5, 0.5, 0.4])
    monkeypatch.setattr(loop, "evaluation", script)
    settings = ["training.epochs=5", "training.patience=5", f"training.select_by={select_by}"]
    events = run(tiny_model, tiny_splits, tiny_config, *settings)
    assert ending(events).best_epoch == best
    assert [epoch.improved for epoch in only(EpochEnd, events)] == [number <= best for number in range(1, 6)]
    assert equal(weights(tiny_model), script.seen[best - 1])
    assert not equal(weights(tiny_model), script.seen[best])


def test_loop_stops_after_as_many_epochs_without_improvement_as_it_has_patience(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(losses=[1.0] * 9, scores=[0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.9, 0.9, 0.9])
    monkeypatch.setattr(loop, "evaluation", script)
    events = run(tiny_model, tiny_splits, tiny_config, "training.epochs=9", "training.patience=2")
    epochs = only(EpochEnd, events)
    assert [epoch.epochs_without_improvement for epoch in epochs] == [0, 0, 1, 0, 1, 2]
    assert ending(events).reason == "no improvement for 2 epochs"
    assert ending(events).best_epoch == 4


def test_loop_real_scores_choose_the_real_weights(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    settings = ["training.epochs=6", "training.patience=6", "training.select_by=validation_loss"]
    events = run(tiny_model, tiny_splits, tiny_config, *settings)
    losses = [epoch.validation.loss for epoch in only(EpochEnd, events)]
    assert ending(events).best_epoch == losses.index(min(losses)) + 1
    kept = evaluate(tiny_model, tiny_splits.validation)
    assert kept is not None
    assert kept.loss == min(losses)
    assert ending(events).validation == kept


def test_loop_without_validation_rows_keeps_the_last_epoch(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    splits = Splits(tiny_splits.train, EMPTY, tiny_splits.test)
    config = override(tiny_config, ["training.patience=1"])
    last: dict[str, Tensor] = {}
    events: list[Event] = []
    for event in train(tiny_model, splits, config):
        events.append(event)
        if isinstance(event, EpochEnd):
            last = weights(tiny_model)
    epochs = only(EpochEnd, events)
    assert len(epochs) == config.training.epochs, "nothing to lose patience over"
    assert all(epoch.validation is None and epoch.improved for epoch in epochs)
    assert ending(events).best_epoch == config.training.epochs
    assert equal(weights(tiny_model), last)
    assert any("no validation rows" in warning for warning in beginning(events).warnings)


def test_loop_without_test_rows_claims_no_test_score(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    splits = Splits(tiny_splits.train, tiny_splits.validation, EMPTY)
    assert ending(run(tiny_model, splits, tiny_config, "training.epochs=1")).test is None


# ------------------------------------------------------------------------------------------- divergence


@pytest.fixture
def spoilt_loss(tiny_model: MultiTaskModel, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the loss of a step in the second epoch be NaN; return that step."""
    spoilt, calls = -(-len(tiny_splits.train) // 8) + 2, 0
    head: Any = tiny_model.heads["topic"]
    original = head.loss

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += tiny_model.training
        return original(logits, labels) * (math.nan if tiny_model.training and calls == spoilt else 1.0)

    monkeypatch.setattr(head, "loss", loss)
    return spoilt


def test_loop_that_diverges_ends_with_the_best_weights(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, spoilt_loss: int
) -> None:
    first_epoch: dict[str, Tensor] = {}
    events: list[Event] = []
    for event in train(tiny_model, tiny_splits, tiny_config):
        events.append(event)
        if isinstance(event, EpochEnd):
            first_epoch = weights(tiny_model)
    end = ending(events)
    assert (end.outcome, end.best_epoch, end.test) == ("diverged", 1, None)
    assert f"step {spoilt_loss}" in end.reason
    assert "smaller learning rates" in end.reason
    assert only(StepEnd, events)[-1].step == spoilt_loss - 1
    assert equal(weights(tiny_model), first_epoch)
    assert finite(tiny_model)


def test_loop_that_diverges_in_its_first_step_is_as_before(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights(tiny_model)
    monkeypatch.setattr(tiny_model.heads["mood"], "loss", lambda logits, labels: logits.sum() * math.inf)
    end = ending(run(tiny_model, tiny_splits, tiny_config))
    assert (end.outcome, end.best_epoch) == ("diverged", None)
    assert equal(weights(tiny_model), before)


@pytest.mark.parametrize("validation", [True, False], ids=["validation", "no validation"])
def test_loop_that_diverges_in_the_last_step_of_an_epoch_is_noticed(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, validation: bool
) -> None:
    """The step's own loss was finite; only the weights it made are not."""
    before = weights(tiny_model)
    splits = tiny_splits if validation else Splits(tiny_splits.train, EMPTY, tiny_splits.test)
    last = -(-len(tiny_splits.train) // 8)
    events: list[Event] = []
    for event in train(tiny_model, splits, tiny_config):
        events.append(event)
        if isinstance(event, StepEnd) and event.step == last:
            with torch.no_grad():
                tiny_model.encoder[0].model.encoder.layer[1].output.dense.weight.mul_(math.inf)
    assert ending(events).outcome == "diverged"
    assert only(EpochEnd, events) == []
    assert equal(weights(tiny_model), before)


def test_loop_survives_the_largest_rates(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    rates = [f"training.{part}_learning_rate=1" for part in ("embeddings", "encoder", "head")]
    end = ending(run(tiny_model, tiny_splits, tiny_config, *rates, "training.clip=null", "training.epochs=5"))
    assert end.outcome in {"done", "diverged"}
    assert finite(tiny_model)


# ------------------------------------------------------------------------------------------- evaluation


def test_loop_evaluation_keeps_the_order_of_the_examples(tiny_model: MultiTaskModel, tiny_splits: Splits) -> None:
    found = evaluate(tiny_model, tiny_splits.train)
    assert found is not None
    rows = tokenised(tiny_model, tiny_splits.train)
    with torch.no_grad():
        one_by_one = [tiny_model.eval()(rows.batch([i]).features) for i in range(len(rows))]
    for key in ("topic", "mood"):
        expected = torch.cat([logits[key] for logits in one_by_one])
        torch.testing.assert_close(found.logits[key], expected, atol=1e-5, rtol=1e-4)


def test_loop_evaluation_changes_no_weight_and_needs_no_gradient(
    tiny_model: MultiTaskModel, tiny_splits: Splits
) -> None:
    before = weights(tiny_model)
    first, again = evaluate(tiny_model.train(), tiny_splits.test), evaluate(tiny_model, tiny_splits.test)
    assert first == again, "no dropout"
    assert first is not None
    assert not first.logits["topic"].requires_grad
    assert equal(weights(tiny_model), before)


def test_loop_evaluation_of_no_examples_is_none(tiny_model: MultiTaskModel) -> None:
    assert evaluate(tiny_model, EMPTY) is None


def test_loop_final_test_is_that_of_the_kept_weights(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    test = ending(run(tiny_model, tiny_splits, tiny_config)).test
    again = evaluate(tiny_model, tiny_splits.test)
    assert test is not None
    assert again is not None
    assert test == again
    assert all(torch.equal(logits, again.logits[task]) for task, logits in test.logits.items())


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["type", "a.b", "a/b", "情感", "Größe (cm)", "train"])
def test_loop_takes_any_task_name(tiny_splits: Splits, tiny_config: RunConfig, name: str) -> None:
    tasks = {name: TaskConfig(labels=tiny_config.tasks["topic"].labels), "mood": tiny_config.tasks["mood"]}
    config = tiny_config.model_copy(update={"tasks": tasks})

    def renamed(side: Examples) -> Examples:
        return Examples(side.texts, {name: side.cells["topic"], "mood": side.cells["mood"]}, side.rows)

    splits = Splits(*(renamed(getattr(tiny_splits, side)) for side in ("train", "validation", "test")))
    model = build_model(config, task_specs(config))
    events = list(train(model, splits, override(config, ["training.epochs=1", f"training.freeze=head.{name}"])))
    test = ending(events).test
    assert test is not None
    assert set(test.scores) == {name, "mood"}
    assert set(only(StepEnd, events)[0].losses) <= {name, "mood"}
    assert len(beginning(events).warnings) == 1, "the head was found and frozen"


def test_loop_asks_a_device_for_numbers_only_when_the_step_is_done(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = setup.Setup(tiny_model, tiny_splits, tiny_config, None)
    waits: list[str] = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__"):

        def asked(self: Tensor, *arguments: Any, name: str = name, ask: Any = getattr(Tensor, name)) -> Any:
            if self.is_floating_point():  # indices and masks of labels have never left the host
                waits.append(name)
            return ask(self, *arguments)

        monkeypatch.setattr(Tensor, name, asked)
    step = prepared.optimizer.step
    monkeypatch.setattr(prepared.optimizer, "step", lambda: (waits.append("the step"), step()))
    course = Course(prepared)
    for number, draw in enumerate(course.enter(1)[:3], start=1):
        batch = prepared.batch(draw)
        waits.clear()
        loop.take_step(prepared, batch, course.meter, number, 1)
        assert waits[0] == "the step"
        assert waits.count("tolist") == 1, "all losses and the norm are asked for at once"
        assert not {"item", "__bool__", "__float__"} & set(waits)
