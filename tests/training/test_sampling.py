from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch

from mtl.choices import RowSampling, Sampling
from mtl.config import RunConfig
from mtl.data.batching import shuffled_buckets
from mtl.errors import ConfigError, DataError
from mtl.tasks import task_keys
from mtl.training.row_sampling import ROW_SAMPLINGS
from mtl.training.sampling import Draw, Sampler, build_sampler
from mtl.training.task_sampling import SAMPLINGS

PER_TASK = [name for name, shares in SAMPLINGS.items() if shares]
EPOCHS = 5
ROWS = 120
# Type has a key other than its name; topic and mood overlap; one row has no label at all
LABELLED = {
    "topic": [row < 100 for row in range(ROWS)],
    "mood": [60 <= row < 75 or row == 110 for row in range(ROWS)],
    "type_1": [row == 111 for row in range(ROWS)],
}
NAMES = {"topic": "topic", "mood": "Mood", "type_1": "type"}
CLASSES = {
    key: [None if not known else "rare" if row % 10 == 0 else "often" for row, known in enumerate(column)]
    for key, column in LABELLED.items()
}
LENGTHS = [3 + row * 7 % 41 for row in range(ROWS)]
WEIGHTS = [float(row % 4) for row in range(ROWS)]


def configure(
    sampling: Sampling = "joint",
    row_sampling: RowSampling = "uniform",
    names: Sequence[str] = tuple(NAMES.values()),
    **training: Any,
) -> RunConfig:
    values = {"epochs": EPOCHS, "batch_size": 8, "seed": 3, "sampling": sampling, "row_sampling": row_sampling}
    data = {"weight_column": "w"} if row_sampling == "weight_column" else {}
    tasks = {name: {"labels": ["often", "rare"]} for name in names}
    return RunConfig.model_validate({"data": data, "tasks": tasks, "training": {**values, **training}})


def build(
    sampling: Sampling = "joint",
    row_sampling: RowSampling = "uniform",
    labelled: Mapping[str, Sequence[bool]] = LABELLED,
    difficulty: Sequence[float] | None = None,
    **training: Any,
) -> Sampler:
    names = [NAMES.get(key, key) for key in labelled]
    config = configure(sampling, row_sampling, names, **training)
    classes = {key: CLASSES.get(key, [None] * ROWS) for key in labelled}
    size = len(next(iter(labelled.values())))
    return build_sampler(labelled, classes, LENGTHS[:size], config, weights=WEIGHTS[:size], difficulty=difficulty)


def first_rows(**counts: int) -> dict[str, list[bool]]:
    """Label the first rows of a table for each task."""
    return {key: [row < count for row in range(ROWS)] for key, count in counts.items()}


def batches_of(draws: Sequence[Draw]) -> dict[str | None, int]:
    return dict(Counter(draw.task for draw in draws))


def visits(draws: Sequence[Draw]) -> Counter[int]:
    return Counter(row for draw in draws for row in draw.rows)


def test_sampling_registries_hold_what_the_configuration_offers() -> None:
    assert list(SAMPLINGS) == list(get_args(Sampling))
    assert list(ROW_SAMPLINGS) == list(get_args(RowSampling))
    assert {key: task_keys(NAMES.values())[name] for key, name in NAMES.items()} == {key: key for key in NAMES}


