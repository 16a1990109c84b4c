"""What a person should know of a file before training on it: counted from the cells alone, at once, at any size.

What needs embeddings (near duplicates, labels that are likely wrong) is `mtl.inference.checks`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, groupby

from mtl.data.entities import EntityColumn
from mtl.data.preparing import Understood
from mtl.data.reading import Table, is_missing
from mtl.data.sameness import same_words

RARE = 10
_SHOWN = 8


@dataclass(frozen=True)
class Problem:
    """Something worth a look.

    Attributes:
        kind: What it is, in two or three words.
        rows: Indices of the data rows it concerns; empty if it concerns the whole file.
        sentence: What it is, where, and what happens with it.
    """

    kind: str
    rows: tuple[int, ...]
    sentence: str


@dataclass(frozen=True)
class Merge:
    """Labels of a task that differ only in case or white space, and the commonest of them."""

    task: str
    labels: tuple[str, ...]
    into: str


@dataclass(frozen=True)
class Profile:
    """What was counted.

    Attributes:
        rows: Data rows.
        usable: Rows with a text and at least one label.
        coverage: (tasks that are labelled, how many rows have exactly these), the commonest first.
        duplicates: Rows with the same text, group by group; the first is the one that the others repeat.
        contradictions: Task name -> groups of rows with the same text and different labels.
        merges: Labels that could be one.
        problems: All of it in sentences, the most serious first.
    """

    rows: int
    usable: int
    coverage: tuple[tuple[tuple[str, ...], int], ...]
    duplicates: tuple[tuple[int, ...], ...]
    contradictions: Mapping[str, tuple[tuple[int, ...], ...]]
    merges: tuple[Merge, ...]
    problems: tuple[Problem, ...]


def profile(understood: Understood) -> Profile:
    """Count what is in a table, and what is odd about it."""
    table, cells, texts = understood.table, understood.cells, understood.texts
    empty = [row for row, text in enumerate(texts) if is_missing(text)]
    coverage = _coverage(texts, cells)
    bare = _bare(texts, cells)
    duplicates = _duplicates(understood.keys)
    alike = _alike(duplicates, texts)
    contradictions = {task: _clashing(alike, column) for task, column in understood.labels.items()}
    merges = [merge for task in understood.labels for merge in _merges(task, understood.columns[task].counts)]
    found = [Problem("reading", (), note) for note in table.notes]
    found += about(table, "no text", empty, "without a text: left out")
    if cells:
        found += about(table, "no label", bare, "without any label: left out")
    found += [problem for name, column in understood.entities.items() for problem in _misaligned(table, name, column)]
    for task, groups in contradictions.items():
        rows = [row for group in groups for row in group]
        found += about(table, "contradiction", rows, f'with the same text but different labels of "{task}"')
    repeated = [row for group in duplicates for row in group[1:]]
    found += about(table, "duplicate", repeated, "repeating an earlier text: kept on the same side of the split")
    found += [_merge_problem(merge, cells[merge.task]) for merge in merges]
    found += [problem for task in understood.labels for problem in _rare(task, understood.columns[task].counts)]
    usable = len(texts) - len(empty) - len(bare)
    return Profile(len(texts), usable, coverage, duplicates, contradictions, tuple(merges), tuple(found))


def _coverage(texts: Sequence[str], cells: Mapping[str, list[str]]) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Count the rows with each combination of labels, rows without a text aside."""
    tasks = list(cells)
    filled = [[not is_missing(cell) for cell in cells[task]] for task in tasks]
    with_text = [not is_missing(text) for text in texts]
    counts = Counter(compress(zip(*filled, strict=True), with_text))
    return tuple(
        (tuple(task for task, there in zip(tasks, combination, strict=True) if there), count)
        for combination, count in counts.most_common()
    )


def _bare(texts: Sequence[str], cells: Mapping[str, list[str]]) -> list[int]:
    """List the rows with a text and no label of any task."""
    columns = list(cells.values())
    return [
        row
        for row, text in enumerate(texts)
        if not is_missing(text) and all(is_missing(column[row]) for column in columns)
    ]


