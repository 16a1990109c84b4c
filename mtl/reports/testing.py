"""Honest testing: what the one look at the test rows says, and how far it can be trusted.

Everything comes from the one test `Evaluation` of a run: nothing is predicted again and nothing is chosen by it. The
scores are scikit-learn's and nervaluate's, each with a 95 % interval and beside simple baselines, class by class, with
the calibration and the mistakes. N test rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from mtl.data.batching import IGNORE_INDEX
from mtl.data.entities import Span
from mtl.data.splitting import Examples
from mtl.modeling.heads import Entity, EntityPrediction
from mtl.reports.baselines import Baseline, class_baselines, entity_baselines
from mtl.reports.bootstrap import class_intervals, entity_intervals
from mtl.runs.files import distinct_names
from mtl.tasks import TaskSpec
from mtl.training.calibration import calibrated, calibration_error, reliability
from mtl.training.entity_scores import entity_scores_by_type
from mtl.training.events import RunEnd
from mtl.training.metrics import Evaluation, Spans

MOST_MISTAKES = 20
MOST_CONFUSED = 40
MOST_CHARACTERS = 500


@dataclass(frozen=True)
class Rows:
    """What a report needs beside the scores.

    Attributes:
        train: What the baselines learn from.
        test: What was scored.
        place: Index of a row in the table -> where it is in the person's files.
        seed: Of the bootstrap and of the baselines.
    """

    train: Examples
    test: Examples
    place: Callable[[int], str | int]
    seed: int


def test_report(
    end: RunEnd,
    tasks: Sequence[TaskSpec],
    *,
    train: Examples,
    test: Examples,
    places: Callable[[int], str | int],
    seed: int = 0,
    validation: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Build `report.json`.

    Args:
        end: With its evaluations of the best weights.
        tasks: The run's tasks.
        train: The training rows, for the baselines.
        test: The rows of `end.test`, in its order.
        places: Index of a row in the table -> where it is in the person's files, such as `Table.place`.
        seed: Of the bootstrap and of the baselines.
        validation: The validation scores of the saved checkpoint, for a run whose end has none.

    Returns:
        Plain JSON values. `tasks` has, by task name, `kind`, `main`, `scores`, `intervals`, `classes`, `confusion`
        (classes of texts only), `baselines`, `baseline_notes`, `calibration` and `mistakes`; it is None, as `test` is,
        if nothing was tested. `notes` says in sentences what was not tested and why.
    """
    scored, rows = end.test, Rows(train, test, places, seed)
    return {
        "outcome": end.outcome,
        "reason": end.reason,
        "best_epoch": end.best_epoch,
        "validation": end.validation.scores if end.validation else dict(validation or {}),
        "test": scored.scores if scored else None,
        "test_loss": scored.loss if scored else None,
        "test_rows": scored.counts if scored else None,
        "tasks": {
            task.name: _task_report(task, scored, end.temperatures.get(task.name, 1.0), rows)
            for task in tasks
            if task.name in scored.scores
        }
        if scored
        else None,
        "notes": _notes(end, tasks, test),
    }


def _notes(end: RunEnd, tasks: Sequence[TaskSpec], test: Examples) -> list[str]:
    if end.outcome == "diverged":
        return ["The run diverged, so the test rows were not scored."]
    if end.test is None:
        why = "The test rows were not scored" if len(test) else "There are no test rows"
        return [f"{why}, so no test score is claimed."]
    missing = [task.name for task in tasks if task.name not in end.test.scores]
    return [f"No test row is labelled for {name}, so no test score is claimed for it." for name in missing]


def _task_report(task: TaskSpec, scored: Evaluation, temperature: float, rows: Rows) -> dict[str, Any]:
    build = _class_report if task.kind == "classification" else _entity_report
    found = build(task, scored, temperature, rows)
    baselines: dict[str, Baseline] = found.pop("baselines")
    return {
        "kind": task.kind,
        "main": scored.main[task.name],
        "scores": scored.scores[task.name],
        **found,
        "baselines": {name: baseline.scores for name, baseline in baselines.items()},
        "baseline_notes": {name: baseline.note for name, baseline in baselines.items() if baseline.note},
        "calibration": calibration(scored, task, temperature),
    }


def _class_report(task: TaskSpec, scored: Evaluation, temperature: float, rows: Rows) -> dict[str, Any]:
    labels, logits = scored.labels[task.name], scored.logits[task.name]
    labelled = (labels != IGNORE_INDEX).numpy()
    truth, guess = labels.numpy()[labelled], logits.argmax(dim=-1).numpy()[labelled]
    confidence = calibrated(logits, temperature).max(dim=-1).values.numpy()[labelled]
    chosen = np.flatnonzero(labelled)
    wrong = np.flatnonzero(truth != guess)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES]
    names = task.labels
    return {
        "intervals": class_intervals(truth, guess, classes=len(names), seed=rows.seed),
        "classes": class_table(truth, guess, names),
        "confusion": confusion(truth, guess, names),
        "baselines": class_baselines(
            task, rows.train, texts=[rows.test.texts[i] for i in chosen], truth=truth, seed=rows.seed
        ),
        "mistakes": [
            _mistake(rows, int(chosen[i]), (0, 0), names[truth[i]], names[guess[i]], float(confidence[i]))
            for i in worst
        ],
    }


