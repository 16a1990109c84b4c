"""Which checkpoint is the best, and when there is nothing left to wait for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtl.choices import PhasePatience, Selection
from mtl.training.metrics import Evaluation
from mtl.training.plan import RatePlan


@dataclass(frozen=True)
class Choice:
    """What one epoch's scores mean for the run.

    Attributes:
        improved: It is the best checkpoint so far.
        stale: Epochs since the best one, as far as they count towards the patience.
        best_tasks: Names of the tasks whose main score is their best so far.
        next_epoch: The epoch that follows; None: the run is over.
        reason: Why it is over.
    """

    improved: bool
    stale: int
    best_tasks: tuple[str, ...]
    next_epoch: int | None
    reason: str = ""


class Chooser:
    """Follows the validation scores of a run.

    On a tie the earliest checkpoint stays the best one. Where parts are still to be unfrozen, `in_phases` says what
    the end of patience means; the epochs that are passed over keep their numbers, and so the rates their steps.

    Args:
        plan: The run's.
        select_by: What makes a checkpoint the best.
        weights: Task name -> factor of its score.
        patience: Epochs without improvement before something happens.
        in_phases: What happens before the last phase.
    """

    def __init__(
        self,
        plan: RatePlan,
        *,
        select_by: Selection,
        weights: Mapping[str, float],
        patience: int,
        in_phases: PhasePatience,
    ) -> None:
        self._plan, self._select_by, self._weights = plan, select_by, dict(weights)
        self._patience, self._in_phases = patience, in_phases
        self._best, self._stale = -math.inf, 0
        self._best_of: dict[str, float] = {}

    def look(self, scored: Evaluation | None, epoch: int) -> Choice:
        """Take in an epoch's validation scores; without any, the last epoch is the best."""
        value = self._value(scored, epoch)
        improved = value > self._best  # strictly: the earliest wins a tie
        begins = epoch == self._plan.phases[self._plan.phase(epoch) - 1].first_epoch
        if begins and self._in_phases != "stop":
            self._stale = 0
        self._stale = 0 if improved else self._stale + 1
        self._best = max(value, self._best)
        best_tasks = self._best_tasks(scored)
        following, reason = self._next(epoch)
        return Choice(improved, self._stale, best_tasks, following, reason)

    def state(self) -> dict[str, Any]:
        """Return what was seen so far, as plain JSON."""
        best = self._best if math.isfinite(self._best) else None
        return {"best": best, "stale": self._stale, "best_of": dict(self._best_of)}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what another judge of the same run has seen."""
        self._best = -math.inf if state["best"] is None else state["best"]
        self._stale, self._best_of = state["stale"], dict(state["best_of"])

    def _next(self, epoch: int) -> tuple[int | None, str]:
        following = (epoch + 1 if epoch < self._plan.epochs else None), "all epochs done"
        if self._stale < self._patience:
            return following
        phase = self._plan.phase(epoch)
        if phase == len(self._plan.phases) or self._in_phases == "stop":
            return None, f"no improvement for {self._patience} epochs"
        if self._in_phases == "wait":
            return following
        return self._plan.phases[phase].first_epoch, ""

    def _best_tasks(self, scored: Evaluation | None) -> tuple[str, ...]:
        scores = scored.main_scores if scored else {}
        found = tuple(task for task, score in scores.items() if score > self._best_of.get(task, -math.inf))
        self._best_of |= {task: scores[task] for task in found}
        return found

    def _value(self, scored: Evaluation | None, epoch: int) -> float:
        """Return what makes a checkpoint the best, higher being better."""
        if scored is None or scored.mean_score is None:
            return float(epoch)
        if self._select_by == "validation_loss":
            return -scored.loss
        if self._select_by == "mean_score":
            return scored.mean_score
        weights = {task: self._weights[task] for task in scored.scores}
        total = sum(weights.values())
        return sum(weights[t] * s for t, s in scored.main_scores.items()) / total if total else scored.mean_score
