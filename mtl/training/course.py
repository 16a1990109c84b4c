"""Where a run is: its epoch and step, its best weights so far, and all of that as a whole that can be kept.

A run that goes on from a `State` computes the same bits as one that was never interrupted, dropout included.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtl.training.events import EpochEnd, StepEnd
from mtl.training.metrics import Evaluation, Meter
from mtl.training.sampling import Draw
from mtl.training.selection import Choice
from mtl.training.setup import Setup
from mtl.training.state import State


class Course:
    """Moves a run on from its start or from a `State`.

    Args:
        run: Set up; nothing has learnt yet.

    Attributes:
        epoch: The epoch that is on or comes next, 1 for the first; None: all are done.
        step: The last step that was taken, 0 before the first.
        best: The best weights so far; those of the start until an epoch has ended.
        best_epoch: When they were made.
        meter: Collects the scores of the epoch that is on.
    """

    def __init__(self, run: Setup) -> None:
        self._run = run
        self.epoch: int | None = 1
        self.step = 0
        self.reason = ""
        self.best, self.best_epoch = run.snapshot(), None  # type: tuple[dict[str, Tensor], int | None]
        self.meter = self._new_meter()
        self._taken = 0  # batches of this epoch
        self._scores: dict[str, float] = {}
        self._chooser = run.chooser()
        torch.manual_seed(run.seed)  # dropout; the weights were drawn when the model was built

    def _new_meter(self) -> Meter:
        return Meter(self._run.model, self._run.loss_weights, self._run.main)

    def enter(self, epoch: int) -> list[Draw]:
        """Let learn what learns in this epoch, and return its batches that are still to come."""
        if not self._taken:
            self._run.weighting.begin_epoch(epoch)
            self.step = self._run.plan.first_step(epoch) - 1
        self._run.enter(epoch)
        return self._run.draws(epoch, self._scores)[self._taken :]

    def passed(self, event: StepEnd) -> StepEnd:
        """Take note of a step; the event can be kept from then on."""
        self.step, self._taken = event.step, self._taken + 1
        return replace(event, capture=self.state)

    def choose(self, scored: Evaluation | None, epoch: int, scores: dict[str, float]) -> Choice:
        """Judge an epoch that has ended and move on to the next."""
        choice = self._chooser.look(scored, epoch)
        if choice.improved:
            self.best, self.best_epoch = self._run.snapshot(), epoch
        self.epoch, self.reason = choice.next_epoch, choice.reason
        self._scores, self._taken, self.meter = scores, 0, self._new_meter()
        return choice

    def ended(self, event: EpochEnd) -> EpochEnd:
        """Make the event one that can be kept."""
        return replace(event, capture=self.state)

    def state(self) -> State:
        """Return what a continuation needs; the tensors are those of the run, so they change with the next event."""
        run = self._run
        meter, collected = self.meter.state()
        tensors = {
            **_named("model", run.snapshot()),
            **_named("optimizer", _moments(run.optimizer)),
            **_named("weighting", run.weighting.state_dict()),
            **_named("meter", meter),
            **_named("random", _random_states()),
        }
        values = {
            "epoch": self.epoch,
            "taken": self._taken,
            "step": self.step,
            "reason": self.reason,
            "parts": run.parts,
            "best_epoch": self.best_epoch,
            "scores": self._scores,
            "chooser": self._chooser.state(),
            "meter": collected,
            "python_random": _python_random(),
        }
        return State(tensors, self.best if self.best_epoch is not None else {}, values)

    def resume(self, state: State) -> None:
        """Go on from a state of a run of the same configuration and data."""
        run, values = self._run, state.values
        self.epoch, self._taken, self.step = values["epoch"], values["taken"], values["step"]
        self.reason, self.best_epoch, self._scores = values["reason"], values["best_epoch"], dict(values["scores"])
        run.parts = values["parts"]
        self._chooser.resume(values["chooser"])
        self.meter.resume(_within(state.tensors, "meter"), values["meter"])
        if self.best_epoch is not None:
            self.best = {name: value.to(run.model.device) for name, value in state.best.items()}
        restore(run.model, _within(state.tensors, "model"))
        run.weighting.load_state_dict(_within(state.tensors, "weighting"))
        _set_moments(run.optimizer, _within(state.tensors, "optimizer"))
        random.setstate(_as_tuple(values["python_random"]))
        _set_random_states(_within(state.tensors, "random"))


def restore(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights back that `snapshot` copied."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])


def _named(group: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{group}.{name}": value for name, value in values.items()}


def _within(values: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}."): value for name, value in values.items() if name.startswith(f"{group}.")}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what the optimizer knows of each weight: number of the weight and name -> value."""
    known = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, state in known.items() for name, value in state.items()}


def _set_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    known: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        number, _, name = key.partition(".")
        known.setdefault(int(number), {})[name] = value.clone()  # the optimizer changes it in place
    optimizer.load_state_dict({"state": known, "param_groups": optimizer.state_dict()["param_groups"]})


def _random_states() -> dict[str, Tensor]:
    """Return the states of torch's generators and of NumPy's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - a library may draw from it
    states["numpy"] = torch.from_numpy(np.asarray(keys, dtype=np.int64))
    states["numpy_rest"] = torch.tensor([float(value) for value in rest], dtype=torch.float64)
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda.{number}" in states:
            torch.cuda.set_rng_state(states[f"cuda.{number}"], number)
    position, has_gauss, gauss = states["numpy_rest"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))  # noqa: NPY002


def _python_random() -> list[Any]:
    version, internal, gauss = random.getstate()
    return [version, list(internal), gauss]


def _as_tuple(state: list[Any]) -> tuple[Any, ...]:
    version, internal, gauss = state
    return version, tuple(internal), gauss
