"""Which column is the text, which are tasks, and why: a guess that a person can see and correct."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mtl.data.entities import entity_form
from mtl.data.guessing import (
    check_counts,
    count_labels,
    count_missing,
    sample_of,
    several_labels,
    textness,
    why_not_a_task,
)
from mtl.data.reading import Table, is_missing, quoted
from mtl.errors import DataError, LimitError
from mtl.settings import settings

Role = Literal["text", "task", "entities", "split", "group", "weight", "ignored"]
Side = Literal["train", "validation", "test"]

TASK_ROLES = ("task", "entities")
SPLIT_NAMES = ("split", "set", "subset", "partition", "fold", "dataset split", "data split")
SIDE_WORDS: dict[str, Side] = {
    "train": "train", "training": "train", "valid": "validation", "validation": "validation", "val": "validation",
    "dev": "validation", "development": "validation", "eval": "validation", "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """What one column was understood as.

    Attributes:
        name: The header, verbatim.
        role: `text`, `task`, `entities`, `split`, `group`, `weight` or `ignored`.
        reason: Why, in a few words.
        counts: For a task, how many rows carry each class, the most frequent first.
        missing: How many cells are empty.
    """

    name: str
    role: Role
    reason: str
    counts: dict[str, int]
    missing: int


@dataclass(frozen=True)
class Columns:
    """The understood table.

    Attributes:
        all: Every column, in the table's order.
        text: The text column; several if their texts are joined.
        tasks: The columns to learn, in the order of the heads: classes and entities.
    """

    all: tuple[Column, ...]
    text: tuple[str, ...]
    tasks: tuple[str, ...]

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.all if column.name == name)

    def named(self, role: Role) -> tuple[str, ...]:
        """Return the names of the columns of a role."""
        return tuple(column.name for column in self.all if column.role == role)


@dataclass(frozen=True)
class _Wanted:
    """What the person named; None: guess."""

    text: tuple[str, ...] | None
    tasks: tuple[str, ...] | None
    split: str | None
    group: str | None
    weight: str | None


def join_texts(table: Table, names: Sequence[str]) -> list[str]:
    """Return one text per row: the text column's, or the filled cells of several joined by a blank."""
    if len(names) == 1:
        return table.column(names[0])
    return [
        " ".join(cell.strip() for cell in row if cell.strip())
        for row in zip(*(table.column(n) for n in names), strict=True)
    ]


def find_text_column(table: Table, wanted: str | None = None) -> str:
    """Return the text column: the one named, else the best guess.

    The guess is the column with the most words per cell; a usual name (text, sentence, review …) counts for a lot.

    Raises:
        DataError: The named column does not exist, or no column holds sentences.
    """
    if wanted is not None:
        table.column(wanted)
        return wanted
    scores = {name: textness(name, cells) for name, cells in table.columns.items()}
    best = max(scores, key=scores.__getitem__)
    if scores[best] <= 0:
        raise DataError(f"No column looks like sentences. Name the text column; the file has {quoted(table.headers)}.")
    return best


def understand(
    table: Table,
    text_column: str | Sequence[str] | None = None,
    task_columns: Sequence[str] | None = None,
    *,
    split_column: str | None = None,
    group_column: str | None = None,
    weight_column: str | None = None,
) -> Columns:
    """Decide the role of every column: what the person named is that, the rest is guessed.

    Args:
        table: What was read.
        text_column: The text column, or several whose texts are joined.
        task_columns: The task columns; each must be usable as a task.
        split_column: The column with ready-made sides; empty: none.
        group_column: The column whose equal values stay on one side of the split.
        weight_column: The column that says how often a row is drawn.

    Raises:
        DataError: A named column does not exist or cannot be what it is named for.
        LimitError: More tasks or labels than this installation accepts.
    """
    named = (text_column,) if isinstance(text_column, str) else tuple(text_column or ()) or None
    tasks = tuple(task_columns) if task_columns is not None else None
    wanted = _Wanted(named, tasks, split_column, group_column, weight_column)
    text = wanted.text or (find_text_column(table),)
    _check_wanted(table, text, wanted)
    split = (
        wanted.split
        if wanted.split is not None
        else _find_split_column(table, {*text, *(wanted.tasks or ()), wanted.group, wanted.weight})
    )
    chosen: dict[str | None, tuple[Role, str]] = {
        split: ("split", "chosen by you" if wanted.split else "says train, validation or test"),
        wanted.group: ("group", "chosen by you: equal values stay on one side"),
        wanted.weight: ("weight", "chosen by you: how often a row is drawn"),
    }
    columns: list[Column] = []
    for name, cells in table.columns.items():
        if name in text:
            column = Column(name, "text", _text_reason(wanted, text), {}, count_missing(cells))
        elif name in chosen:
            role, reason = chosen[name]
            column = Column(name, role, reason, {}, count_missing(cells))
        else:
            column = look(name, cells)
            if wanted.tasks is not None:
                column = _obey(column, cells, name in wanted.tasks)
            elif column.role in TASK_ROLES and sum(o.role in TASK_ROLES for o in columns) == settings().max_tasks:
                reason = f"there are {settings().max_tasks} tasks already"
                column = replace(column, role="ignored", reason=reason, counts={})
        columns.append(column)
    found = tuple(column.name for column in columns if column.role in TASK_ROLES)
    # in the person's order, which is the order of the heads
    return Columns(tuple(columns), text, found if tasks is None else tasks)


