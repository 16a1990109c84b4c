from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.batching import Batch, Tokenised, by_token_budget
from mtl.data.splitting import Splits
from mtl.modeling.multitask import MultiTaskModel
from mtl.training import timing
from mtl.training.events import Event
from mtl.training.setup import Setup
from mtl.training.timing import measure

STEP_SECONDS_PER_TOKEN, BATCH_SECONDS = 0.001, 0.25


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still but for what a step and a batch are said to take."""
    clock = SimpleNamespace(now=0.0)
    real = {name: getattr(timing, name) for name in ("take_step", "evaluation", "embed_once")}

    def take_step(run: Setup, batch: Batch, *rest: Any) -> Any:
        done = real["take_step"](run, batch, *rest)
        words = batch.features.get("input_ids")
        clock.now += BATCH_SECONDS if words is None else STEP_SECONDS_PER_TOKEN * words.shape[1]
        return done

    def slowly(name: str) -> Any:
        def go_through(*arguments: Any) -> Iterator[Event]:
            for event in real[name](*arguments):
                clock.now += BATCH_SECONDS
                yield event

        return go_through

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(timing, "take_step", take_step)
    monkeypatch.setattr(timing, "evaluation", slowly("evaluation"))
    monkeypatch.setattr(timing, "embed_once", slowly("embed_once"))
    return clock


@pytest.fixture
def many(tiny_splits: Splits) -> Splits:
    """The tiny rows over and over: many batches of each kind."""
    return Splits(
        *(
            side.take(list(range(len(side))) * 100)
            for side in (tiny_splits.train, tiny_splits.validation, tiny_splits.test)
        )
    )


def batches(rows: Tokenised) -> int:
    return len(by_token_budget(rows.lengths))


def test_timing_is_exact_where_the_time_follows_the_length(
    tiny_model: MultiTaskModel, many: Splits, tiny_config: RunConfig, clock: SimpleNamespace
) -> None:
    run = Setup(tiny_model, many, tiny_config, None)
    order = [draw.rows for draw in run.draws(1, {})]
    assert len(order) > 3 * timing.STEP_BATCHES
    assert batches(run.validation) > timing.EVALUATION_BATCHES
    found = measure(run)
    lengths = [max(run.train.lengths[i] for i in batch) for batch in order]
    step = STEP_SECONDS_PER_TOKEN * sum(lengths) / len(lengths)
    assert found.step == pytest.approx(step)
    assert found.validation == pytest.approx(BATCH_SECONDS * batches(run.validation))
    assert found.test == pytest.approx(BATCH_SECONDS * batches(run.test))
    assert found.embedding == 0
    assert found.run == pytest.approx((run.epochs + 1) * found.validation + run.steps * found.step + found.test)


def test_timing_of_a_frozen_encoder_embeds_once_and_steps_on_embeddings(
    tiny_model: MultiTaskModel, many: Splits, tiny_config: RunConfig, clock: SimpleNamespace
) -> None:
    run = Setup(tiny_model, many, override(tiny_config, ["training.freeze=encoder"]), None)
    found = measure(run)
    assert found.step == pytest.approx(BATCH_SECONDS), "a step saw tokens"
    assert found.embedding == pytest.approx(BATCH_SECONDS * (batches(run.train) + batches(run.validation)))
    assert found.run == pytest.approx(
        found.embedding + (run.epochs + 1) * found.validation + run.steps * found.step + found.test
    )


def test_timing_of_slow_steps_takes_few_of_them(
    tiny_model: MultiTaskModel, many: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    clock = SimpleNamespace(now=0.0)

    def take_step(run: Setup, batch: Batch, *rest: Any) -> None:
        taken.append(len(batch.indices))
        clock.now += 60

    monkeypatch.setattr(timing, "take_step", take_step)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    found = measure(Setup(tiny_model, many, tiny_config, None))
    assert found.step == pytest.approx(60)
    assert len(taken) <= 1 + timing.LEAST_BATCHES + 1, "the warm-up, a few lengths and the largest"


def test_timing_of_no_validation_and_no_test_rows_is_zero(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    splits = replace(tiny_splits, validation=tiny_splits.validation.take([]), test=tiny_splits.test.take([]))
    for settings in ([], ["training.freeze=encoder"]):
        found = measure(Setup(tiny_model, splits, override(tiny_config, settings), None))
        assert (found.validation, found.test) == (0, 0)
        assert found.step > 0


@given(st.integers(1, 10_000), st.integers(2, 12))
def test_timing_sample_is_distinct_ascending_and_reaches_both_ends(count: int, most: int) -> None:
    chosen = timing._spread(count, most)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert len(chosen) <= most
    if count <= most:
        assert len(chosen) == count


@given(
    st.lists(st.integers(1, 512), min_size=1, max_size=50),
    st.floats(0.001, 10.0),
    st.floats(0.0, 2.0),
    st.integers(1, 512),
)
def test_timing_sum_is_exact_for_a_power_of_the_length_between_the_ends(
    tokens: list[int], seconds: float, power: float, between: int
) -> None:
    measured = {length: [seconds * length**power] for length in (1, between, 512)}
    assert timing._all(measured, tokens) == pytest.approx(sum(seconds * length**power for length in tokens))


def test_timing_of_one_length_is_not_moved_by_one_disturbed_step() -> None:
    assert timing._all({10: [1.0, 1.0, 90.0]}, [5, 10, 20]) == pytest.approx(3.0)
