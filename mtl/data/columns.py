"""Which column is the text, which are tasks, and why: a guess that a person can see and correct."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mtl.data.reading import Table, is_missing, quoted, row_number
from mtl.errors import DataError, LimitError
from mtl.settings import settings

Role = Literal["text", "task", "entities", "ignored"]

TEXT_NAMES = (
    "text",
    "sentence",
    "content",
    "message",
    "review",
    "tweet",
    "body",
    "comment",
    "utterance",
    "description",
)
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}:\d{2}")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?", re.IGNORECASE)
_BIO = re.compile(r"(O|[BIES]-\S+)( +(O|[BIES]-\S+))*")
_LOOK_AT = 1_000


@dataclass(frozen=True)
class Column:
    """What one column was understood as.

    Attributes:
        name: The header, verbatim.
        role: `text`, `task`, `entities` or `ignored`.
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
    """The understood table: exactly one text column, and at least one task unless only predicting."""

    all: tuple[Column, ...]
    text: str
    tasks: tuple[str, ...]

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.all if column.name == name)


def find_text_column(table: Table, wanted: str | None = None) -> str:
    """Return the text column: the one named, else the best guess.

    The guess is the column with the most words per cell; a usual name (text, sentence, review …) counts for a lot.

    Raises:
        DataError: The named column does not exist, or no column holds sentences.
    """
    if wanted is not None:
        table.column(wanted)
        return wanted
    best = max(table.headers, key=lambda name: _textness(name, table.columns[name]))
    if _textness(best, table.columns[best]) <= 0:
        raise DataError(f"No column looks like sentences. Name the text column; the file has {quoted(table.headers)}.")
    return best


def understand(table: Table, text_column: str | None = None, task_columns: Sequence[str] | None = None) -> Columns:
    """Decide the role of every column.

    Args:
        table: What was read.
        text_column: The text column, if the person named it.
        task_columns: The task columns, if the person named them; each must be usable as a task.

    Raises:
        DataError: A named column does not exist or cannot be a task.
    """
    text = find_text_column(table, text_column)
    if task_columns is not None:
        for name in task_columns:
            table.column(name)
            if name == text:
                raise DataError(f'"{name}" is the text column, so it cannot be a task as well.')
        if len(task_columns) > settings().max_tasks:
            raise LimitError(f"{len(task_columns)} tasks are too many; at most {settings().max_tasks} are accepted.")
    columns = []
    for name, cells in table.columns.items():
        if name == text:
            columns.append(
                Column(name, "text", "named by you" if text_column else "the longest text", {}, _missing(cells))
            )
            continue
        column = _look(name, cells)
        if task_columns is not None:
            column = _obey(column, cells, name in task_columns)
        elif column.role == "task" and sum(other.role == "task" for other in columns) == settings().max_tasks:
            reason = f"there are {settings().max_tasks} tasks already"
            column = replace(column, role="ignored", reason=reason, counts={})
        columns.append(column)
    tasks = [column.name for column in columns if column.role == "task"]
    if task_columns is not None:  # in the person's order, which is the order of the heads
        tasks = list(task_columns)
    return Columns(tuple(columns), text, tuple(tasks))


def _obey(column: Column, cells: list[str], chosen: bool) -> Column:
    """Follow the person's choice of tasks, unless the column cannot be one."""
    if not chosen:
        role: Role = "entities" if column.role == "entities" else "ignored"
        return Column(column.name, role, column.reason if role == "entities" else "not chosen", {}, column.missing)
    if column.role == "entities":
        raise DataError(f'Column "{column.name}" holds entities, which cannot be trained yet; choose other columns.')
    counts = _counts(cells)
    if len(counts) < 2:
        raise DataError(f'Column "{column.name}" has {len(counts)} class; a task needs at least two different labels.')
    _check_labels(column.name, cells, counts)
    return Column(column.name, "task", "chosen by you", counts, column.missing)


