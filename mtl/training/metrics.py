"""The scores of each task by its kind, and one number for them all.

N texts, M tokens, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

from mtl.choices import SCORES
from mtl.config import RunConfig, TaskConfig
from mtl.data.batching import IGNORE_INDEX, Batch
from mtl.data.entities import Span
from mtl.modeling.heads import Entity, EntityPrediction
from mtl.modeling.multitask import MultiTaskModel
from mtl.tasks import TaskKind, TaskSpec
from mtl.training.entity_scores import entity_scores

Spans = tuple[Span, ...] | None


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a set of examples. Dictionaries are keyed by task name; a task without labels is absent.

    Attributes:
        loss: Weighted sum of the tasks' losses.
        losses: Mean loss over the labelled texts, for entities over the labelled tokens.
        scores: Each from 0 to 1; which there are depends on the kind (`mtl.choices.SCORES`).
        counts: Labelled examples.
        main: The score that counts.
        logits: Kept on request. Classes: of all texts in their order, shape (N, C). Entities: of the labelled
            tokens, text by text, shape (M, C).
        labels: Likewise, shape (N,), `IGNORE_INDEX` among them, or (M,).
        entities: Likewise, the predicted entities of each text.
        spans: Likewise, the true ones; None where a text is not annotated.
    """

    loss: float
    losses: dict[str, float]
    scores: dict[str, dict[str, float]]
    counts: dict[str, int]
    main: dict[str, str]
    logits: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    labels: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    entities: dict[str, list[EntityPrediction]] = field(default_factory=dict, repr=False, compare=False)
    spans: dict[str, list[Spans]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def main_scores(self) -> dict[str, float]:
        """Each task's score that counts."""
        return {task: scores[self.main[task]] for task, scores in self.scores.items()}

    @property
    def mean_score(self) -> float | None:
        """The mean over the tasks of their main scores; None if nothing was labelled."""
        values = list(self.main_scores.values())
        return sum(values) / len(values) if values else None


class Collector(ABC):
    """Collects what one head said and what is true, batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        self.loss_sum = 0.0
        self.loss_items = 0

    @abstractmethod
    def add(self, model: MultiTaskModel, key: str, batch: Batch, logits: Tensor) -> None:
        """Take in one batch in which the task is labelled, or any batch where everything is kept."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Sum up."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what was collected, as tensors and plain JSON; only of a collector that keeps no logits."""

    @abstractmethod
    def resume(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what another one collected."""

    def _sums(self) -> dict[str, Any]:
        return {"count": self.count, "loss_sum": self.loss_sum, "loss_items": self.loss_items}

    def _resume_sums(self, values: Mapping[str, Any]) -> None:
        self.count, self.loss_sum, self.loss_items = values["count"], values["loss_sum"], values["loss_items"]

    @abstractmethod
    def kept(self, order: Sequence[int]) -> dict[str, Any]:
        """Return what was kept, in the order of the examples: field of `Evaluation` -> value."""


class ClassCollector(Collector):
    """Collects classes of texts."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._keep = keep
        self._labels: list[Tensor] = []
        self._guesses: list[Tensor] = []
        self._logits: list[Tensor] = []

    def add(self, model: MultiTaskModel, key: str, batch: Batch, logits: Tensor) -> None:
        """Take in one batch. Shape of the logits: (B, C)."""
        logits = logits.detach()
        self._labels.append(batch.labels[key])
        self._guesses.append(logits.argmax(dim=-1).cpu())
        self.count += int((batch.labels[key] != IGNORE_INDEX).sum())
        if self._keep:
            self._logits.append(logits.float().cpu())

    def scores(self) -> dict[str, float]:
        """Compute accuracy, macro and weighted F1 and macro recall, as scikit-learn has them.

        Classes that occur neither in the truth nor in the guesses do not count; for the macro recall only those that
        occur in the truth do.
        """
        labels, guesses = torch.cat(self._labels), torch.cat(self._guesses)
        labelled = labels != IGNORE_INDEX
        return class_scores(labels[labelled], guesses[labelled])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return labels and guesses so far."""
        return {"labels": torch.cat(self._labels), "guesses": torch.cat(self._guesses)}, self._sums()

    def resume(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from these labels and guesses."""
        self._labels, self._guesses = [tensors["labels"]], [tensors["guesses"]]
        self._resume_sums(values)

    def kept(self, order: Sequence[int]) -> dict[str, Any]:
        """Return logits and labels of all texts."""
        back = torch.tensor(order).argsort()
        return {"logits": torch.cat(self._logits)[back], "labels": torch.cat(self._labels)[back]}


def class_scores(truth: ArrayLike, guess: ArrayLike) -> dict[str, float]:
    """Score classes of texts. Shape of both: (N,), every text labelled."""
    truth, guess = np.asarray(truth), np.asarray(guess)
    # one call: most of its time is spent checking what it was given, which an epoch of a frozen encoder notices
    _, recall, f1, support = precision_recall_fscore_support(truth, guess, average=None, zero_division=0)
    return {
        "accuracy": float((truth == guess).mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "macro_recall": float(recall[support > 0].mean()),
    }


class EntityCollector(Collector):
    """Collects entities in texts."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._keep = keep
        self._spans: list[Spans] = []
        self._entities: list[EntityPrediction] = []
        self._tokens: list[tuple[Tensor, Tensor]] = []

    def add(self, model: MultiTaskModel, key: str, batch: Batch, logits: Tensor) -> None:
        """Take in one batch. Shape of the logits: (B, T, C)."""
        logits = logits.detach()
        self._spans += batch.spans[key]
        self._entities += cast(list[EntityPrediction], model.head(key).decode(logits, batch.encoding))
        self.count += sum(spans is not None for spans in batch.spans[key])
        if self._keep:
            for rows, labels in zip(logits.float().cpu(), batch.labels[key], strict=True):
                labelled = labels != IGNORE_INDEX
                self._tokens.append((rows[labelled], labels[labelled]))

    def scores(self) -> dict[str, float]:
        """Compute precision, recall and F1 of exactly found entities."""
        return entity_scores(self._spans, self._entities)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the true and the found entities so far."""
        spans = [None if row is None else [[s.start, s.end, s.label] for s in row] for row in self._spans]
        found = [[asdict(entity) for entity in row.entities] for row in self._entities]
        return {}, self._sums() | {"spans": spans, "entities": found}

    def resume(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from these entities."""
        self._spans = [None if row is None else tuple(Span(*span) for span in row) for row in values["spans"]]
        self._entities = [EntityPrediction(tuple(Entity(**one) for one in row)) for row in values["entities"]]
        self._resume_sums(values)

    def kept(self, order: Sequence[int]) -> dict[str, Any]:
        """Return the entities of all texts, and logits and labels of the labelled tokens."""
        back = torch.tensor(order).argsort().tolist()
        return {
            "entities": [self._entities[i] for i in back],
            "spans": [self._spans[i] for i in back],
            "logits": torch.cat([self._tokens[i][0] for i in back]),
            "labels": torch.cat([self._tokens[i][1] for i in back]),
        }


COLLECTORS: dict[TaskKind, type[ClassCollector] | type[EntityCollector]] = {
    "classification": ClassCollector,
    "token_classification": EntityCollector,
}


class Meter:
    """Collects logits and labels batch by batch.

    Args:
        model: Whose heads are asked.
        weights: Task key -> factor of its loss in the sum.
        main: Task name -> the score that counts.
        keep: Whether all logits are kept, to be looked at afterwards.
    """

    def __init__(
        self, model: MultiTaskModel, weights: Mapping[str, float], main: Mapping[str, str], *, keep: bool = False
    ) -> None:
        self._model, self._weights, self._main, self._keep = model, weights, main, keep
        self._collectors: dict[str, Collector] = {}
        self._order: list[int] = []

    def add(self, batch: Batch, logits: Mapping[str, Tensor], losses: Mapping[str, float]) -> None:
        """Take in one batch.

        Args:
            batch: Its labels are the truth.
            logits: Task key -> logits. Shape: (B, C) or (B, T, C).
            losses: Task key -> mean loss over what is labelled; tasks without anything labelled are absent.
        """
        self._order += batch.indices
        for task in self._model.tasks:
            key = task.key
            if key in logits and (self._keep or key in losses):
                found = self._collectors.setdefault(key, COLLECTORS[task.kind](self._keep))
                found.add(self._model, key, batch, logits[key])
                if key in losses:
                    items = int((batch.labels[key] != IGNORE_INDEX).sum())
                    found.loss_sum += losses[key] * items
                    found.loss_items += items

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what was collected, as tensors and plain JSON; the logits of a meter that keeps them stay behind."""
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {}
        for key, collector in self._collectors.items():
            found, values[key] = collector.state()
            tensors |= {f"{key}.{name}": value for name, value in found.items()}
        return tensors, {"collectors": values, "order": self._order}

    def resume(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what another meter of the same model collected."""
        self._order = list(values["order"])
        kinds = {task.key: task.kind for task in self._model.tasks}
        for key, collected in values["collectors"].items():
            own = {name: tensors[f"{key}.{name}"] for name in ("labels", "guesses") if f"{key}.{name}" in tensors}
            self._collectors[key] = COLLECTORS[kinds[key]](self._keep)
            self._collectors[key].resume(own, collected)

    def evaluation(self) -> Evaluation:
        """Sum up what was taken in."""
        found = [(t, self._collectors[t.key]) for t in self._model.tasks if t.key in self._collectors]
        labelled = [(task, collector) for task, collector in found if collector.loss_items]
        losses = {task.name: collector.loss_sum / collector.loss_items for task, collector in labelled}
        kept: dict[str, dict[str, Any]] = defaultdict(dict)
        if self._keep:
            for task, collector in found:
                for name, value in collector.kept(self._order).items():
                    kept[name][task.name] = value
        return Evaluation(
            loss=sum(losses[task.name] * self._weights[task.key] for task, _ in labelled),
            losses=losses,
            scores={task.name: collector.scores() for task, collector in labelled},
            counts={task.name: collector.count for task, collector in labelled},
            main={task.name: self._main[task.name] for task, _ in labelled},
            **kept,
        )


def main_scores(tasks: Sequence[TaskSpec], config: RunConfig | None = None) -> dict[str, str]:
    """Return the score that counts for each task by name: the configured one, else the usual one of its kind."""
    chosen = config.tasks if config else {}
    return {t.name: chosen.get(t.name, TaskConfig()).main_score or SCORES[t.kind][0] for t in tasks}
