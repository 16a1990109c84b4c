"""A run that goes on from a state computes the same bits as one that was never interrupted."""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from mtl.config import RunConfig, task_specs
from mtl.config_text import override
from mtl.data.preparing import cut, prepare
from mtl.data.reading import read_table
from mtl.data.splitting import Splits
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.training.events import EpochEnd, Event, StepEnd, as_json
from mtl.training.loop import train
from mtl.training.numerics import Numerics
from mtl.training.state import State

# What a run may keep between two steps, one way of each kind.
CHOICES: dict[str, list[str]] = {
    "defaults, dropout on": ["training.freeze=nothing"],
    "progressive unfreezing": [
        "training.freeze=nothing",
        "training.unfreezing.heads_epochs=1",
        "training.unfreezing.layers=1",
        "training.unfreezing.epochs=1",
    ],
    "uncertainty": ["training.weighting=uncertainty"],
    "pcgrad": ["training.weighting=pcgrad"],
    "gradnorm": ["training.weighting=gradnorm"],
    "random": ["training.weighting=random"],
    "dynamic weight average": ["training.weighting=dwa"],
    "dynamic task prioritisation": ["training.weighting=dtp"],
    "ramp": ["training.weighting=ramp", "tasks.mood.final_loss_weight=0.1"],
    "per-task batches by difficulty": ["training.sampling=difficulty"],
    "curriculum": ["training.curriculum.start=0.5", "training.curriculum.epochs=2"],
    "close to the start": ["training.stay_close=1.0", "training.freeze=nothing"],
    "conflict looked at": ["training.conflict_every=2"],
    "encoder frozen": ["training.freeze=encoder"],
    "everything frozen": ["training.freeze=everything"],
    "class balance": ["training.row_sampling=class_balance", "training.sampling_options.balance_task=topic"],
}


@dataclass(frozen=True)
class Case:
    """A run that can be begun as often as wanted."""

    config: RunConfig
    splits: Splits

    def model(self) -> MultiTaskModel:
        """Build the model as it is before the first step."""
        return build_model(self.config, task_specs(self.config))

    def events(self, model: MultiTaskModel, resume: State | None = None) -> Iterator[Event]:
        """Train, from the start or from a state."""
        return train(model, self.splits, self.config, numerics=Numerics("cpu", "float32", "eager", 1), resume=resume)


def kept(state: State) -> State:
    """Bring a state to what a file would hold."""
    return State(
        {name: value.clone() for name, value in state.tensors.items()},
        {name: value.clone() for name, value in state.best.items()},
        json.loads(json.dumps(state.values, allow_nan=False)),
    )


def disturb() -> None:
    """Leave the random states of this process elsewhere, as another process would."""
    torch.manual_seed(987)
    np.random.default_rng(987)
    random.seed(987)


def assert_same_from_everywhere(case: Case, *, every: int = 1) -> None:
    """Interrupt a run after its steps and epochs, and compare what comes after with the whole run."""
    disturb()
    model, journal, states = case.model(), [], []
    for event in case.events(model):
        journal.append(as_json(event))
        if isinstance(event, StepEnd | EpochEnd):
            assert event.capture is not None
            states.append((len(journal), kept(event.capture())))
    whole = {name: value.clone() for name, value in model.state_dict().items()}
    assert len(states) > 4
    for position, state in states[::every]:
        disturb()
        again = case.model()
        before = copy.deepcopy(state)
        rest = [as_json(event) for event in case.events(again, state) if as_json(event).get("side") != "embedding"]
        wanted = [event for event in journal[position:] if event.get("side") != "embedding"]
        assert rest == wanted, position
        assert all(torch.equal(value, whole[name]) for name, value in again.state_dict().items()), position
        left = {name: value.nan_to_num() for name, value in state.tensors.items()}  # as it was
        assert all(torch.equal(value.nan_to_num(), left[name]) for name, value in before.tensors.items())


@pytest.mark.parametrize("settings", CHOICES.values(), ids=CHOICES)
def test_course_goes_on_with_the_same_bits(settings: list[str], tiny_splits: Splits, tiny_config: RunConfig) -> None:
    assert_same_from_everywhere(Case(override(tiny_config, settings), tiny_splits), every=4)


def test_course_with_entities_goes_on_with_the_same_bits(raw_config: RunConfig) -> None:
    lines = ["text,place,mood"]
    for number, (place, mood) in enumerate(itertools.product(["Oslo", "Rome", "Lima", "Bern"], ["good", "bad"] * 4)):
        text = (
            f"the {'team' if number % 2 else 'soup'} in {place} was {'great' if mood == 'good' else 'awful'} {number}"
        )
        start = text.index(place)
        cell = json.dumps([{"start": start, "end": start + len(place), "label": "CITY"}]).replace('"', '""')
        lines.append(f'{text},"{cell}",{mood}')
    table = read_table(("\n".join(lines) + "\n").encode())
    prepared = prepare(table, raw_config)
    assert {task.kind for task in task_specs(prepared.config)} == {"classification", "token_classification"}
    assert_same_from_everywhere(Case(prepared.config, cut(table, prepared.config, prepared.split)))


def test_course_after_the_last_epoch_only_scores(tiny_splits: Splits, tiny_config: RunConfig) -> None:
    case = Case(override(tiny_config, ["training.patience=1"]), tiny_splits)
    last: Any = None
    for event in case.events(case.model()):
        last = event if isinstance(event, EpochEnd) else last
        if isinstance(event, EpochEnd):
            state = kept(event.capture()) if event.capture else None
    assert state is not None and state.values["epoch"] is None
    rest = [type(event).__name__ for event in case.events(case.model(), state)]
    assert rest[-1] == "RunEnd" and "StepEnd" not in rest and "RunBegin" not in rest
    assert last.epoch >= 1


def test_course_state_needs_no_best_before_the_first_epoch_ends(tiny_splits: Splits, tiny_config: RunConfig) -> None:
    case = Case(tiny_config, tiny_splits)
    first = next(event for event in case.events(case.model()) if isinstance(event, StepEnd))
    assert first.capture is not None
    assert first.capture().best == {}