def _check_labels(name: str, cells: list[str], counts: dict[str, int]) -> None:
    limits = settings()
    if len(counts) > limits.max_labels:
        raise LimitError(
            f'Column "{name}" has {len(counts):,} different labels; at most {limits.max_labels:,} are accepted here. '
            "Is it an identifier or free text?"
        )
    for label in counts:
        if len(label) > limits.max_label_characters:
            row = row_number(cells.index(label))
            raise LimitError(
                f'Row {row}: the label in column "{name}" has {len(label):,} characters; '
                f"at most {limits.max_label_characters} are accepted. Is it free text?"
            )


def _missing(cells: list[str]) -> int:
    return sum(map(is_missing, cells))


def _counts(cells: list[str]) -> dict[str, int]:
    return dict(Counter(cell for cell in cells if not is_missing(cell)).most_common())


def _textness(name: str, cells: list[str]) -> float:
    """Score how much a column looks like sentences; 0 or less means it does not."""
    sample = [cell for cell in cells[:_LOOK_AT] if not is_missing(cell)]
    if not sample or looks_like_spans(sample) or looks_like_tags(sample):
        return 0.0
    words = sum(len(cell.split()) for cell in sample) / len(sample)
    different = len(set(sample)) / len(sample)
    if _share(_NUMBER, sample) > 0.9 or _share(_DATE, sample) > 0.9:
        return 0.0
    named = name.strip().lower() in TEXT_NAMES
    if words < 2 and not named:
        return 0.0
    return words * different * (10.0 if named else 1.0)


def looks_like_spans(sample: list[str]) -> bool:
    """Say whether the cells are entity spans in JSON: `[{"start": 0, "end": 4, "label": "PER"}]`."""
    if not all(cell.strip().startswith("[") for cell in sample):
        return False
    try:
        spans = [span for cell in sample[:100] for span in json.loads(cell)]
    except (ValueError, TypeError, RecursionError):
        return False
    return bool(spans) and all(isinstance(span, dict) and {"start", "end", "label"} <= span.keys() for span in spans)


def looks_like_tags(sample: list[str]) -> bool:
    """Say whether the cells are BIO tags, one per word."""
    return any("-" in cell for cell in sample) and all(_BIO.fullmatch(cell.strip()) for cell in sample)


def _share(pattern: re.Pattern[str], sample: list[str]) -> float:
    return sum(bool(pattern.fullmatch(cell.strip())) for cell in sample) / len(sample)


def _look(name: str, cells: list[str]) -> Column:
    """Guess the role of a column that is not the text."""
    missing = _missing(cells)
    sample = [cell for cell in cells[:_LOOK_AT] if not is_missing(cell)]
    if not sample:
        sample = [cell for cell in cells if not is_missing(cell)][:_LOOK_AT]
    if not sample:
        return Column(name, "ignored", "empty", {}, missing)
    if looks_like_spans(sample):
        return Column(name, "entities", "entity spans; not trained yet", {}, missing)
    if looks_like_tags(sample):
        return Column(name, "entities", "entity tags; not trained yet", {}, missing)
    counts = _counts(cells)
    reason = _why_not_a_task(counts, len(cells) - missing, cells)
    if reason:
        return Column(name, "ignored", reason, {}, missing)
    return Column(name, "task", f"{len(counts)} classes", counts, missing)


def _why_not_a_task(counts: dict[str, int], filled: int, cells: list[str]) -> str:
    labels = list(counts)
    sample = labels[:_LOOK_AT]
    numbers, dates = _share(_NUMBER, sample), _share(_DATE, sample)
    if len(counts) < 2:
        return "the same value in every row"
    if dates > 0.9:
        return "dates or times"
    if sum("://" in label for label in sample) > 0.9 * len(sample):
        return "links"
    if len(counts) == filled and filled > 20:
        return "a different value in every row, as an identifier has"
    if sum(len(label.split()) for label in sample) / len(sample) > 5:
        return "free text"
    if numbers > 0.9 and len(counts) > 20:
        return "numbers"
    if len(counts) > max(2, min(settings().max_labels, filled // 3)):
        return f"{len(counts):,} different values in {filled:,} rows"
    try:
        _check_labels("", cells, counts)
    except LimitError:
        return "its values are too long for labels"
    return ""
