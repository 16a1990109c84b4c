"""From a table and a configuration to a run that can start: columns, labels and split decided, everything resolved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from mtl.config import RunConfig, TaskConfig, resolve
from mtl.data.columns import Columns, join_texts, understand
from mtl.data.entities import EntityColumn, read_entity_column
from mtl.data.reading import Table, is_missing, quoted
from mtl.data.sameness import normalised
from mtl.data.splitting import SIDES, Split, Splits, count_leaks, group_rows, split_counts, split_rows, take_splits
from mtl.errors import ConfigError, DataError
from mtl.tasks import TaskKind


@dataclass(frozen=True)
class Understood:
    """A table whose columns have their roles.

    Attributes:
        table: What was read, with merged labels written as what they are merged into.
        columns: What each column was understood as.
        texts: One text per row.
        keys: The normalised texts; equal ones count as the same text.
        entities: Column name -> its entities.
    """

    table: Table
    columns: Columns
    texts: list[str]
    keys: list[str]
    entities: Mapping[str, EntityColumn]

    @property
    def cells(self) -> dict[str, list[str]]:
        """Task name -> its cells; a cell of entities that cannot be read counts as empty."""
        return {name: self._cells(name) for name in self.columns.tasks}

    def _cells(self, name: str) -> list[str]:
        column = self.table.columns[name]
        if name not in self.entities:
            return column
        return ["" if spans is None else cell for cell, spans in zip(column, self.entities[name].spans, strict=True)]

    @property
    def labels(self) -> dict[str, list[str]]:
        """Classification task -> its cells."""
        return {name: self.table.columns[name] for name in self.columns.tasks if name not in self.entities}

    @property
    def entity_types(self) -> dict[str, list[tuple[str, ...] | None]]:
        """Task of entities -> the types in each row; None where it is not annotated."""
        return {name: _types(self.entities[name]) for name in self.columns.tasks if name in self.entities}


@dataclass(frozen=True)
class Division:
    """The split, and what a person should know of it.

    Attributes:
        split: Row indices of train, validation and test.
        groups: For each row, the first row of its group; a group is never on two sides.
        leaks: Groups on more than one side, counted afterwards: 0.
        notes: What was done beyond dealing out the rows.
    """

    split: Split
    groups: list[int]
    leaks: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Attributes:
        config: Resolved, with the columns, the labels and every rate filled in.
        understood: The table and its columns.
        division: The split.
    """

    config: RunConfig
    understood: Understood
    division: Division

    @property
    def columns(self) -> Columns:
        """What each column was understood as."""
        return self.understood.columns

    @property
    def split(self) -> Split:
        """Row indices of train, validation and test."""
        return self.division.split


def prepare(table: Table, config: RunConfig, near: Sequence[Sequence[int]] | None = None) -> Prepared:
    """Decide everything a run depends on.

    Args:
        table: The data.
        config: As the person gave it.
        near: Groups of rows with nearly the same text, wanted where `data.split.near_duplicates` is set.

    Raises:
        DataError: No text column, no task, an unlisted label, or too few rows.
    """
    understood = understand_table(table, config)
    return complete(understood, divide(understood, config, near), config)


def understand_table(table: Table, config: RunConfig) -> Understood:
    """Give every column its role, as the configuration says or by guessing.

    Raises:
        DataError: No text column, or a named column that cannot be what it is named for.
    """
    data = config.data
    tasks = data.task_columns
    if tasks is None and config.tasks:
        tasks = tuple(config.tasks)
    table = merge_labels(table, config.tasks)
    columns = understand(
        table,
        data.text_column,
        tasks,
        split_column=data.split.column,
        group_column=data.split.group_column,
        weight_column=data.weight_column,
    )
    if data.weight_column:
        read_weights(table, data.weight_column)
    texts = join_texts(table, columns.text)
    entities = {name: read_entity_column(texts, table.columns[name]) for name in columns.named("entities")}
    return Understood(table, columns, texts, [normalised(text) for text in texts], entities)


def merge_labels(table: Table, tasks: Mapping[str, TaskConfig]) -> Table:
    """Write the labels that a person merged as what they are merged into."""
    columns = dict(table.columns)
    for name, task in tasks.items():
        if task.merge and name in columns:
            columns[name] = [task.merge.get(cell, cell) for cell in columns[name]]
    return replace(table, columns=columns)


def divide(understood: Understood, config: RunConfig, near: Sequence[Sequence[int]] | None = None) -> Division:
    """Divide the rows.

    Raises:
        DataError: There is no task, or too few rows.
        ConfigError: Near duplicates are to stay together and were not looked for.
    """
    settings, table = config.data.split, understood.table
    require_tasks(understood.columns)
    if settings.near_duplicates is not None and near is None:
        raise ConfigError("data.split.near_duplicates: the near duplicates were not looked for yet.")
    group = settings.group_column
    values = table.columns[group] if group else None
    groups = group_rows(understood.texts, keys=understood.keys, values=values, near=near or ())
    side_column = next(iter(understood.columns.named("split")), None)
    split = split_rows(
        understood.texts,
        understood.labels,
        fractions=(settings.train, settings.validation, settings.test),
        seed=settings.seed,
        groups=groups,
        entity_types=understood.entity_types,
        given=table.columns[side_column] if side_column else None,
    )
    _check_training_rows(understood, split)
    return Division(split, groups, count_leaks(groups, split), _split_notes(understood, split, side_column))


