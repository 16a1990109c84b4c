"""What came out of a run, as data: the metrics table, the test report and the test predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mtl.data.reading import Table
from mtl.data.splitting import Examples
from mtl.reports.plots import History, epochs
from mtl.runs.files import distinct_names
from mtl.tasks import TaskSpec
from mtl.training.events import RunEnd
from mtl.training.metrics import METRICS, Evaluation


def metrics_table(history: History, tasks: Sequence[TaskSpec]) -> tuple[list[str], list[list[Any]]]:
    """Build `metrics.csv`: a row per epoch, with losses and scores of training and validation.

    A score that could not be measured is an empty cell.
    """
    header = ["epoch", "step", "train_loss", "validation_loss", "train_mean_score", "validation_mean_score", "best"]
    for task in tasks:
        for side in ("train", "validation"):
            header += [f"{task.name}_{side}_{metric}" for metric in ("loss", *METRICS)]
    rows = []
    for event in epochs(history):
        sides = {side: event[side] or {"losses": {}, "scores": {}} for side in ("train", "validation")}
        row = [event["epoch"], event["step"]]
        row += [sides["train"].get("loss"), sides["validation"].get("loss")]
        row += [sides["train"].get("mean_score"), sides["validation"].get("mean_score"), int(event["improved"])]
        for task in tasks:
            for scored in sides.values():
                row.append(scored["losses"].get(task.name))
                row += [scored["scores"].get(task.name, {}).get(metric) for metric in METRICS]
        rows.append(row)
    return header, rows


def test_report(end: RunEnd, validation: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Build `report.json`: the scores of the best checkpoint on validation and, once, on test."""
    test = end.test
    return {
        "outcome": end.outcome,
        "reason": end.reason,
        "best_epoch": end.best_epoch,
        "validation": validation,
        "test": test.scores if test else None,
        "test_loss": test.loss if test else None,
        "test_rows": test.counts if test else None,
    }


def prediction_table(
    table: Table, examples: Examples, test: Evaluation, tasks: Sequence[TaskSpec]
) -> tuple[list[str], list[list[Any]]]:
    """Build `predictions.csv`: the test rows, numbered as in the person's file, with labels and predictions."""
    header = ["row", "text"]
    for task in tasks:
        header += [task.name, f"{task.name}_predicted", f"{task.name}_confidence"]
    best = {task.name: torch.softmax(test.logits[task.name].float(), dim=-1).max(dim=-1) for task in tasks}
    rows: list[list[Any]] = []
    for index, text in enumerate(examples.texts):
        row: list[Any] = [table.place(examples.rows[index]), text]
        for task in tasks:
            confidence, label = best[task.name]
            row += [examples.cells[task.name][index], task.labels[label[index]], round(float(confidence[index]), 4)]
        rows.append(row)
    return distinct_names(header), rows
