"""One split for all tasks: seeded, stratified over every task's labels, and the same text never on two sides.

Rows whose texts are equal up to case and white space form a group that is never divided. Groups are dealt out by
iterative stratification (Sechidis et al. 2011, "On the stratification of multi-label data"): the rarest label
first, each group to the side that still lacks most of it. A missing label counts as a label of its own, so partly
labelled rows are spread evenly too.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtl.data.reading import is_missing
from mtl.errors import DataError

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Row indices of each side, ascending; together every usable row once."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """Texts with their label cells as typed.

    Attributes:
        texts: One text per example.
        cells: Task name -> one cell per example; an empty cell is a missing label.
        rows: For each example, its index in the table.
    """

    texts: tuple[str, ...]
    cells: Mapping[str, tuple[str, ...]]
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Examples:
        """Return the examples at these positions, in this order."""
        return Examples(
            tuple(self.texts[i] for i in indices),
            {task: tuple(cells[i] for i in indices) for task, cells in self.cells.items()},
            tuple(self.rows[i] for i in indices),
        )


@dataclass(frozen=True)
class Splits:
    """The examples of each side."""

    train: Examples
    validation: Examples
    test: Examples


def normalised(text: str) -> str:
    """Return the form under which two texts count as the same: case and white space ignored."""
    return " ".join(text.casefold().split())


def split_rows(
    texts: Sequence[str],
    cells: Mapping[str, Sequence[str]],
    *,
    fractions: tuple[float, float, float],
    seed: int,
) -> Split:
    """Divide the rows into train, validation and test.

    Args:
        texts: One text per row; rows with an empty text belong to no side.
        cells: Task name -> one label cell per row; rows without any label belong to no side.
        fractions: Of train, validation and test; they add up to 1, and the last two may be 0.
        seed: Same seed, same split.

    Raises:
        DataError: No row has a text and a label.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        if not is_missing(text) and any(not is_missing(column[row]) for column in cells.values()):
            groups[normalised(text)].append(row)
    if not groups:
        raise DataError("No row has both a text and a label.")
    members = list(groups.values())
    tags = [_tags(rows, cells) for rows in members]
    sides = _deal(members, tags, fractions, random.Random(seed))
    found: tuple[list[int], list[int], list[int]] = ([], [], [])
    for rows, side in zip(members, sides, strict=True):
        found[side].extend(rows)
    return Split(*(tuple(sorted(rows)) for rows in found))


def _tags(rows: list[int], cells: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Name the (task, label) pairs of a group, one for each row and task; a missing label is the label ""."""
    return [(task, "" if is_missing(column[row]) else column[row]) for row in rows for task, column in cells.items()]


def _deal(
    members: list[list[int]],
    tags: list[list[tuple[str, str]]],
    fractions: tuple[float, float, float],
    rng: random.Random,
) -> list[int]:
    holders: dict[tuple[str, str], list[int]] = defaultdict(list)
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for group, pairs in enumerate(tags):
        for pair in pairs:
            totals[pair] += 1
        for pair in dict.fromkeys(pairs):
            holders[pair].append(group)
    wanted = {pair: [total * fraction for fraction in fractions] for pair, total in totals.items()}
    room = [sum(map(len, members)) * fraction for fraction in fractions]
    open_sides = [side for side, fraction in enumerate(fractions) if fraction > 0]
    sides = [-1] * len(members)
    for pair in sorted(totals, key=lambda pair: (totals[pair], pair)):
        undecided = [group for group in holders[pair] if sides[group] < 0]
        rng.shuffle(undecided)
        for group in undecided:
            side = max(open_sides, key=lambda side: (wanted[pair][side], room[side]))
            sides[group] = side
            room[side] -= len(members[group])
            for other in tags[group]:
                wanted[other][side] -= 1
    return sides


def take_splits(texts: Sequence[str], cells: Mapping[str, Sequence[str]], split: Split) -> Splits:
    """Cut the three sides out of the table's columns."""
    everything = Examples(
        tuple(texts), {task: tuple(column) for task, column in cells.items()}, tuple(range(len(texts)))
    )
    return Splits(*(everything.take(getattr(split, side)) for side in SIDES))