def class_table(truth: np.ndarray, guess: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Score class by class, 0 where there is nothing to divide by. Shape of both arrays: (N,)."""
    columns = precision_recall_fscore_support(truth, guess, labels=np.arange(len(labels)), zero_division=0)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for label, p, r, f, s in zip(labels, *columns, strict=True)
    ]


def confusion(truth: np.ndarray, guess: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Count how often each class, a row, is predicted as each class, a column.

    Of more than 40 classes the 39 most frequent ones have rows and columns of their own; the others share the last.

    Args:
        truth: Class indices. Shape: (N,).
        guess: Likewise, predicted. Shape: (N,).
        labels: The C classes.
    """
    shown = list(range(len(labels)))
    if len(labels) > MOST_CONFUSED:
        support = np.bincount(truth, minlength=len(labels))
        shown = sorted(np.argsort(-support, kind="stable")[: MOST_CONFUSED - 1].tolist())
    names = [labels[i] for i in shown] + (["other"] if len(shown) < len(labels) else [])
    place = np.full(len(labels), len(names) - 1)
    place[shown] = np.arange(len(shown))
    counts = np.bincount(place[truth] * len(names) + place[guess], minlength=len(names) ** 2)
    return {"labels": distinct_names(names), "matrix": counts.reshape(len(names), len(names)).tolist()}


def calibration(scored: Evaluation, task: TaskSpec, temperature: float) -> dict[str, Any]:
    """Say how far confidence and accuracy are apart before and after the temperature; for entities, of tokens."""
    logits, labels = scored.logits[task.name], scored.labels[task.name]
    before, after = (reliability(calibrated(logits, value), labels) for value in (1.0, temperature))
    return {
        "temperature": temperature,
        "unit": "texts" if task.kind == "classification" else "tokens",
        "ece_before": calibration_error(before),
        "ece_after": calibration_error(after),
        "bins_before": [asdict(part) for part in before],
        "bins_after": [asdict(part) for part in after],
    }


def _entity_report(task: TaskSpec, scored: Evaluation, temperature: float, rows: Rows) -> dict[str, Any]:
    truth, guesses = scored.spans[task.name], scored.entities[task.name]
    by_type = entity_scores_by_type(truth, guesses)
    counts = [
        (len(_keys(spans) & _keys(guess.entities)), len(guess.entities), len(spans))
        for spans, guess in zip(truth, guesses, strict=True)
        if spans is not None
    ]
    return {
        "intervals": entity_intervals(np.array(counts), seed=rows.seed),
        "classes": [{"label": label, **by_type[label]} for label in task.labels if label in by_type],
        "baselines": entity_baselines(task, rows.train, texts=rows.test.texts, truth=truth),
        "mistakes": _entity_mistakes(rows, truth, guesses),
    }


def _keys(entities: Sequence[Span | Entity]) -> set[tuple[int, int, str]]:
    return {(entity.start, entity.end, entity.label) for entity in entities}


def _entity_mistakes(rows: Rows, truth: Sequence[Spans], guesses: Sequence[EntityPrediction]) -> list[dict[str, Any]]:
    """List what was found wrongly, the most confident first, and what was overlooked, whose confidence is None.

    An entity is written as `type: its words`; what was found wrongly stands beside the true entities that it overlaps.
    Either sort has half of the places if there are enough of both.
    """
    wrong: list[tuple[int, Entity, list[Span]]] = []
    missed: list[tuple[int, Span]] = []
    for row, (spans, guess) in enumerate(zip(truth, guesses, strict=True)):
        if spans is not None:
            bad = [entity for entity in guess.entities if not _keys([entity]) & _keys(spans)]
            wrong += [(row, entity, [span for span in spans if _overlap(span, entity)]) for entity in bad]
            lost = [span for span in spans if not any(_overlap(span, entity) for entity in guess.entities)]
            missed += [(row, span) for span in lost]
    wrong.sort(key=lambda item: -item[1].confidence)
    missed = missed[: max(MOST_MISTAKES // 2, MOST_MISTAKES - len(wrong))]
    found = []
    for row, entity, overlapped in wrong[: MOST_MISTAKES - len(missed)]:
        text, place = rows.test.texts[row], (entity.start, entity.end)
        label = ", ".join(_written(text, span) for span in overlapped)
        found.append(_mistake(rows, row, place, label, _written(text, entity), entity.confidence))
    for row, span in missed:
        label = _written(rows.test.texts[row], span)
        found.append(_mistake(rows, row, (span.start, span.end), label, "", None))
    return found


def _overlap(span: Span, entity: Entity) -> bool:
    return span.start < entity.end and entity.start < span.end


def _written(text: str, entity: Span | Entity) -> str:
    return f"{entity.label}: {text[entity.start : entity.end]}"


def _mistake(
    rows: Rows, index: int, place: tuple[int, int], label: str, predicted: str, confidence: float | None
) -> dict[str, Any]:
    return {
        "row": rows.place(rows.test.rows[index]),
        "text": _around(rows.test.texts[index], *place),
        "label": label,
        "predicted": predicted,
        "confidence": None if confidence is None else round(confidence, 4),
    }


def _around(text: str, start: int, end: int) -> str:
    """Cut a long text down to what is around some characters."""
    if len(text) <= MOST_CHARACTERS:
        return text
    first = max(0, min((start + end - MOST_CHARACTERS) // 2, len(text) - MOST_CHARACTERS))
    last = first + MOST_CHARACTERS
    return ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")
