"""One split for all tasks: seeded, stratified over every task's labels, and the same text never on two sides.

Rows whose texts are equal after normalising (`mtl.data.sameness`), and rows that belong together for another reason,
form a group that is never divided. Groups are dealt out by iterative stratification (Sechidis et al. 2011, "On the
stratification of multi-label data"): the rarest label first, each group to the side that still lacks most of it. A
missing label counts as a label of its own, so partly labelled rows are spread evenly too. A class with fewer groups
than there are sides is kept in training.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.data.columns import side_of
from mtl.data.reading import is_missing
from mtl.data.sameness import Groups, normalised
from mtl.errors import DataError

SIDES = ("train", "validation", "test")
Labels = tuple[str, ...] | None
Tag = tuple[str, str]


@dataclass(frozen=True)
class Split:
    """Row indices of each side, ascending; no row is on two sides."""

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
        weights: For each example, how often it is to be drawn; empty if nothing says so.
    """

    texts: tuple[str, ...]
    cells: Mapping[str, tuple[str, ...]]
    rows: tuple[int, ...]
    weights: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Examples:
        """Return the examples at these positions, in this order."""
        return Examples(
            tuple(self.texts[i] for i in indices),
            {task: tuple(cells[i] for i in indices) for task, cells in self.cells.items()},
            tuple(self.rows[i] for i in indices),
            tuple(self.weights[i] for i in indices) if self.weights else (),
        )


@dataclass(frozen=True)
class Splits:
    """The examples of each side."""

    train: Examples
    validation: Examples
    test: Examples


def group_rows(
    texts: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
    near: Sequence[Sequence[int]] = (),
) -> list[int]:
    """Say which rows must stay on one side of the split.

    Args:
        texts: One text per row; an empty one equals no other.
        keys: The normalised texts, if they are known already.
        values: The cells of a group column; an empty one groups nothing.
        near: Rows whose texts are nearly the same.

    Returns:
        For each row, the first row of its group.
    """
    groups = Groups(len(texts))
    found = keys if keys is not None else [normalised(text) for text in texts]
    groups.join_equal([key or None for key in found])
    if values is not None:
        groups.join_equal([None if is_missing(value) else value for value in values])
    for rows in near:
        groups.join(rows)
    return [groups.find(row) for row in range(len(texts))]


def split_rows(
    texts: Sequence[str],
    cells: Mapping[str, Sequence[str]],
    *,
    fractions: tuple[float, float, float],
    seed: int,
    groups: Sequence[int] | None = None,
    entity_types: Mapping[str, Sequence[Labels]] | None = None,
    given: Sequence[str] | None = None,
) -> Split:
    """Divide the rows into train, validation and test.

    Args:
        texts: One text per row; rows with an empty text belong to no side.
        cells: Classification task -> one label cell per row.
        fractions: Of train, validation and test; they add up to 1, and the last two may be 0.
        seed: Same seed, same split.
        groups: Rows with the same number stay together; by default those whose texts are equal (`group_rows`).
        entity_types: Task of entities -> the types in each row, None where it is not annotated; they are spread
            evenly like labels. A row with neither a label nor an annotation belongs to no side.
        given: The side each row is to be on, in words; empty where it is open. A side that no row names is cut out
            of the training rows. Where a group reaches over several sides, its training rows and then its validation
            rows belong to no side, so that nothing is tested that was learnt.

    Raises:
        DataError: No row has a text and a label.
    """
    groups = group_rows(texts) if groups is None else groups
    members = _usable(texts, cells, entity_types or {}, groups)
    if not members:
        raise DataError("No row has both a text and a label.")
    fixed, open_groups, fractions = _keep_given(members, given, fractions)
    tags = _tags(open_groups, cells, entity_types or {})
    sides = _deal(open_groups, tags, fractions, random.Random(seed))
    for rows, side in zip(open_groups, sides, strict=True):
        fixed[side].extend(rows)
    return Split(*(tuple(sorted(rows)) for rows in fixed))


def _usable(
    texts: Sequence[str],
    cells: Mapping[str, Sequence[str]],
    entity_types: Mapping[str, Sequence[Labels]],
    groups: Sequence[int],
) -> list[list[int]]:
    """List the rows of each group that have a text, and a label or an annotation."""
    members: dict[int, list[int]] = defaultdict(list)
    columns, kinds = list(cells.values()), list(entity_types.values())
    for row, text in enumerate(texts):
        labelled = any(not is_missing(column[row]) for column in columns) or any(k[row] is not None for k in kinds)
        if labelled and not is_missing(text):
            members[groups[row]].append(row)
    return list(members.values())


def _keep_given(
    members: list[list[int]], given: Sequence[str] | None, fractions: tuple[float, float, float]
) -> tuple[tuple[list[int], list[int], list[int]], list[list[int]], tuple[float, float, float]]:
    """Put the rows with a ready-made side there; return also the groups that are left to divide, and into what."""
    fixed: tuple[list[int], list[int], list[int]] = ([], [], [])
    if given is None:
        return fixed, members, fractions
    sides = [side_of(cell) for cell in given]
    found = {side for side in sides if side}
    left: list[list[int]] = []
    for rows in members:
        named = {sides[row] for row in rows}
        if side := next((side for side in ("test", "validation") if side in named), None):
            fixed[SIDES.index(side)].extend(row for row in rows if sides[row] in (side, None))
        else:
            left.append(rows)
    wanted = [fractions[0], *(0.0 if side in found else f for side, f in zip(SIDES[1:], fractions[1:], strict=True))]
    total = sum(wanted)
    return fixed, left, (wanted[0] / total, wanted[1] / total, wanted[2] / total)


