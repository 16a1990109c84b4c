"""Every sampling with every weighting, and each of them with every freezing: a run that ends, on the tiny encoder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations, product
from typing import get_args

import pytest
import torch

from mtl.choices import RowSampling, Sampling, Weighting
from mtl.config import CurriculumConfig, RunConfig, task_specs
from mtl.config_text import override
from mtl.data.preparing import cut, prepare
from mtl.data.reading import Table
from mtl.data.splitting import Splits
from mtl.modeling.multitask import build_model
from mtl.training.components import components
from mtl.training.events import EpochEnd, RunEnd, StepEnd
from mtl.training.loop import train
from tests.conftest import MOODS, THINGS

FREEZINGS: dict[str, list[str]] = {
    "nothing": ["training.freeze=nothing"],
    "embeddings": ["training.freeze=embeddings"],
    "encoder": ["training.freeze=encoder"],
    "head": ["training.freeze=head.topic"],
    "everything": ["training.freeze=everything"],
    "unfreezing": ["training.freeze=nothing", "training.unfreezing.layers=1", "training.unfreezing.heads_epochs=1",
                   "training.unfreezing.epochs=1"],
    "per task clip": ["training.freeze=bottom.1", "training.clip_per_task=0.1", "training.stay_close=1",
                      "training.conflict_every=1"],
}  # fmt: skip
AXES = {
    "weighting": get_args(Weighting),
    "sampling": get_args(Sampling),
    "freezing": tuple(FREEZINGS),
    "rows": get_args(RowSampling),
    "curriculum": ("no", "yes"),
}
Row = tuple[str, ...]


def pairwise() -> list[Row]:
    """Choose rows so that every two values of different axes meet in one of them; greedily."""
    axes = list(AXES.values())
    missing = {(i, a, j, b) for i, j in combinations(range(len(axes)), 2) for a, b in product(axes[i], axes[j])}
    rows: list[Row] = []
    while missing:
        i, a, j, b = min(missing)
        row: list[str | None] = [None] * len(axes)
        row[i], row[j] = a, b
        for axis in range(len(axes)):
            if row[axis] is None:
                row[axis] = max(axes[axis], key=lambda value, axis=axis: gain(row, axis, value, missing))  # type: ignore[misc]
        chosen = tuple(str(value) for value in row)
        missing -= {(i, chosen[i], j, chosen[j]) for i, j in combinations(range(len(axes)), 2)}
        rows.append(chosen)
    return rows


def gain(row: list[str | None], axis: int, value: str, missing: set[tuple[int, str, int, str]]) -> int:
    """Count the missing pairs that a value on an axis would add to a row."""
    pairs = [((i, v), (axis, value)) for i, v in enumerate(row) if v is not None and i != axis]
    return sum((*min(pair), *max(pair)) in missing for pair in pairs)


ROWS = pairwise()


@pytest.fixture(scope="module")
def table() -> Table:
    """40 rows of three tasks, one of them entities; some cells empty, and a column of weights."""
    columns: dict[str, list[str]] = {"text": [], "topic": [], "mood": [], "things": [], "weight": []}
    for number, (topic, thing) in enumerate((name, one) for name, things in THINGS.items() for one in things):
        mood = list(MOODS)[number % 2]
        text = f"the {thing} was {MOODS[mood]}"
        span = {"start": 4, "end": 4 + len(thing), "label": topic.upper()}
        columns["text"].append(text)
        columns["topic"].append("" if number % 5 == 0 else topic)
        columns["mood"].append("" if number % 7 == 0 else mood)
        columns["things"].append("" if number % 4 == 1 else json.dumps([span]))
        columns["weight"].append(str(number % 3))
    return Table(columns)


def config_of(base: RunConfig, row: Row) -> RunConfig:
    weighting, sampling, freezing, rows, curriculum = row
    settings = [f"training.weighting={weighting}", f"training.sampling={sampling}", "training.epochs=2",
                f"training.row_sampling={rows}", *FREEZINGS[freezing]]  # fmt: skip
    settings += ["data.task_columns=[topic, mood, things]"]
    settings += ["data.weight_column=weight"] if rows == "weight_column" else []
    settings += ["tasks.topic.final_loss_weight=0.2"] if weighting == "ramp" else []
    config = override(base, settings)
    if curriculum == "yes":
        training = config.training.model_copy(update={"curriculum": CurriculumConfig(start=0.5, epochs=1)})
        config = config.model_copy(update={"training": training})
    return config


def test_combinations_cover_every_pair() -> None:
    pairs = {(i, row[i], j, row[j]) for row in ROWS for i, j in combinations(range(len(AXES)), 2)}
    axes = list(AXES.values())
    assert pairs == {(i, a, j, b) for i, j in combinations(range(len(axes)), 2) for a, b in product(axes[i], axes[j])}


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("row", ROWS, ids="-".join)
@pytest.mark.usefixtures("one_thread")
def test_combinations_run_to_their_end(raw_config: RunConfig, table: Table, row: Row) -> None:
    prepared = prepare(table, config_of(raw_config, row))
    splits: Splits = cut(table, prepared.config, prepared.split)
    model = build_model(prepared.config, task_specs(prepared.config))
    before = {name: [p.detach().clone() for p in part.parameters()] for name, part in components(model).items()}
    events = list(train(model, splits, prepared.config))
    end = events[-1]
    assert isinstance(end, RunEnd)
    assert end.outcome == "done", end.reason
    assert end.test is not None
    assert set(end.test.scores) == {"topic", "mood", "things"}
    assert sum(isinstance(event, EpochEnd) for event in events) == 2
    for event in events:
        if isinstance(event, StepEnd):
            assert event.weights.keys() == event.losses.keys()
            if row[1] != "joint":
                assert len(event.losses) == 1
    changed = {
        name
        for name, part in components(model).items()
        if any(not torch.equal(a, b) for a, b in zip(before[name], part.parameters(), strict=True))
    }
    frozen: set[str] = {"nothing": set(), "embeddings": {"embeddings"}, "encoder": {"embeddings", "layer.0", "layer.1"},
              "head": {"head.topic"}, "everything": set(before), "per task clip": {"embeddings", "layer.0"},
              "unfreezing": {"embeddings", "layer.0"}}[row[2]]  # fmt: skip
    assert not changed & frozen
