"""What came out of a run, as data."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mtl.data.reading import Table
from mtl.data.splitting import Examples
from mtl.reports import report
from mtl.tasks import TaskSpec, task_keys
from mtl.training.events import RunEnd
from mtl.training.metrics import METRICS, Evaluation

LABELS = ("a", "=b", "c")


def tasks(*names: str) -> tuple[TaskSpec, ...]:
    keys = task_keys(names)
    return tuple(TaskSpec(name=n, key=keys[n], kind="classification", labels=LABELS) for n in names)


def scored(**logits: list[list[float]]) -> Evaluation:
    tensors = {name.replace("_", " "): torch.tensor(rows) for name, rows in logits.items()}
    return Evaluation(0.5, {}, {"topic": {"accuracy": 1.0}}, {"topic": 2}, tensors)


# ------------------------------------------------------------------------------------------ predictions


def test_report_predictions_are_the_likeliest_class_and_its_probability() -> None:
    table = Table({"text": ["one", "two", "three"], "topic": ["a", "", "c"]})
    examples = Examples(("three", "one"), {"topic": ("c", "a")}, (2, 0))
    logits = [[0.0, math.log(3), 0.0], [math.log(2), 0.0, 0.0]]
    header, rows = report.prediction_table(table, examples, scored(topic=logits), tasks("topic"))
    assert header == ["row", "text", "topic", "topic_predicted", "topic_confidence"]
    assert rows == [["4", "three", "c", "=b", 0.6], ["2", "one", "a", "a", 0.5]]
    assert all(type(row[-1]) is float for row in rows), "a number, not a text, for the exact twin"


def test_report_predictions_are_numbered_as_in_the_persons_files() -> None:
    columns = {"text": ["one", "two", "three"], "topic": ["a", "", "c"]}
    table = Table(columns, numbers=(3, 9, 2), files=(("a.csv", 0), ("=b.csv", 2)))
    examples = Examples(("one", "two", "three"), {"topic": ("a", "", "c")}, (0, 1, 2))
    _, rows = report.prediction_table(table, examples, scored(topic=[[1.0, 0.0, 0.0]] * 3), tasks("topic"))
    assert [row[0] for row in rows] == ["3 of a.csv", "9 of a.csv", "2 of =b.csv"]
    assert [row[2] for row in rows] == ["a", "", "c"], "a missing label stays missing"


@pytest.mark.parametrize("names", [("row", "text"), ("topic", "topic predicted"), ("a", "a_predicted", "a_confidence")])
def test_report_predictions_have_no_two_columns_of_one_name(names: tuple[str, ...]) -> None:
    logits = {name: torch.tensor([[1.0, 0.0, 0.0]]) for name in names}
    examples = Examples(("one",), {name: ("a",) for name in names}, (0,))
    header, (row,) = report.prediction_table(
        Table({"body": ["one"]}), examples, Evaluation(0.5, {}, {}, {}, logits), tasks(*names)
    )
    assert len(header) == len(row) == len(set(header)) == 2 + 3 * len(names)
    assert header[:2] == ["row", "text"]
    assert len(dict(zip(header, row, strict=True))) == len(row), "nothing is lost in the exact twin"


# ------------------------------------------------------------------------------------------ metrics and report


def epoch(number: int, validation: dict[str, Any] | None) -> dict[str, Any]:
    train = {
        "loss": 2.0 / number,
        "losses": {"topic": 1.0 / number},
        "scores": {"topic": {"accuracy": 0.5, "macro_f1": 0.25}},
        "mean_score": 0.25,
    }
    return {
        "event": "EpochEnd",
        "epoch": number,
        "step": 6 * number,
        "train": train,
        "validation": validation,
        "improved": number == 2,
    }


def test_report_metrics_have_a_row_per_epoch_and_nothing_where_nothing_was_measured() -> None:
    measured = {"loss": 1.5, "losses": {}, "scores": {}, "mean_score": None}
    history = [{"event": "StepEnd"}, epoch(1, None), epoch(2, measured)]
    header, rows = report.metrics_table(history, tasks("topic", "mood"))
    assert len(set(header)) == len(header) == 7 + 2 * 2 * (1 + len(METRICS))
    first, second = (dict(zip(header, row, strict=True)) for row in rows)
    assert (first["epoch"], first["step"], first["best"], second["best"]) == (1, 6, 0, 1)
    assert (first["train_loss"], first["validation_loss"], second["validation_loss"]) == (2.0, None, 1.5)
    assert (first["topic_train_loss"], first["topic_train_macro_f1"]) == (1.0, 0.25)
    assert all(value is None for name, value in second.items() if name.startswith(("mood_", "topic_validation")))
    assert second["validation_mean_score"] is None


def test_report_metrics_before_the_first_epoch_are_a_header() -> None:
    header, rows = report.metrics_table([{"event": "StepEnd"}], tasks("topic"))
    assert header[:2] == ["epoch", "step"]
    assert rows == []


def test_report_claims_no_test_score_where_nothing_was_tested() -> None:
    validation = {"topic": {"accuracy": 0.75}}
    found = report.test_report(RunEnd("diverged", "why", 1, None), validation)
    assert (found["test"], found["test_loss"], found["test_rows"]) == (None, None, None)
    assert (found["outcome"], found["reason"], found["best_epoch"]) == ("diverged", "why", 1)
    found = report.test_report(RunEnd("done", "all epochs done", 1, scored()), validation)
    assert (found["test"], found["test_loss"], found["test_rows"]) == ({"topic": {"accuracy": 1.0}}, 0.5, {"topic": 2})
    assert found["validation"] == validation