def _check_wanted(table: Table, text: tuple[str, ...], wanted: _Wanted) -> None:
    tasks = wanted.tasks or ()
    others = [name for name in (wanted.split, wanted.group, wanted.weight) if name]
    for name in (*text, *tasks, *others):
        table.column(name)
    for name in (*tasks, *others):
        if name in text:
            what = "a task" if name in tasks else "the split, group or weight column"
            raise DataError(f'"{name}" is the text column, so it cannot be {what} as well.')
    for name in others:
        if name in tasks:
            raise DataError(f'"{name}" is a task, so it cannot be the split, group or weight column as well.')
    if len(tasks) > settings().max_tasks:
        raise LimitError(f"{len(tasks)} tasks are too many; at most {settings().max_tasks} are accepted.")


def _text_reason(wanted: _Wanted, text: tuple[str, ...]) -> str:
    if len(text) > 1:
        return "chosen by you, joined with the other texts"
    return "chosen by you" if wanted.text else "the longest text"


def side_of(cell: str) -> Side | None:
    """Return the side a cell names: train, validation or test, in any of their usual spellings."""
    return SIDE_WORDS.get(cell.strip().lower())


def _find_split_column(table: Table, taken: set[str | None]) -> str:
    """Find a column that is named like a split and says nothing but train, validation and test."""
    for name, cells in table.columns.items():
        if name in taken or re.sub(r"[\W_]+", " ", name.lower()).strip() not in SPLIT_NAMES:
            continue
        values = {cell for cell in cells if not is_missing(cell)}
        if len({side_of(value) for value in values}) > 1 and all(map(side_of, values)):
            return name
    return ""


def _obey(column: Column, cells: list[str], chosen: bool) -> Column:
    """Follow the person's choice of tasks, unless the column cannot be one."""
    if not chosen:
        role: Role = "entities" if column.role == "entities" else "ignored"
        return replace(column, role=role, reason="not chosen", counts={})
    if column.role == "entities":
        return replace(column, reason="chosen by you")
    if several := several_labels(cells):
        raise DataError(
            f'Column "{column.name}" holds several labels in a cell, such as "{several}". '
            "Tasks with several labels per text cannot be trained yet; keep one label in each cell."
        )
    counts = count_labels(cells)
    if len(counts) < 2:
        raise DataError(f'Column "{column.name}" has {len(counts)} class; a task needs at least two different labels.')
    check_counts(column.name, counts)
    return Column(column.name, "task", "chosen by you", counts, column.missing)


def look(name: str, cells: list[str]) -> Column:
    """Guess the role of a column that is not the text."""
    missing = count_missing(cells)
    sample = sample_of(cells)
    if not sample:
        return Column(name, "ignored", "empty", {}, missing)
    if form := entity_form(sample):
        what = {"tags": "entity tags, one a word", "spans": "entity spans"}[form]
        return Column(name, "entities", what, {}, missing)
    counts = count_labels(cells)
    reason = why_not_a_task(counts, len(cells) - missing)
    if reason:
        return Column(name, "ignored", reason, {}, missing)
    return Column(name, "task", f"{len(counts)} classes", counts, missing)
