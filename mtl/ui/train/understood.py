"""What was understood of the data, drawn: the files, problems, columns, classes, coverage and split."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.data.columns import Columns
from mtl.data.dialect import DELIMITERS
from mtl.data.preparing import Prepared, Understood
from mtl.data.profile import Profile
from mtl.data.reading import Table, is_missing
from mtl.data.splitting import SIDES, split_counts
from mtl.ui import html

ROLES = {
    "text": "text",
    "task": "task",
    "entities": "entities",
    "split": "split",
    "group": "kept together",
    "weight": "weight",
    "ignored": "not used",
}
MOST_CLASSES, MOST_COMBINATIONS, MOST_PROBLEMS, MOST_COLUMNS = 12, 8, 10, 12


def summary_html(understood: Understood, profile: Profile, files: Sequence[Sequence[str]]) -> str:
    """Say what was understood, the most needed first."""
    table, columns = understood.table, understood.columns
    names = "".join(f'<div class="file-name">{html.escape(name)}</div>' for _, name in files)
    notes = [problem.sentence for problem in profile.problems]
    more = [f"and {len(notes) - MOST_PROBLEMS} more; the download below has all"] if len(notes) > MOST_PROBLEMS else []
    parts = [
        names,
        html.chips([("rows", f"{len(table):,}"), ("usable", f"{profile.usable:,}"), *_read_as(table)]),
        html.notes(notes[:MOST_PROBLEMS] + more, "problem"),
        _columns(columns),
        *(_classes(columns, task, len(table), opened=len(columns.tasks) < 3) for task in understood.labels),
        *(_entities(name, column.types) for name, column in understood.entities.items()),
        _coverage(profile, columns.tasks),
    ]
    return f'<div class="understood">{"".join(parts)}</div>'


def _read_as(table: Table) -> list[tuple[str, str]]:
    quote = {'"': "", "'": ", single quotes", "": ", no quotes"}[table.quote]
    header = "first row is the header" if table.header else "no header"
    if table.files:  # each may be another
        return [("files", f"{len(table.files)}")]
    return [("read as", f"{table.encoding}, {DELIMITERS[table.delimiter]}{quote}, {header}")]


def _columns(columns: Columns) -> str:
    rows = [
        (column.name, ROLES[column.role], column.reason + (f"; {column.missing:,} empty" if column.missing else ""))
        for column in columns.all
    ]
    used = [row for row, column in zip(rows, columns.all, strict=True) if column.role != "ignored"]
    if len(rows) <= MOST_COLUMNS:
        return html.table(["column", "used as", "why"], rows, numbers_from=9, caption="Columns")
    header = ["column", "used as", "why"]
    every = html.table(header, rows[:200], numbers_from=9, caption="All columns")
    shown = html.table(header, used, numbers_from=9, caption="Columns that are used")
    return shown + html.details(f"All {len(rows):,} columns", every)
    return html.table(
        ["column", "used as", "why"], used, numbers_from=9, caption="Columns that are used"
    ) + html.details(f"All {len(rows):,} columns", every)


def _classes(columns: Columns, task: str, rows: int, *, opened: bool) -> str:
    """Draw a task's classes with their counts as bars."""
    counts = columns[task].counts
    labelled = sum(counts.values())
    title = f"{len(counts)} classes, {labelled:,} of {rows:,} rows labelled"
    return html.details(title, html.counts(counts, MOST_CLASSES), name=task, opened=opened)


def _entities(name: str, types: dict[str, int]) -> str:
    if not types:
        return ""
    return html.details(
        f"{len(types)} entity types, {sum(types.values()):,} entities", html.counts(types, MOST_CLASSES), name=name
    )


def _coverage(profile: Profile, tasks: Sequence[str]) -> str:
    """Draw how many rows have which combination of labels; one combination needs no table."""
    if len(profile.coverage) < 2 or len(tasks) < 2:
        return ""
    rows = [
        (*("●" if task in labelled else "–" for task in tasks), f"{count:,}")
        for labelled, count in profile.coverage[:MOST_COMBINATIONS]
    ]
    rest = profile.coverage[MOST_COMBINATIONS:]
    if rest:
        rows.append((*[""] * (len(tasks) - 1), f"{len(rest)} more", f"{sum(count for _, count in rest):,}"))
    return html.table([*tasks, "rows"], rows, numbers_from=len(tasks), caption="Which labels come together")


def split_html(prepared: Prepared) -> str:
    """Draw the rows of each side, per task and, folded, per class."""
    understood, split, division = prepared.understood, prepared.split, prepared.division
    counts = split_counts(understood.labels, split, understood.entity_types)
    rows = [("all rows", *(f"{len(getattr(split, side)):,}" for side in SIDES))]
    for task, cells in understood.cells.items():
        filled = {side: sum(not is_missing(cells[row]) for row in getattr(split, side)) for side in SIDES}
        rows.append((task, *(f"{filled[side]:,}" for side in SIDES)))
    classes = [(entry["task"], entry["label"], *(f"{entry[side]:,}" for side in SIDES)) for entry in counts[:400]]
    leaks = "0 leaks: no text is on two sides" if not division.leaks else f"{division.leaks:,} texts are on two sides"
    return (
        html.table(["labelled", *SIDES], rows, caption=f"Split — {leaks}")
        + html.notes(division.notes)
        + html.details(
            "The split, class by class",
            html.table(["task", "class", *SIDES], classes, numbers_from=2, caption="Rows of each class"),
        )
    )
