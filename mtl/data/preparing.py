"""From a table and a configuration to a run that can start: columns, labels and split decided, everything resolved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mtl.config import RunConfig, TaskConfig, resolve
from mtl.data.columns import Columns, understand
from mtl.data.reading import Table, is_missing, quoted, row_number
from mtl.data.splitting import SIDES, Split, Splits, split_rows, take_splits
from mtl.errors import DataError


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Attributes:
        config: Resolved, with the columns, the labels and every rate filled in.
        columns: What each column was understood as.
        split: Row indices of train, validation and test.
    """

    config: RunConfig
    columns: Columns
    split: Split


def prepare(table: Table, config: RunConfig) -> Prepared:
    """Decide everything a run depends on.

    Args:
        table: The data.
        config: As the person gave it.

    Raises:
        DataError: No text column, no task, an unlisted label, or too few rows.
    """
    wanted = config.data.task_columns
    if wanted is None and config.tasks:
        wanted = tuple(config.tasks)
    columns = understand(table, config.data.text_column, wanted)
    if not columns.tasks:
        raise DataError(
            "No column looks like labels. A task needs a column with a few different values; "
            f"the file has {quoted(table.headers)}."
        )
    unused = [name for name in config.tasks if name not in columns.tasks]
    if unused:
        raise DataError(f'tasks: "{unused[0]}" is not one of the task columns {quoted(columns.tasks)}.')
    tasks = {}
    for name in columns.tasks:
        task = config.tasks.get(name, TaskConfig())
        tasks[name] = task.model_copy(update={"labels": _labels(table, columns, name, task)})
    fractions = (config.data.split.train, config.data.split.validation, config.data.split.test)
    cells = {name: table.columns[name] for name in columns.tasks}
    split = split_rows(table.columns[columns.text], cells, fractions=fractions, seed=config.data.split.seed)
    _check_training_rows(cells, split)
    data = config.data.model_copy(update={"text_column": columns.text, "task_columns": columns.tasks})
    complete = config.model_copy(update={"data": data, "tasks": tasks})
    return Prepared(resolve(complete, len(split.train)), columns, split)


def cut(table: Table, config: RunConfig, split: Split) -> Splits:
    """Cut the examples of a prepared run out of its table."""
    texts = table.column(config.data.text_column or "")
    return take_splits(texts, {name: table.column(name) for name in config.tasks}, split)


def _labels(table: Table, columns: Columns, name: str, task: TaskConfig) -> tuple[str, ...]:
    """Return the classes: those the person listed, in that order, else those in the file, sorted."""
    counts = columns[name].counts
    if task.labels is None:
        return tuple(sort_labels(counts))
    check_labels(table, name, task.labels)
    return task.labels


def check_labels(table: Table, name: str, labels: Sequence[str]) -> None:
    """Refuse a label that is not among the known ones.

    Raises:
        DataError: Names the row and the label.
    """
    known = set(labels)
    for index, cell in enumerate(table.column(name)):
        if cell not in known and not is_missing(cell):
            raise DataError(
                f'Row {row_number(index)}: {name} "{cell}" is not one of {quoted(labels)}. '
                "Fix the cell, leave it empty, or add the label."
            )


def sort_labels(labels: Sequence[str] | dict[str, int]) -> list[str]:
    """Sort class names: as numbers if they all are, else by letters."""
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return sorted(labels)
    if any(map(math.isnan, numbers.values())):  # a NaN has no place in an order
        return sorted(labels)
    return sorted(labels, key=lambda label: (numbers[label], label))


def _check_training_rows(cells: dict[str, list[str]], split: Split) -> None:
    for name, column in cells.items():
        found = {column[row] for row in split.train if not is_missing(column[row])}
        if len(found) < 2:
            raise DataError(
                f'Too few rows: the training rows hold {len(found)} class of "{name}"; at least two are needed. '
                "Add rows, or make the training fraction larger."
            )


def split_counts(table: Table, config: RunConfig, split: Split) -> list[dict[str, object]]:
    """Count rows and classes of each side, for people: one row per task and class."""
    rows: list[dict[str, object]] = []
    for name, task in config.tasks.items():
        column = table.columns[name]
        sides = {side: Counter(column[row] for row in getattr(split, side)) for side in SIDES}
        for label in task.labels or ():
            rows.append({"task": name, "label": label} | {side: counts[label] for side, counts in sides.items()})
    return rows