def _tags(
    members: list[list[int]], cells: Mapping[str, Sequence[str]], entity_types: Mapping[str, Sequence[Labels]]
) -> list[tuple[Tag, ...]]:
    """Name the (task, label) pairs of each group, one for each row and task; a missing label is the label "".

    Groups with the same pairs share one object: there are few combinations, however many groups.
    """
    columns: list[tuple[Sequence[Any], dict[Any, tuple[Tag, ...]]]] = [
        (column, {cell: ((task, "" if is_missing(cell) else cell),) for cell in set(column)})
        for task, column in cells.items()
    ]
    for task, kinds in entity_types.items():
        columns.append((kinds, {found: _type_tags(task, found) for found in set(kinds)}))
    shared: dict[tuple[Tag, ...], tuple[Tag, ...]] = {}
    tags = []
    for rows in members:
        pairs = tuple(pair for column, known in columns for row in rows for pair in known[column[row]])
        tags.append(shared.setdefault(pairs, pairs))
    return tags


def _type_tags(task: str, types: Labels) -> tuple[Tag, ...]:
    return ((task, ""),) if types is None else tuple((task, kind) for kind in types)


def _deal(
    members: list[list[int]], tags: list[tuple[Tag, ...]], fractions: tuple[float, float, float], rng: random.Random
) -> list[int]:
    holders: dict[Tag, list[int]] = defaultdict(list)
    totals: dict[Tag, int] = defaultdict(int)
    for group, pairs in enumerate(tags):
        for pair in pairs:
            totals[pair] += 1
        for pair in pairs if len(members[group]) == 1 else dict.fromkeys(pairs):
            holders[pair].append(group)
    lacking = {pair: [total * fraction for fraction in fractions] for pair, total in totals.items()}
    known = {pairs: [lacking[pair] for pair in pairs] for pairs in set(tags)}
    lacks = [known[pairs] for pairs in tags]
    room = [sum(map(len, members)) * fraction for fraction in fractions]
    open_sides = [side for side, fraction in enumerate(fractions) if fraction > 0]
    sides = [-1] * len(members)
    for pair in sorted(holders, key=lambda pair: (len(holders[pair]), pair)):
        undecided = [group for group in holders[pair] if sides[group] < 0]
        rng.shuffle(undecided)
        rare = bool(pair[1]) and len(holders[pair]) < len(open_sides)
        here = lacking[pair]
        for group in undecided:
            side = open_sides[0]  # training
            if not rare:
                for other in open_sides[1:]:
                    if here[other] > here[side] or (here[other] == here[side] and room[other] > room[side]):
                        side = other
            sides[group] = side
            room[side] -= len(members[group])
            for lack in lacks[group]:
                lack[side] -= 1
    _deal_plain(sides, members, room, open_sides, rng)
    return sides


def _deal_plain(
    sides: list[int], members: list[list[int]], room: list[float], open_sides: list[int], rng: random.Random
) -> None:
    """Deal out the groups that are left: annotated, and nothing in them that could be spread."""
    plain = [group for group, side in enumerate(sides) if side < 0]
    rng.shuffle(plain)
    for group in plain:
        side = max(open_sides, key=room.__getitem__)
        sides[group] = side
        room[side] -= len(members[group])


def count_leaks(groups: Sequence[int], split: Split) -> int:
    """Count the groups with rows on more than one side, by looking at the finished split."""
    sides: dict[Hashable, str] = {}
    leaking = set()
    for side in SIDES:
        for row in getattr(split, side):
            if sides.setdefault(groups[row], side) != side:
                leaking.add(groups[row])
    return len(leaking)


def split_counts(
    cells: Mapping[str, Sequence[str]], split: Split, entity_types: Mapping[str, Sequence[Labels]] | None = None
) -> list[dict[str, Any]]:
    """Count the rows of each side, for people: one entry per task and class or entity type, the most frequent first."""
    entries: list[dict[str, Any]] = []
    labels: dict[str, list[tuple[str, ...]]] = {
        task: [() if is_missing(cell) else (cell,) for cell in column] for task, column in cells.items()
    }
    labels |= {task: [types or () for types in rows] for task, rows in (entity_types or {}).items()}
    for task, rows in labels.items():
        sides = {side: Counter(label for row in getattr(split, side) for label in rows[row]) for side in SIDES}
        totals: Counter[str] = sum(sides.values(), Counter())
        entries += [
            {"task": task, "label": label} | {side: counts[label] for side, counts in sides.items()}
            for label, _ in totals.most_common()
        ]
    return entries


def take_splits(
    texts: Sequence[str], cells: Mapping[str, Sequence[str]], split: Split, weights: Sequence[float] = ()
) -> Splits:
    """Cut the three sides out of the table's columns."""
    columns = {task: tuple(column) for task, column in cells.items()}
    everything = Examples(tuple(texts), columns, tuple(range(len(texts))), tuple(weights))
    return Splits(*(everything.take(getattr(split, side)) for side in SIDES))
