from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.batching import by_token_budget
from mtl.data.splitting import Splits
from mtl.errors import CheckpointError, ConfigError, DataError
from mtl.modeling.multitask import MultiTaskModel
from mtl.training import preflight as module
from mtl.training import timing
from mtl.training.evaluation import tokenised
from mtl.training.events import EpochEnd, RunBegin
from mtl.training.loop import Diverged, train
from mtl.training.memory import Memory, MemoryWatch
from mtl.training.preflight import Preflight, TaskPreflight, preflight
from mtl.training.timing import Seconds


def run(model: MultiTaskModel, splits: Splits, config: RunConfig, *settings: str) -> Preflight:
    return preflight(model, splits, override(config, list(settings)))


def task(found: Preflight, name: str) -> TaskPreflight:
    return next(task for task in found.tasks if task.name == name)


def begin(model: MultiTaskModel, splits: Splits, config: RunConfig, *settings: str) -> RunBegin:
    """Return the first event of a real run."""
    first = next(iter(train(model, splits, override(config, list(settings)))))
    assert isinstance(first, RunBegin)
    return first


def scale_heads(model: MultiTaskModel, factor: float) -> None:
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.mul_(factor)


def numbers(value: Any) -> list[float]:
    """List every number in nested plain values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


# ---------------------------------------------------------------------------------------- what the run says

FREEZE = ["nothing", "embeddings", "encoder", "layer.0,head.topic", "everything"]


@pytest.mark.parametrize("freeze", FREEZE)
def test_preflight_says_of_the_run_what_the_run_says_itself(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, freeze: str
) -> None:
    settings = ["training.epochs=7", f"training.freeze={freeze}"]
    found = run(copy.deepcopy(tiny_model), tiny_splits, tiny_config, *settings)
    first = begin(tiny_model, tiny_splits, tiny_config, *settings)
    assert (found.steps, found.epochs) == (first.steps, first.epochs)
    assert (found.parameters, found.trainable) == (first.parameters, first.trainable)
    assert found.numerics == first.numerics
    assert found.warnings[: len(first.warnings)] == first.warnings


def test_preflight_is_finite_plain_json(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    found = run(tiny_model, tiny_splits, tiny_config).as_dict
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(numbers(found)) > 20
    assert all(math.isfinite(number) and number >= 0 for number in numbers(found))


@pytest.mark.parametrize("freeze", ["nothing", "encoder"])
def test_preflight_leaves_no_trace_in_the_training(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, freeze: str
) -> None:
    config = override(tiny_config, [f"training.freeze={freeze}", "training.epochs=2"])
    untouched = list(train(copy.deepcopy(tiny_model), tiny_splits, config))
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    preflight(tiny_model, tiny_splits, config)
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())
    after = list(train(tiny_model, tiny_splits, config))
    assert any(isinstance(event, EpochEnd) for event in after)
    assert after == untouched


@pytest.mark.parametrize(("freeze", "embeds"), [("nothing", False), ("encoder", True), ("everything", True)])
def test_preflight_times_the_embedding_of_a_frozen_encoder_alone(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, freeze: str, embeds: bool
) -> None:
    found = run(tiny_model, tiny_splits, tiny_config, f"training.freeze={freeze}", "training.epochs=5")
    seconds = found.seconds
    assert (seconds.embedding > 0) is embeds
    assert min(seconds.step, seconds.validation, seconds.test) > 0
    assert seconds.run == pytest.approx(
        seconds.embedding + 6 * seconds.validation + found.steps * seconds.step + seconds.test
    )


def test_preflight_longest_batch_is_the_largest_a_real_epoch_takes(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(copy.deepcopy(tiny_model), tiny_splits, tiny_config).longest_batch
    seen: list[tuple[int, ...]] = []
    encode = MultiTaskModel.encode

    def spy(model: MultiTaskModel, features: dict[str, Tensor]) -> dict[str, Tensor]:
        if model.training:
            seen.append(tuple(features["input_ids"].shape))
        return encode(model, features)

    monkeypatch.setattr(MultiTaskModel, "encode", spy)
    list(train(tiny_model, tiny_splits, override(tiny_config, ["training.epochs=1"])))
    assert len(seen) > 3
    assert (found.rows, found.tokens) in seen
    assert found.rows * found.tokens == max(map(math.prod, seen))


def test_preflight_longest_batch_of_a_frozen_encoder_is_one_that_is_embedded(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    found = run(tiny_model, tiny_splits, tiny_config, "training.freeze=encoder").longest_batch
    lengths = tokenised(tiny_model, tiny_splits.train).lengths
    assert (found.rows, found.tokens) in [
        (len(batch), max(lengths[i] for i in batch)) for batch in by_token_budget(lengths)
    ]


# ------------------------------------------------------------------------------------- the loss at step 0


def test_preflight_first_loss_of_a_fresh_head_is_that_of_guessing(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    scale_heads(tiny_model, 0.1)
    found = run(tiny_model, tiny_splits, tiny_config)
    for name, classes in (("topic", 3), ("mood", 2)):
        one = task(found, name)
        assert one.classes == classes
        assert one.guessing_loss == pytest.approx(math.log(classes))
        assert one.first_loss == pytest.approx(one.guessing_loss, rel=0.1)
        assert one.ratio == pytest.approx(one.first_loss / one.guessing_loss)


def test_preflight_first_loss_is_the_cross_entropy_before_any_step_and_without_dropout(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    cells = tiny_splits.train.cells["topic"]
    labelled = tiny_splits.train.take([row for row, cell in enumerate(cells) if cell])
    rows = tokenised(tiny_model, labelled)
    batch = rows.batch(range(len(labelled)))
    with torch.no_grad():
        expected = F.cross_entropy(tiny_model.eval()(batch.features)["topic"], batch.labels["topic"]).item()
    # a batch size above the number of rows: all labelled rows are looked at
    found = run(tiny_model, tiny_splits, tiny_config, "training.batch_size=1024")
    assert task(found, "topic").first_loss == pytest.approx(expected, rel=1e-5)


def test_preflight_warns_of_a_first_loss_far_above_guessing(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    sound = run(copy.deepcopy(tiny_model), tiny_splits, tiny_config)
    assert not any("look wrong" in warning for warning in sound.warnings)
    scale_heads(tiny_model, 1000)
    found = run(tiny_model, tiny_splits, tiny_config)
    assert task(found, "topic").ratio > module.MOST_RATIO
    assert any('"topic" starts with a loss of' in w and "look wrong" in w for w in found.warnings)


# ---------------------------------------------------------------------------------------- partial tables


def test_preflight_counts_labelled_rows_of_each_task(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    found = run(tiny_model, tiny_splits, tiny_config)
    for name in ("topic", "mood"):
        labelled = sum(cell != "" for cell in tiny_splits.train.cells[name])
        assert 0 < labelled < len(tiny_splits.train), "the premise needs an empty cell"
        assert task(found, name).labelled_rows == task(found, name).rows_per_epoch == labelled


def test_preflight_with_one_labelled_row_of_a_task_warns_and_measures(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    cells = dict(tiny_splits.train.cells)
    last = len(tiny_splits.train) - 1
    cells["topic"] = tuple("food" if row == last else "" for row in range(last + 1))
    splits = replace(tiny_splits, train=replace(tiny_splits.train, cells=cells))
    found = run(tiny_model, splits, tiny_config, "training.batch_size=4")
    assert task(found, "topic").labelled_rows == 1
    assert task(found, "topic").first_loss > 0
    assert any('"topic" has 1 labelled training row' in warning for warning in found.warnings)


def test_preflight_refuses_a_task_without_a_labelled_training_row(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    cells = dict(tiny_splits.train.cells) | {"mood": ("",) * len(tiny_splits.train)}
    splits = replace(tiny_splits, train=replace(tiny_splits.train, cells=cells))
    with pytest.raises(DataError, match='No training row has a label of "mood"'):
        run(tiny_model, splits, tiny_config)


def test_preflight_without_validation_rows_counts_no_time_for_them(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    splits = replace(tiny_splits, validation=tiny_splits.validation.take([]))
    found = run(tiny_model, splits, tiny_config)
    assert found.seconds.validation == 0
    assert found.seconds.test > 0
    assert any("no validation rows" in warning for warning in found.warnings)


# ---------------------------------------------------------------------------------------- warnings


def test_preflight_warns_when_most_texts_are_cut(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    whole = run(copy.deepcopy(tiny_model), tiny_splits, tiny_config)
    assert whole.cut_ratio == 0
    assert not any("not read" in warning for warning in whole.warnings)
    tiny_model.encoder.max_seq_length = 5
    found = run(tiny_model, tiny_splits, tiny_config)
    assert found.cut_ratio == 1
    assert found.longest_batch.tokens == 5
    assert any("100% of the training texts reach the limit of 5 tokens" in warning for warning in found.warnings)


@pytest.mark.parametrize(("seconds", "warned"), [(3500.0, False), (9000.0, True)])
def test_preflight_warns_of_a_run_of_hours(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    warned: bool,
) -> None:
    monkeypatch.setattr(module, "measure", lambda run: Seconds(1.0, 1.0, 1.0, 0.0, seconds))
    found = run(tiny_model, tiny_splits, tiny_config)
    assert any("about 2.5 hours" in warning for warning in found.warnings) is warned


@pytest.mark.parametrize(("peak", "warned"), [(79 * 2**30, False), (81 * 2**30, True)])
def test_preflight_warns_when_the_memory_is_nearly_all_taken(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    peak: int,
    warned: bool,
) -> None:
    monkeypatch.setattr(MemoryWatch, "found", lambda watch, device: Memory(peak, peak, 100 * 2**30))
    found = run(tiny_model, tiny_splits, tiny_config)
    assert found.memory.peak_bytes == peak
    assert any("81.0 GB of the 100.0 GB" in warning for warning in found.warnings) is warned


# ---------------------------------------------------------------------------------------- what goes wrong


def test_preflight_refuses_weights_that_are_not_numbers(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    with torch.no_grad():
        next(iter(tiny_model.encoder.parameters())).fill_(math.nan)
    with pytest.raises(CheckpointError, match="before the first step"):
        run(tiny_model, tiny_splits, tiny_config)


def test_preflight_that_diverges_says_so_and_puts_the_weights_back(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    taken = []
    real = timing.take_step

    def take_step(*arguments: Any) -> Any:
        taken.append(real(*arguments))
        if len(taken) == 3:
            raise Diverged("A loss was not finite; try smaller learning rates.")
        return taken[-1]

    monkeypatch.setattr(timing, "take_step", take_step)
    with pytest.raises(ConfigError, match="Before the run: a loss was not finite; try smaller"):
        run(tiny_model, tiny_splits, tiny_config)
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


def test_preflight_needs_a_resolved_configuration(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    unresolved = tiny_config.model_copy(update={"training": RunConfig().training})
    with pytest.raises(ValueError, match="resolve the configuration"):
        preflight(tiny_model, tiny_splits, unresolved)


def test_preflight_says_what_each_weighting_would_take(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    found = run(tiny_model, tiny_splits, tiny_config, "training.weighting=uncertainty", "training.freeze=nothing")
    seconds = found.weighting_seconds
    assert seconds["uncertainty"] == seconds["fixed"] == found.seconds.step
    # one forward pass, and a backward pass of twice that for each of two tasks instead of one
    assert seconds["pcgrad"] == pytest.approx(found.seconds.step * 5 / 3)