@pytest.mark.parametrize("curriculum", [None, {"start": 0.3, "epochs": 2}])
@pytest.mark.parametrize(("sampling", "row_sampling"), [*product(SAMPLINGS, ROW_SAMPLINGS)])
def test_sampling_every_combination_keeps_its_promises(
    sampling: Sampling, row_sampling: RowSampling, curriculum: dict[str, float] | None
) -> None:
    difficulty = [row * 13 % 17 / 17 for row in range(ROWS)] if curriculum else None
    sampler = build(sampling, row_sampling, difficulty=difficulty, curriculum=curriculum)
    preview = build(sampling, row_sampling, curriculum=curriculum)  # before the difficulty is known
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    scores: dict[str, float] = {}
    for epoch in range(1, EPOCHS + 1):
        draws = sampler.epoch(epoch, scores)
        assert len(draws) == sampler.steps(epoch) == preview.steps(epoch)
        assert draws == sampler.epoch(epoch, dict(scores))
        assert draws == build(sampling, row_sampling, difficulty=difficulty, curriculum=curriculum).epoch(epoch, scores)
        assert all(0 < len(draw.rows) <= 8 and type(draw.rows[0]) is int for draw in draws)
        if sampling == "joint":
            assert {draw.task for draw in draws} == {None}
        else:
            expected = set(LABELLED)
            if row_sampling == "weight_column":
                assert WEIGHTS[111] > 0
            assert {draw.task for draw in draws} == expected
            assert all(LABELLED[str(draw.task)][row] for draw in draws for row in draw.rows)
        if row_sampling == "weight_column":
            assert not any(WEIGHTS[row] == 0 for draw in draws for row in draw.rows)
        scores = {"topic": 0.9, "mood": 0.2}
    assert sampler.epoch(4, scores) != sampler.epoch(5, scores)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[2] == random.getstate()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_sampling_depends_on_the_seed(sampling: Sampling) -> None:
    assert build(sampling).epoch(1, {}) != build(sampling, seed=4).epoch(1, {})


def test_joint_epochs_are_the_shuffled_buckets_of_all_rows() -> None:
    sampler = build("joint")
    for epoch in (1, 2, 9):
        generator = torch.Generator().manual_seed(3 * 1_000_003 + epoch)
        assert [draw.rows for draw in sampler.epoch(epoch, {})] == shuffled_buckets(LENGTHS, 8, generator)
        assert visits(sampler.epoch(epoch, {})) == dict.fromkeys(range(ROWS), 1)


@pytest.mark.parametrize("sampling", PER_TASK)
def test_per_task_epoch_is_as_long_as_one_pass_over_every_task(sampling: Sampling) -> None:
    # 100 rows, 16 rows and 1 row, by 8
    assert {build(sampling).steps(epoch) for epoch in range(1, EPOCHS + 1)} == {13 + 2 + 1}


def test_proportional_takes_every_labelled_row_once() -> None:
    for epoch in (1, 4):
        draws = build("proportional").epoch(epoch, {"topic": 0.1})
        assert batches_of(draws) == {"topic": 13, "mood": 2, "type_1": 1}
        for key, column in LABELLED.items():
            rows = [row for draw in draws if draw.task == key for row in draw.rows]
            assert sorted(rows) == [row for row, known in enumerate(column) if known]


def test_uniform_takes_turns() -> None:
    sampler = build("uniform")
    first = [draw.task for draw in sampler.epoch(1, {})]
    assert first == (["topic", "mood", "type_1"] * 6)[:16]
    assert [draw.task for draw in sampler.epoch(2, {})][:3] == ["mood", "type_1", "topic"]
    total = sum((Counter(draw.task for draw in sampler.epoch(epoch, {})) for epoch in (1, 2, 3)), Counter())
    assert set(total.values()) == {16}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, [90, 10]),
        (2.0, [75, 25]),  # 900 to 100, the roots 30 to 10
        (100.0, [51, 49]),  # 9 ** 0.01 = 1.0222, so 50.55 to 49.45
    ],
)
def test_temperature_lies_between_proportional_and_uniform(value: float, expected: list[int]) -> None:
    labelled = {"a": [True] * 900 + [False] * 100, "b": [False] * 900 + [True] * 100}
    config = configure("temperature", names=("a", "b"), batch_size=10, sampling_options={"temperature": value})
    sampler = build_sampler(labelled, {}, [1] * 1000, config)
    for epoch in (1, 3):
        assert batches_of(sampler.epoch(epoch, {})) == dict(zip("ab", expected, strict=True))