def complete(understood: Understood, division: Division, config: RunConfig) -> Prepared:
    """Fill in what the columns and the split decide.

    Raises:
        DataError: A label that is not among the listed ones.
    """
    names = understood.columns.tasks
    unused = [name for name in config.tasks if name not in names]
    if unused:
        raise DataError(f'tasks: "{unused[0]}" is not one of the task columns {quoted(names)}.')
    tasks = {}
    for name in names:
        tasks[name] = _settled(understood, name, config.tasks.get(name, TaskConfig()))
    data = config.data.model_copy(update={"text_column": understood.columns.text, "task_columns": names})
    filled = config.model_copy(update={"data": data, "tasks": tasks})
    return Prepared(resolve(filled, len(division.split.train)), understood, division)


def cut(table: Table, config: RunConfig, split: Split) -> Splits:
    """Cut the examples of a prepared run out of its table."""
    table = merge_labels(table, config.tasks)
    texts = join_texts(table, config.data.text_column or ())
    weights = read_weights(table, config.data.weight_column) if config.data.weight_column else ()
    return take_splits(texts, {name: table.column(name) for name in config.data.task_columns or ()}, split, weights)


def read_weights(table: Table, column: str) -> list[float]:
    """Read how often each row is to be drawn; an empty cell is 1.

    Raises:
        DataError: A cell is not a number from 0, or all are 0.
    """
    weights = []
    for index, cell in enumerate(table.column(column)):
        try:
            weight = 1.0 if is_missing(cell) else float(cell)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise DataError(f'Row {table.place(index)}: {column} "{cell[:40]}" is not a weight; give a number from 0.')
        weights.append(weight)
    if not any(weights):
        raise DataError(f'Every weight in "{column}" is 0, so no row would be drawn.')
    return weights


def _types(column: EntityColumn) -> list[tuple[str, ...] | None]:
    """Return the entity types of each row; None where it is not annotated."""
    return [None if spans is None else tuple(dict.fromkeys(span.label for span in spans)) for spans in column.spans]


def require_tasks(columns: Columns) -> None:
    """Refuse a table without anything to learn.

    Raises:
        DataError: Says what was found instead of a task.
    """
    if not columns.tasks:
        raise DataError(_no_task(columns))


def _no_task(columns: Columns) -> str:
    several = [column for column in columns.all if column.reason.startswith("several labels")]
    if several:
        return (
            f'Column "{several[0].name}" holds {several[0].reason.removesuffix("; not trained yet")}. '
            "Tasks with several labels per text cannot be trained yet; keep one label in each cell."
        )
    return (
        "No column looks like labels. A task needs a column with a few different values; "
        f"the file has {quoted([column.name for column in columns.all])}."
    )


def _settled(understood: Understood, name: str, task: TaskConfig) -> TaskConfig:
    """Fill in a task's kind and labels.

    Raises:
        ConfigError: It is to be of another kind than its column is.
        DataError: A label is not among those that are listed.
    """
    kind: TaskKind = "token_classification" if name in understood.entities else "classification"
    if task.kind not in (None, kind):
        what = "one entity tag a word or entity spans" if name in understood.entities else "one label a text"
        raise ConfigError(f'tasks.{name}.kind is {task.kind}, but the column "{name}" holds {what}.')
    values = task.model_dump() | {"kind": kind, "labels": _labels(understood, name, task)}
    try:
        return TaskConfig(**values)
    except ValidationError as error:  # what is legal for one kind only
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"tasks.{name}.{reason}.") from None


def _labels(understood: Understood, name: str, task: TaskConfig) -> tuple[str, ...]:
    """Return the classes: those the person listed, in that order, else those in the file, sorted."""
    entities = understood.entities.get(name)
    if task.labels is None:
        return tuple(sort_labels(entities.types if entities else understood.columns[name].counts))
    if entities is None:
        check_labels(understood.table, name, task.labels)
    elif unknown := sorted(set(entities.types) - set(task.labels)):
        raise DataError(f'The entity type "{unknown[0]}" in "{name}" is not one of {quoted(task.labels)}. Add it.')
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
                f'Row {table.place(index)}: {name} "{cell}" is not one of {quoted(labels)}. '
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


def _check_training_rows(understood: Understood, split: Split) -> None:
    for name, column in understood.labels.items():
        found = {column[row] for row in split.train if not is_missing(column[row])}
        if len(found) < 2:
            raise DataError(
                f'Too few rows: the training rows hold {len(found)} class of "{name}"; at least two are needed. '
                "Add rows, or make the training fraction larger."
            )
    for name, types in understood.entity_types.items():
        if not any(types[row] for row in split.train):
            raise DataError(f'The training rows hold no entity of "{name}". Add some, or leave the column out.')


def _split_notes(understood: Understood, split: Split, side_column: str | None) -> tuple[str, ...]:
    """Say what a person would not expect: rows left out of a ready-made split, and classes on one side only."""
    notes = []
    cells = understood.cells
    counted = split_counts(understood.labels, split, understood.entity_types)
    if side_column:
        notes.append(
            f'The sides are those of the column "{side_column}"; a side it does not name is cut from training.'
        )
        usable = sum(
            not is_missing(text) and any(not is_missing(column[row]) for column in cells.values())
            for row, text in enumerate(understood.texts)
        )
        left = usable - sum(len(getattr(split, side)) for side in SIDES)
        if left:
            notes.append(f"{left:,} training or validation rows repeat a text of a later side: left out.")
    for task in cells:
        counts = [entry for entry in counted if entry["task"] == task]
        alone = [entry["label"] for entry in counts if not entry["validation"] and not entry["test"]]
        if alone and (split.validation or split.test):
            notes.append(f'"{task}": {quoted(alone, 6)} — too few rows to divide, so they are in training only.')
        unseen = [entry["label"] for entry in counts if not entry["train"]]
        if unseen:
            notes.append(f'"{task}": {quoted(unseen, 6)} — no row in training, so they cannot be learnt.')
    return tuple(notes)
