"""What a person should know of a file before training on it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from mtl.data.columns import Columns
from mtl.data.reading import Table, is_missing, row_number
from mtl.data.splitting import normalised

RARE = 10


@dataclass(frozen=True)
class Problem:
    """Something worth a look.

    Attributes:
        rows: Spreadsheet rows it concerns; empty if it concerns the whole file.
        sentence: What it is and what happens with it.
    """

    rows: tuple[int, ...]
    sentence: str


def problems(table: Table, columns: Columns) -> list[Problem]:
    """List what is odd about a table: missing texts, rows without labels, duplicates, contradictions, rare classes."""
    texts = table.columns[columns.text]
    cells = {name: table.columns[name] for name in columns.tasks}
    found = [Problem((), note) for note in table.notes]
    empty = [i for i, text in enumerate(texts) if is_missing(text)]
    found += _about(empty, "without a text: left out")
    bare = [i for i, text in enumerate(texts) if not is_missing(text) and all(is_missing(c[i]) for c in cells.values())]
    if cells:
        found += _about(bare, "without any label: left out")
    groups: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        if not is_missing(text):
            groups[normalised(text)].append(index)
    repeated = [rows for rows in groups.values() if len(rows) > 1]
    found += _about(
        [i for rows in repeated for i in rows[1:]], "repeating an earlier text: kept on the same side of the split"
    )
    for name, column in cells.items():
        clashing = [
            i for rows in repeated if len({column[i] for i in rows if not is_missing(column[i])}) > 1 for i in rows
        ]
        found += _about(clashing, f'with the same text but different labels of "{name}"')
        rare = [label for label, count in columns[name].counts.items() if count < RARE]
        if rare:
            shown = ", ".join(rare[:8]) + (f" and {len(rare) - 8} more" if len(rare) > 8 else "")
            found.append(Problem((), f'"{name}": {shown} — fewer than {RARE} rows, too few to learn or to score well.'))
    return found


def _about(indices: list[int], what: str) -> list[Problem]:
    if not indices:
        return []
    rows = tuple(row_number(index) for index in sorted(indices))
    shown = ", ".join(map(str, rows[:8])) + (" …" if len(rows) > 8 else "")
    noun = "row" if len(rows) == 1 else "rows"
    return [Problem(rows, f"{len(rows):,} {noun} {what} ({noun} {shown}).")]
