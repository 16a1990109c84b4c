"""What came out of a run, as tables: the metrics of each epoch and the test predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl.choices import SCORES
from mtl.data.reading import Table
from mtl.data.splitting import Examples
from mtl.modeling.heads import EntityPrediction
from mtl.reports.plots import History, epochs
from mtl.runs.files import distinct_names
from mtl.tasks import TaskKind, TaskSpec
from mtl.training.calibration import calibrated
from mtl.training.metrics import Evaluation


def metrics_table(history: History, tasks: Sequence[TaskSpec]) -> tuple[list[str], list[list[Any]]]:
    """Build `metrics.csv`: a row per epoch, with losses and scores of training and validation.

    A score that could not be measured, or that the run of an older version lacks, is an empty cell.
    """
    header = ["epoch", "step", "train_loss", "validation_loss", "train_mean_score", "validation_mean_score", "best"]
    for task in tasks:
        for side in ("train", "validation"):
            header += [f"{task.name}_{side}_{metric}" for metric in ("loss", *_metrics(task.kind))]
    rows = []
    for event in epochs(history):
        sides = {side: event[side] or {"losses": {}, "scores": {}} for side in ("train", "validation")}
        row = [event["epoch"], event["step"]]
        row += [sides["train"].get("loss"), sides["validation"].get("loss")]
        row += [sides["train"].get("mean_score"), sides["validation"].get("mean_score"), int(event["improved"])]
        for task in tasks:
            for scored in sides.values():
                row.append(scored["losses"].get(task.name))
                row += [scored["scores"].get(task.name, {}).get(metric) for metric in _metrics(task.kind)]
        rows.append(row)
    return header, rows


def _metrics(kind: TaskKind) -> list[str]:
    """Return the scores of a kind, accuracy before the others: where a table of an older version has it."""
    return sorted(SCORES[kind], key=lambda metric: metric != "accuracy")


def prediction_table(
    table: Table, examples: Examples, test: Evaluation, tasks: Sequence[TaskSpec], temperatures: Mapping[str, float]
) -> tuple[list[str], list[list[Any]]]:
    """Build `predictions.csv`: the test rows, numbered as in the person's file, with labels and predictions.

    Entities are written as JSON spans, which can be read in again, each with its words; their confidence is the mean
    over the entities of the text, and an empty cell where there are none.

    Args:
        table: Where the rows come from.
        examples: The test rows.
        test: What was said of them.
        tasks: In the order of the columns.
        temperatures: Task name -> what the logits of its classes are divided by; 1 if absent.
    """
    header = ["row", "text"]
    columns: list[Sequence[Any]] = [[table.place(row) for row in examples.rows], examples.texts]
    for task in tasks:
        header += [task.name, f"{task.name}_predicted", f"{task.name}_confidence"]
        cells = examples.cells.get(task.name, ("",) * len(examples))
        if task.kind == "classification":
            answers = _class_cells(task, test, temperatures.get(task.name, 1.0))
        else:
            answers = _entity_cells(examples.texts, test.entities[task.name])
        columns += [cells, *zip(*answers, strict=True)]
    return distinct_names(header), [list(row) for row in zip(*columns, strict=True)]


def _class_cells(task: TaskSpec, test: Evaluation, temperature: float) -> Iterator[tuple[str, float | None]]:
    logits = test.logits[task.name]
    guesses, confidences = logits.argmax(dim=-1).tolist(), calibrated(logits, temperature).max(dim=-1).values.tolist()
    return ((task.labels[guess], round(value, 4)) for guess, value in zip(guesses, confidences, strict=True))


def _entity_cells(texts: Sequence[str], predictions: Sequence[EntityPrediction]) -> Iterator[tuple[str, float | None]]:
    for text, prediction in zip(texts, predictions, strict=True):
        found = prediction.entities
        spans = [{"start": e.start, "end": e.end, "label": e.label, "text": text[e.start : e.end]} for e in found]
        confidence = round(sum(e.confidence for e in found) / len(found), 4) if found else None
        yield json.dumps(spans, ensure_ascii=False), confidence
