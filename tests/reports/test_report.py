"""What came out of a run, as tables."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
import torch

from mtl.choices import SCORES
from mtl.data.entities import Span, read_entities
from mtl.data.reading import Table
from mtl.data.splitting import Examples
from mtl.data.writing import write_spreadsheet
from mtl.modeling.heads import Entity, EntityPrediction
from mtl.reports.report import metrics_table, prediction_table
from mtl.tasks import TaskKind, TaskSpec, task_keys
from mtl.training.metrics import Evaluation

LABELS = ("a", "=b", "c")


def tasks(*names: str, kind: TaskKind = "classification") -> tuple[TaskSpec, ...]:
    keys = task_keys(names)
    return tuple(TaskSpec(name=n, key=keys[n], kind=kind, labels=LABELS) for n in names)


def scored(**logits: list[list[float]]) -> Evaluation:
    return Evaluation(0.5, {}, {}, {}, {}, logits={name: torch.tensor(rows) for name, rows in logits.items()})


def found(*predictions: tuple[Entity, ...]) -> Evaluation:
    """What was found in some texts by a task called names."""
    return Evaluation(0.5, {}, {}, {}, {}, entities={"names": [EntityPrediction(entities) for entities in predictions]})


# ------------------------------------------------------------------------------------------ predictions


def test_report_predictions_are_the_likeliest_class_and_its_probability() -> None:
    table = Table({"text": ["one", "two", "three"], "topic": ["a", "", "c"]})
    examples = Examples(("three", "one"), {"topic": ("c", "a")}, (2, 0))
    logits = [[0.0, math.log(3), 0.0], [math.log(2), 0.0, 0.0]]
    header, rows = prediction_table(table, examples, scored(topic=logits), tasks("topic"), {})
    assert header == ["row", "text", "topic", "topic_predicted", "topic_confidence"]
    assert rows == [["4", "three", "c", "=b", 0.6], ["2", "one", "a", "a", 0.5]]
    assert all(type(row[-1]) is float for row in rows), "a number, not a text, for the exact twin"


def test_report_predictions_are_numbered_as_in_the_persons_files() -> None:
    columns = {"text": ["one", "two", "three"], "topic": ["a", "", "c"]}
    table = Table(columns, numbers=(3, 9, 2), files=(("a.csv", 0), ("=b.csv", 2)))
    examples = Examples(("one", "two", "three"), {"topic": ("a", "", "c")}, (0, 1, 2))
    _, rows = prediction_table(table, examples, scored(topic=[[1.0, 0.0, 0.0]] * 3), tasks("topic"), {})
    assert [row[0] for row in rows] == ["3 of a.csv", "9 of a.csv", "2 of =b.csv"]
    assert [row[2] for row in rows] == ["a", "", "c"], "a missing label stays missing"


@pytest.mark.parametrize("names", [("row", "text"), ("topic", "topic predicted"), ("a", "a_predicted", "a_confidence")])
def test_report_predictions_have_no_two_columns_of_one_name(names: tuple[str, ...]) -> None:
    examples = Examples(("one",), {name: ("a",) for name in names}, (0,))
    test = scored(**dict.fromkeys(names, [[1.0, 0.0, 0.0]]))
    header, (row,) = prediction_table(Table({"body": ["one"]}), examples, test, tasks(*names), {})
    assert len(header) == len(row) == len(set(header)) == 2 + 3 * len(names)
    assert header[:2] == ["row", "text"]
    assert len(dict(zip(header, row, strict=True))) == len(row), "nothing is lost in the exact twin"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_report_confidence_is_that_at_the_temperature_and_the_class_is_the_same(temperature: float) -> None:
    table, examples = Table({"text": ["one"]}), Examples(("one",), {"topic": ("a",)}, (0,))
    logits = [0.0, math.log(3), math.log(2)]
    _, (row,) = prediction_table(table, examples, scored(topic=[logits]), tasks("topic"), {"topic": temperature})
    powers = [math.exp(value / temperature) for value in logits]
    assert row[3:] == ["=b", round(max(powers) / sum(powers), 4)]


def test_report_predicted_entities_can_be_read_in_again() -> None:
    texts = ("Bob = Ann", '"Rome" 情感', "nobody")
    table = Table({"text": list(texts)})
    examples = Examples(texts, {"names": ("B-c O B-c", "", "O")}, (0, 1, 2))
    test = found(
        (Entity(0, 3, "c", 0.5), Entity(6, 9, "=b", 0.8)),
        (Entity(1, 5, "a", 0.91239),),
        (),
    )
    header, rows = prediction_table(table, examples, test, tasks("names", kind="token_classification"), {"names": 9.0})
    assert header == ["row", "text", "names", "names_predicted", "names_confidence"]
    assert [row[2] for row in rows] == ["B-c O B-c", "", "O"]
    assert [row[4] for row in rows] == [0.65, 0.9124, None]
    assert read_entities(texts[0], rows[0][3]) == (Span(0, 3, "c"), Span(6, 9, "=b"))
    assert read_entities(texts[1], rows[1][3]) == (Span(1, 5, "a"),)
    assert rows[2][3] == "[]"
    assert [span["text"] for span in json.loads(rows[0][3])] == ["Bob", "Ann"]


def test_report_predictions_of_both_kinds_stand_side_by_side_and_are_safe_in_a_spreadsheet() -> None:
    table = Table({"text": ["=Bob()", "two"]})
    examples = Examples(("=Bob()", "two"), {"topic": ("a", "=b"), "names": ("O", "")}, (0, 1))
    logits = [[0.0, 1.0, 0.0]] * 2
    test = Evaluation(
        0.5, {}, {}, {}, {}, {"topic": torch.tensor(logits)}, {}, found((Entity(1, 4, "c", 1.0),), ()).entities
    )
    header, rows = prediction_table(
        table, examples, test, (*tasks("topic"), *tasks("names", kind="token_classification")), {}
    )
    assert len(header) == 2 + 2 * 3
    assert rows[1] == ["3", "two", "=b", "=b", 0.5761, "", "[]", None]
    file = io.StringIO()
    write_spreadsheet(file, header, rows)
    assert '"\'=Bob()"' in file.getvalue()
    assert ',"=' not in file.getvalue()


def test_report_predictions_of_a_task_that_the_rows_do_not_have() -> None:
    examples = Examples(("one",), {}, (0,))
    _, (row,) = prediction_table(
        Table({"text": ["one"]}), examples, scored(topic=[[1.0, 0.0, 0.0]]), tasks("topic"), {}
    )
    assert row[2:4] == ["", "a"]


# ------------------------------------------------------------------------------------------ metrics


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
    header, rows = metrics_table(history, tasks("topic", "mood"))
    assert len(set(header)) == len(header) == 7 + 2 * 2 * (1 + len(SCORES["classification"]))
    first, second = (dict(zip(header, row, strict=True)) for row in rows)
    assert (first["epoch"], first["step"], first["best"], second["best"]) == (1, 6, 0, 1)
    assert (first["train_loss"], first["validation_loss"], second["validation_loss"]) == (2.0, None, 1.5)
    assert (first["topic_train_loss"], first["topic_train_macro_f1"]) == (1.0, 0.25)
    assert first["topic_train_weighted_f1"] is None, "an older journal has not got it"
    assert all(value is None for name, value in second.items() if name.startswith(("mood_", "topic_validation")))
    assert second["validation_mean_score"] is None


def test_report_metrics_of_each_kind_are_its_scores() -> None:
    mixed = (*tasks("topic"), *tasks("names", kind="token_classification"))
    scores = {"topic": dict.fromkeys(SCORES["classification"], 0.5), "names": {"entity_f1": 0.75}}
    measured = {"loss": 1.0, "losses": {"topic": 0.5, "names": 0.25}, "scores": scores, "mean_score": 0.6}
    header, (row,) = metrics_table([epoch(2, measured)], mixed)
    sides = {
        "topic": ["loss", "accuracy", "macro_f1", "weighted_f1", "macro_recall"],
        "names": ["loss", "entity_f1", "entity_precision", "entity_recall"],
    }
    assert header[:7] == [
        "epoch", "step", "train_loss", "validation_loss", "train_mean_score", "validation_mean_score", "best",
    ]  # fmt: skip
    assert header[7:] == [
        f"{t}_{side}_{m}" for t, names in sides.items() for side in ("train", "validation") for m in names
    ]
    values = dict(zip(header, row, strict=True))
    assert (values["names_validation_loss"], values["names_validation_entity_f1"]) == (0.25, 0.75)
    assert (values["names_validation_entity_recall"], values["names_train_entity_f1"]) == (None, None)
    assert values["topic_validation_weighted_f1"] == 0.5


def test_report_metrics_before_the_first_epoch_are_a_header() -> None:
    header, rows = metrics_table([{"event": "StepEnd"}], tasks("topic"))
    assert header[:2] == ["epoch", "step"]
    assert rows == []
