"""Several files as one table: a file per task, more rows of the same tasks, or a file per side of the split.

Every row keeps the cells of its own file; for the other files' columns its cells are empty, which is to say that
these labels are missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mtl.config import DataConfig
from mtl.data.columns import SPLIT_NAMES, Side, find_text_column, look, side_of
from mtl.data.reading import Options, Table, read_file
from mtl.errors import DataError, UserError


def read_files(
    files: Sequence[tuple[Path, str]],
    options: Options | None = None,
    *,
    text: Sequence[str] | None = None,
    separate_tasks: bool | None = None,
) -> Table:
    """Read one file, or several into one table.

    Args:
        files: Path and name of each, as the person calls it.
        options: How to read them; see `mtl.data.reading.Options`.
        text: The text column, or several, if the person named it; a file without it has its text guessed.
        separate_tasks: Whether label columns of one name are different tasks in each file; None: if they share no
            label.

    Raises:
        UserError: As `read_file`, with the file's name where there are several.
    """
    if not files:
        raise DataError("Choose a CSV file first.")
    tables = []
    for path, name in files:
        try:
            tables.append((name, read_file(path, **(options or {}))))
        except UserError as error:
            if len(files) == 1:
                raise
            raise type(error)(f"{name}: {error}") from None
    return combine(tables, text=text, separate_tasks=separate_tasks)


def read_configured(files: Sequence[tuple[Path, str]], data: DataConfig) -> Table:
    """Read files as a configuration says; see `read_files`."""
    reading = data.reading
    options: Options = {
        "encoding": reading.encoding,
        "delimiter": reading.delimiter,
        "quote": reading.quote,
        "header": reading.header,
    }
    return read_files(files, options, text=data.text_column, separate_tasks=data.separate_tasks)


def combine(
    tables: Sequence[tuple[str, Table]], *, text: Sequence[str] | None = None, separate_tasks: bool | None = None
) -> Table:
    """Put tables below each other; see `read_files`.

    Raises:
        DataError: A table has no column of texts.
    """
    if len(tables) == 1:
        return tables[0][1]
    tables = _distinct_names(tables)
    notes = [f"{name}: {note}" for name, table in tables for note in table.notes]
    tables, texts = _one_text_column(tables, text, notes)
    tables = _task_columns(tables, separate_tasks, texts, notes)
    tables = _sides_by_name(tables, notes)
    headers = dict.fromkeys(header for _, table in tables for header in table.headers)
    columns: dict[str, list[str]] = {header: [] for header in headers}
    starts: list[tuple[str, int]] = []
    numbers: list[int] = []
    for name, table in tables:
        starts.append((name, len(numbers)))
        numbers += [table.number(index) for index in range(len(table))]
        for header, cells in columns.items():
            cells += table.columns.get(header) or [""] * len(table)
    first = tables[0][1]
    return replace(first, columns=columns, header=True, notes=tuple(notes), numbers=numbers, files=tuple(starts))


def _distinct_names(tables: Sequence[tuple[str, Table]]) -> list[tuple[str, Table]]:
    names: list[str] = []
    for name, _ in tables:
        number, free, path = 2, name, Path(name)
        while free in names:
            number, free = number + 1, f"{path.stem} ({number}){path.suffix}"
        names.append(free)
    return [(name, table) for name, (_, table) in zip(names, tables, strict=True)]


def _one_text_column(
    tables: Sequence[tuple[str, Table]], text: Sequence[str] | None, notes: list[str]
) -> tuple[list[tuple[str, Table]], set[str]]:
    """Give the text column of every table the first one's name; return also which columns are texts."""
    found: list[tuple[str, Table]] = []
    wanted = ""
    for name, table in tables:
        if text and set(text) <= set(table.headers):
            found.append((name, table))
            continue
        try:
            own = find_text_column(table)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        wanted = wanted or (text[0] if text else own)
        if own != wanted and wanted not in table.headers:
            notes.append(f'{name}: the text column "{own}" is put under "{wanted}", the first file\'s.')
            table = _renamed(table, {own: wanted})
        found.append((name, table))
    return found, {wanted, *(text or ())}


def _task_columns(
    tables: list[tuple[str, Table]], separate: bool | None, texts: set[str], notes: list[str]
) -> list[tuple[str, Table]]:
    """Keep label columns of one name apart where they are different tasks in each file."""
    stems = [Path(name).stem for name, _ in tables]
    taken = dict.fromkeys(header for _, table in tables for header in table.headers)
    for header in [header for header in taken if header not in texts]:
        labels = {
            position: set(look(header, table.columns[header]).counts)
            for position, (_, table) in enumerate(tables)
            if header in table.columns and look(header, table.columns[header]).role == "task"
        }
        apart = _share_nothing(list(labels.values())) if separate is None else separate
        if len(labels) < 2 or not apart:
            continue
        for position in labels:
            name, table = tables[position]
            own = f"{header} ({stems[position] if stems.count(stems[position]) == 1 else name})"
            while own in taken:
                own += "*"
            taken[own] = None
            tables[position] = (name, _renamed(table, {header: own}))
        notes.append(
            f'"{header}" is a task of its own in each file, as you chose.'
            if separate
            else f'The files share no label of "{header}", so it is a task of its own in each. '
            "If it is one task, say so under the columns."
        )
    return tables


def _share_nothing(labels: list[set[str]]) -> bool:
    return all(len(one) > 1 for one in labels) and all(
        one.isdisjoint(other) for position, one in enumerate(labels) for other in labels[:position]
    )


def _sides_by_name(tables: list[tuple[str, Table]], notes: list[str]) -> list[tuple[str, Table]]:
    """Write the side into a column where the files are named as train, validation and test."""
    sides = [_side_in_name(name) for name, _ in tables]
    own = any(re.sub(r"[\W_]+", " ", header.lower()) in SPLIT_NAMES for _, table in tables for header in table.headers)
    if own or "train" not in sides or len({side for side in sides if side}) < 2:
        return tables
    named = ", ".join(f"{name} as {side}" for (name, _), side in zip(tables, sides, strict=True) if side)
    notes.append(f"The files are named as sides of the split: {named}.")
    return [
        (name, replace(table, columns={**table.columns, "split": [side or ""] * len(table)}))
        for (name, table), side in zip(tables, sides, strict=True)
    ]


def _side_in_name(name: str) -> Side | None:
    found = {side_of(word) for word in re.split(r"[^a-z]+", Path(name).stem.lower())} - {None}
    return found.pop() if len(found) == 1 else None


def _renamed(table: Table, names: dict[str, str]) -> Table:
    return replace(table, columns={names.get(header, header): cells for header, cells in table.columns.items()})
