"""Accuracy and macro F1 per task, and one number for them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from mtl.data.batching import IGNORE_INDEX
from mtl.tasks import TaskSpec

METRICS = ("accuracy", "macro_f1")
MAIN_METRIC = "macro_f1"


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a set of examples. Dictionaries are keyed by task name; a task without labels is absent.

    Attributes:
        loss: Weighted sum of the tasks' losses.
        losses: Mean loss over the labelled examples.
        scores: `accuracy` and `macro_f1`, from 0 to 1.
        counts: Labelled examples.
        logits: Shape: (B, C) for each task, in the order of the examples; empty where they were not kept.
    """

    loss: float
    losses: dict[str, float]
    scores: dict[str, dict[str, float]]
    counts: dict[str, int]
    logits: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def mean_score(self) -> float | None:
        """The mean over the tasks of their macro F1; None if nothing was labelled."""
        values = [scores[MAIN_METRIC] for scores in self.scores.values()]
        return sum(values) / len(values) if values else None


class Meter:
    """Collects logits and labels batch by batch.

    Args:
        tasks: The tasks.
        weights: Task key -> factor of its loss in the sum.
    """

    def __init__(self, tasks: Sequence[TaskSpec], weights: Mapping[str, float]) -> None:
        self._tasks = {task.key: task for task in tasks}
        self._weights = weights
        self._loss_sums: dict[str, float] = defaultdict(float)
        self._truth: dict[str, list[Tensor]] = defaultdict(list)
        self._guess: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], losses: Mapping[str, float]) -> None:
        """Take in one batch.

        Args:
            logits: Task key -> logits. Shape: (B, C).
            labels: Task key -> class indices. Shape: (B,).
            losses: Task key -> mean loss over the labelled rows; tasks without any are absent.
        """
        for key, loss in losses.items():
            labelled = labels[key] != IGNORE_INDEX
            truth = labels[key][labelled]
            self._truth[key].append(truth)
            self._guess[key].append(logits[key].detach().argmax(dim=-1).cpu()[labelled])
            self._loss_sums[key] += loss * len(truth)

    def evaluation(self) -> Evaluation:
        """Sum up what was taken in."""
        losses: dict[str, float] = {}
        scores: dict[str, dict[str, float]] = {}
        counts: dict[str, int] = {}
        total = 0.0
        for key, task in self._tasks.items():
            if key not in self._truth:
                continue
            truth, guess = torch.cat(self._truth[key]).numpy(), torch.cat(self._guess[key]).numpy()
            counts[task.name] = len(truth)
            losses[task.name] = self._loss_sums[key] / len(truth)
            total += losses[task.name] * self._weights[key]
            scores[task.name] = {
                "accuracy": float(accuracy_score(truth, guess)),
                # classes that occur neither in the truth nor in the guesses do not count, as scikit-learn has it
                "macro_f1": float(f1_score(truth, guess, average="macro", zero_division=0)),
            }
        return Evaluation(total, losses, scores, counts)