def _duplicates(keys: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    first: dict[str, int] = {}
    groups: dict[int, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        if key and (start := first.setdefault(key, row)) != row:
            groups[start].append(row)
    return tuple((start, *rows) for start, rows in sorted(groups.items()))


def _alike(duplicates: Iterable[tuple[int, ...]], texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Divide the groups of equal texts further by the links and mentions that the split ignores."""
    found: list[tuple[int, ...]] = []
    for group in duplicates:
        rows: dict[str, list[int]] = defaultdict(list)
        for row in group:
            rows[same_words(texts[row])].append(row)
        found += map(tuple, rows.values())
    return found


def _clashing(duplicates: Iterable[tuple[int, ...]], column: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the labelled rows of each group of equal texts whose labels differ."""
    found = []
    for group in duplicates:
        labelled = tuple(row for row in group if not is_missing(column[row]))
        if len({column[row] for row in labelled}) > 1:
            found.append(labelled)
    return tuple(found)


def _merges(task: str, counts: Mapping[str, int]) -> list[Merge]:
    """Find labels that differ only in case or white space; the commonest is what the others could be."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in counts:  # the commonest first
        alike[" ".join(label.casefold().split())].append(label)
    return [Merge(task, tuple(labels), labels[0].strip()) for labels in alike.values() if len(labels) > 1]


def _merge_problem(merge: Merge, column: Sequence[str]) -> Problem:
    labels = set(merge.labels)
    shown = ", ".join(f'"{label}"' for label in merge.labels)
    rows = tuple(row for row, cell in enumerate(column) if cell in labels and cell != merge.labels[0])
    return Problem(
        "labels alike",
        rows,
        f'"{merge.task}": {shown} differ only in case or spaces and are different classes. Merge them if they are one.',
    )


def _rare(task: str, counts: Mapping[str, int]) -> list[Problem]:
    rare = [label for label, count in counts.items() if count < RARE]
    if not rare:
        return []
    shown = ", ".join(rare[:_SHOWN]) + (f" and {len(rare) - _SHOWN} more" if len(rare) > _SHOWN else "")
    return [Problem("rare class", (), f'"{task}": {shown} — fewer than {RARE} rows, too few to learn or score well.')]


def _misaligned(table: Table, name: str, column: EntityColumn) -> list[Problem]:
    found = []
    if column.converted:
        found.append(
            Problem("entity tags", (), f'"{name}": {column.converted:,} entities begin with I-, E- or L-; read as B-.')
        )
    if column.problems:
        row, reason = column.problems[0]
        rows = tuple(row for row, _ in column.problems)
        noun = "row" if len(rows) == 1 else "rows"
        sentence = f'"{name}": {len(rows):,} {noun} not used, first row {table.place(row)}: {reason}'
        found.insert(0, Problem("misaligned entities", rows, sentence.removesuffix(".") + "."))
    return found


def about(table: Table, kind: str, indices: Sequence[int], what: str) -> list[Problem]:
    """Make a problem of some rows: how many, what, and where the first are. None of no rows."""
    if not indices:
        return []
    rows = tuple(sorted(indices))
    noun = "row" if len(rows) == 1 else "rows"
    return [Problem(kind, rows, f"{len(rows):,} {noun} {what} ({noun} {_places(table, rows)}).")]


def _places(table: Table, rows: Sequence[int]) -> str:
    """List the first rows by number, and by file if there are several: `3, 8 of a.csv, 5 of b.csv …`."""
    shown = [(table.number(row), table.file(row)) for row in rows[:_SHOWN]]
    parts = [
        ", ".join(str(number) for number, _ in of_file) + (f" of {file}" if file else "")
        for file, of_file in groupby(shown, key=lambda place: place[1])
    ]
    return ", ".join(parts) + (" …" if len(rows) > _SHOWN else "")
