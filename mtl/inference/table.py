"""Predictions for a whole table: its columns, then each task's prediction and confidence; a row out for each row in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtl.data.columns import find_text_column
from mtl.data.reading import Table, is_missing
from mtl.inference.predictor import Predictor


def predict_table(predictor: Predictor, table: Table) -> tuple[list[str], list[list[Any]]]:
    """Predict every task for every row; a row without a text gets empty predictions.

    Returns:
        The header and the rows, in the table's order.

    Raises:
        DataError: No column holds texts.
    """
    texts = table.columns[text_column(predictor, table)]
    filled = [i for i, text in enumerate(texts) if not is_missing(text)]
    answers = dict(zip(filled, predictor.predict([texts[i] for i in filled]), strict=True))
    header = list(table.headers)
    for task in predictor.tasks:
        header += [f"{task.name}_predicted", f"{task.name}_confidence"]
    return header, [[*row, *_cells(predictor, answers.get(i))] for i, row in enumerate(_rows(table))]


def text_column(predictor: Predictor, table: Table) -> str:
    """Find a table's texts: the column the checkpoint was trained on if it is there, else the best guess."""
    wanted = predictor.config.data.text_column
    return find_text_column(table, wanted if wanted in table.columns else None)


def _rows(table: Table) -> Sequence[tuple[str, ...]]:
    return list(zip(*table.columns.values(), strict=True))


def _cells(predictor: Predictor, answer: dict[str, Any] | None) -> list[str]:
    if answer is None:
        return [""] * (2 * len(predictor.tasks))
    return [
        cell for task in predictor.tasks for cell in (answer[task.name].label, f"{answer[task.name].confidence:.4f}")
    ]