def test_temperature_1_and_the_first_annealed_epoch_are_proportional() -> None:
    labelled = first_rows(topic=97, mood=9, type_1=9)  # 17 * 97 / 115 = 14.3, but a pass is 13 batches
    expected = build("proportional", labelled=labelled).epoch(1, {})
    assert batches_of(expected) == {"topic": 13, "mood": 2, "type_1": 2}
    assert build("temperature", labelled=labelled, sampling_options={"temperature": 1}).epoch(1, {}) == expected
    assert build("annealed", labelled=labelled).epoch(1, {}) == expected


def test_annealed_goes_from_proportional_to_almost_equal() -> None:
    labelled = {"a": [True] * 900 + [False] * 100, "b": [False] * 900 + [True] * 100}
    sampler = build_sampler(labelled, {}, [1] * 1000, configure("annealed", names=("a", "b"), batch_size=10))
    # 100 * 9 ** a / (1 + 9 ** a) for a = 1, 0.8, 0.6, 0.4, 0.2
    found = [batches_of(sampler.epoch(epoch, {}))["a"] for epoch in range(1, 6)]
    assert found == [90, 85, 79, 71, 61]


def test_difficulty_moves_to_the_weak_task() -> None:
    sampler = build("difficulty", labelled=first_rows(topic=80, mood=80, type_1=80))
    assert batches_of(sampler.epoch(1, {})) == {"topic": 10, "mood": 10, "type_1": 10}
    assert batches_of(sampler.epoch(2, {"topic": 0.9, "mood": 0.6, "type_1": 0.5})) == {
        "topic": 3,
        "mood": 12,
        "type_1": 15,
    }
    # solved: 0.05 against 1 and their mean, 0.525, for the one without a score
    scored = batches_of(sampler.epoch(2, {"topic": 1.0, "mood": 0.0, "type_1": float("nan")}))
    assert scored == {"topic": 1, "mood": 19, "type_1": 10}


def test_difficulty_does_not_forget_what_is_solved() -> None:
    sampler = build("difficulty", labelled=first_rows(topic=120, mood=120), batch_size=2)
    # 120 batches: 0.05 / 0.55 of them are 10.9
    assert batches_of(sampler.epoch(2, {"topic": 1.0, "mood": 0.5})) == {"topic": 11, "mood": 109}


def test_samplings_other_than_difficulty_do_not_look_at_scores() -> None:
    for sampling in SAMPLINGS:
        sampler = build(sampling)
        same = sampler.epoch(2, {}) == sampler.epoch(2, {"topic": 0.99, "mood": 0.1, "type_1": 0.5})
        assert same == (sampling != "difficulty")


@pytest.mark.parametrize("row_sampling", ["uniform", "class_balance"])
@pytest.mark.parametrize("sampling", PER_TASK)
def test_a_task_without_a_labelled_row_is_left_out(sampling: Sampling, row_sampling: RowSampling) -> None:
    draws = build(sampling, row_sampling, first_rows(topic=40, mood=0)).epoch(2, {"mood": 0.0})
    assert batches_of(draws) == {"topic": 5}
    assert build(sampling, row_sampling, first_rows(topic=0, mood=0)).epoch(1, {}) == []


@pytest.mark.parametrize("sampling", PER_TASK)
def test_a_task_of_one_row_gives_batches_of_one(sampling: Sampling) -> None:
    draws = [draw for draw in build(sampling).epoch(3, {"type_1": 0.0}) if draw.task == "type_1"]
    assert draws
    assert all(draw.rows == [111] for draw in draws)


def test_a_task_that_comes_more_often_passes_over_its_rows_evenly() -> None:
    sampler = build("uniform", labelled=first_rows(topic=120, mood=20))  # 15 and 3 batches, so 9 for each
    rows = [draw.rows for draw in sampler.epoch(1, {}) if draw.task == "mood"]
    assert Counter(row for batch in rows for row in batch) == dict.fromkeys(range(20), 3)
    assert all(len(set(batch)) == len(batch) for batch in rows)
    fewer = visits([draw for draw in sampler.epoch(1, {}) if draw.task == "topic"])
    assert set(fewer.values()) == {1}
    assert len(fewer) == 9 * 8
    later = [visits([d for d in sampler.epoch(e, {}) if d.task == "topic"]) for e in range(1, 9)]
    assert set().union(*later) == set(range(120))


