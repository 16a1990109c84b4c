from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.choices import Sampling
from mtl.config import RunConfig
from mtl.training.row_sampling import draw_batches, draw_copies
from mtl.training.sampling import Draw, build_sampler

ROWS = 120
LENGTHS = [3 + row * 7 % 41 for row in range(ROWS)]


def balanced(sampling: Sampling, names: Iterable[str], **options: Any) -> RunConfig:
    training = {"epochs": 5, "batch_size": 8, "sampling": sampling, "row_sampling": "class_balance"}
    tasks = {name: {"labels": ["often", "rare"]} for name in names}
    return RunConfig.model_validate({"tasks": tasks, "training": {**training, "sampling_options": options}})


def visits(draws: Iterable[Draw]) -> Counter[int]:
    return Counter(row for draw in draws for row in draw.rows)


@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_class_balance_evens_out_the_classes(sampling: Sampling) -> None:
    labelled = {"topic": [True] * ROWS}
    config = balanced(sampling, ["topic"])
    classes = ["rare" if row % 10 == 0 else "often" for row in range(ROWS)]
    sampler = build_sampler(labelled, {"topic": classes}, LENGTHS, config)
    for epoch in range(1, 4):
        seen = visits(sampler.epoch(epoch, {}))
        # 12 rows of a class that is to come 60 times, so 5 times each
        assert {seen[row] for row in range(0, ROWS, 10)} == {5}
        assert seen.total() == ROWS
        assert max(seen[row] for row in range(ROWS) if row % 10) == 1


def test_class_balance_counts_entities_or_none_as_two_classes_and_averages_the_tasks() -> None:
    labelled = {"a": [True] * 80 + [False] * 40, "b": [False] * 40 + [True] * 40 + [False] * 40}
    classes: dict[str, list[int | None]] = {
        "a": [0] * 60 + [1] * 20 + [None] * 40,
        "b": [None] * 40 + [0] * 10 + [1] * 30 + [None] * 40,
    }
    a, b = {0: 80 / 120, 1: 80 / 40}, {0: 40 / 20, 1: 40 / 60}
    weights = [
        np.mean([of[kind] for of, kind in ((a, x), (b, y)) if kind is not None] or [1.0])
        for x, y in zip(classes["a"], classes["b"], strict=True)
    ]
    sampler = build_sampler(labelled, classes, LENGTHS, balanced("joint", ["a", "b"]))
    seen = visits([draw for epoch in range(400) for draw in sampler.epoch(epoch, {})])
    found = np.array([seen[row] for row in range(ROWS)]) / 400
    assert found == pytest.approx(np.array(weights) * ROWS / np.sum(weights), abs=0.13)


@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_class_balance_of_one_task_counts_in_the_batches_of_the_others(sampling: Sampling) -> None:
    labelled = {"topic": [True] * 120, "mood": [row < 60 for row in range(ROWS)]}
    classes: dict[str, list[str | None]] = {
        "topic": ["x"] * 119 + ["y"],
        "mood": ["good"] * 50 + ["bad"] * 10 + [None] * 60,
    }
    config = balanced(sampling, ["topic", "Mood"], balance_task="Mood")
    draws = build_sampler(labelled, classes, LENGTHS, config).epoch(1, {})
    seen = visits([draw for draw in draws if draw.task in (None, "topic")])
    assert {seen[row] for row in range(50, 60)} == {3}  # 60 / (2 * 10)
    assert sum(seen[row] for row in range(50)) == pytest.approx(30, abs=1)
    assert {seen[row] for row in range(60, 120)} == {1}


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1.7e308)), min_size=1, max_size=30).filter(any),
    st.integers(1, 60),
    st.integers(0, 1000),
)
@settings(deadline=None)
def test_copies_are_the_expected_number_rounded_down_or_up(weights: list[float], count: int, seed: int) -> None:
    copies = draw_copies(np.array(weights), count, torch.Generator().manual_seed(seed))
    expected = np.array(weights) / max(weights)
    expected *= count / expected.sum()
    assert copies.sum() == count
    assert (copies >= np.floor(expected - 1e-6)).all()
    assert (copies <= np.ceil(expected + 1e-6)).all()
    assert not copies[np.array(weights) == 0].any()


def test_copies_come_on_average_as_often_as_their_weights_say() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = np.array([0.5, 1.0, 2.5, 0.25, 0.75])
    mean = np.mean([draw_copies(weights, 4, generator) for _ in range(3000)], axis=0)
    assert mean == pytest.approx(weights * 4 / 5, abs=0.03)


def test_copies_of_a_row_are_not_put_into_one_batch() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 40, 1000).tolist()
    weights = np.where(np.arange(1000) < 50, 10.0, 0.5)  # 50 rows, half of all draws
    batches = draw_batches(
        np.arange(1000),
        1000,
        weights=weights,
        lengths=lengths,
        batch_size=32,
        generator=torch.Generator().manual_seed(0),
    )
    rare = [[row for row in batch if row < 50] for batch in batches]
    assert sum(map(len, rare)) == pytest.approx(513, abs=2)
    assert np.mean([len(set(rows)) / len(rows) for rows in rare if rows]) > 0.6  # sorting them all by length: 0.2
    assert sorted(map(len, batches)) == [8] + [32] * 31
    # and still the texts of a batch are of more similar length than by chance
    spread = np.mean([np.std([lengths[row] for row in batch]) for batch in batches])
    assert spread < 0.6 * np.std([lengths[row] for batch in batches for row in batch])