def test_class_balance_of_an_unknown_task_is_said() -> None:
    with pytest.raises(ConfigError, match='there is no task "Moood"; there are: topic, Mood, type'):
        build("joint", "class_balance", sampling_options={"balance_task": "Moood"})
    build("joint", "uniform", sampling_options={"balance_task": "Moood"})  # nobody looks at it
    config = configure("joint", "class_balance", sampling_options={"balance_task": "type"})
    with pytest.raises(ConfigError, match="there are: topic."):
        build_sampler({"topic": [True]}, {"topic": ["rare"]}, [1], config)


def test_weight_column_draws_in_proportion_and_never_a_row_of_zero() -> None:
    sampler = build("joint", "weight_column")
    for epoch in (1, 2, 3):
        seen = visits(sampler.epoch(epoch, {}))
        assert seen.total() == ROWS
        # the mean of 0, 1, 2 and 3 is 1.5, so 1 comes 0.67 times, 2 1.33 times and 3 twice
        assert [{seen[row] for row in range(kind, ROWS, 4)} for kind in range(4)] == [{0}, {0, 1}, {1, 2}, {2}]


def test_weight_column_of_zeros_leaves_a_task_out_and_a_table_without_rows_is_refused() -> None:
    labelled = {"a": [True] * 4 + [False] * 4, "b": [False] * 4 + [True] * 4}
    config = configure("proportional", "weight_column", ["a", "b"], curriculum={"start": 0.3, "epochs": 2})
    weights, easy = [0.0] * 4 + [1.0, 0.0, 0.0, 2.0], [0.0] * 4 + [1.0, 0.0, 0.0, 1.0]
    sampler = build_sampler(labelled, {}, [1] * 8, config, weights=weights, difficulty=easy)
    for epoch in (1, 2, 3):
        assert batches_of(sampler.epoch(epoch, {})) == {"b": 1}
        assert visits(sampler.epoch(epoch, {})).keys() <= {4, 7}
    with pytest.raises(DataError, match="weight 0"):
        build_sampler(labelled, {}, [1] * 8, config, weights=[0.0] * 8)


def test_curriculum_takes_the_easiest_first_and_reaches_all() -> None:
    difficulty = [row * 37 % ROWS / ROWS for row in range(ROWS)]
    sampler = build(labelled=first_rows(topic=120), difficulty=difficulty, curriculum={"start": 0.25, "epochs": 3})
    seen = [visits(sampler.epoch(epoch, {})) for epoch in range(1, EPOCHS + 1)]
    assert [len(rows) for rows in seen] == [30, 60, 90, 120, 120]
    for rows in seen:
        assert set(rows.values()) == {1}
        assert set(rows) == set(np.argsort(difficulty)[: len(rows)].tolist())


@pytest.mark.parametrize("row_sampling", ROW_SAMPLINGS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_curriculum_shows_something_of_every_task_even_if_one_is_the_hardest(
    sampling: Sampling, row_sampling: RowSampling
) -> None:
    hard = [float(LABELLED["mood"][row]) + 2 * LABELLED["type_1"][row] for row in range(ROWS)]
    sampler = build(sampling, row_sampling, difficulty=hard, curriculum={"start": 0.05, "epochs": 4})
    draws = sampler.epoch(1, {})
    for key, column in LABELLED.items():
        assert any(column[row] for draw in draws if draw.task in (None, key) for row in draw.rows)


def test_build_sampler_wants_a_resolved_configuration_and_its_columns() -> None:
    with pytest.raises(ValueError, match="resolve"):
        build(epochs="auto")
    with pytest.raises(ValueError, match="weights"):
        build_sampler({"topic": [True]}, {}, [1], configure("joint", "weight_column", ["topic"]))
