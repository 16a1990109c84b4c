"""Rows that nearly repeat each other: the cosine of their embeddings is at least a threshold.

Every two rows are compared, exactly, block by block, so memory stays linear in the number of rows. The pairs are never
listed: 50,000 equal rows would have 1.25 billion. A block only says which groups it joins and who is whose closest.

N rows, D embedding size; a block compares R rows with C columns, which are rows further down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from mtl.data.reading import is_missing
from mtl.data.sameness import Groups

ROWS, COLUMNS = 1024, 8192  # 32 MB of cosines at a time; larger blocks are no faster
ROUNDING = 1e-6  # the float32 product of two equal rows may end a little under 1


@dataclass(frozen=True)
class Neighbours:
    """Who nearly repeats whom.

    Attributes:
        groups: The rows of each group of two or more, ascending; the groups are ordered by their first row. A group is
            what chains of near pairs connect, so two of its rows may be further apart than the threshold.
        partner: For each row its most similar other row, the first of several; -1 if none reaches the threshold.
            Shape: (N,)
        cosine: The similarity to the partner; 0 where there is none. Shape: (N,)
    """

    groups: tuple[tuple[int, ...], ...]
    partner: np.ndarray
    cosine: np.ndarray


@dataclass(frozen=True)
class Clash:
    """Two rows that nearly repeat each other and carry different labels.

    Attributes:
        rows: Their indices, the smaller first.
        cosine: How similar they are.
    """

    rows: tuple[int, int]
    cosine: float


def near_groups(embeddings: np.ndarray, threshold: float) -> Generator[tuple[int, int], None, Neighbours]:
    """Find the groups of rows whose embeddings nearly coincide.

    Args:
        embeddings: Of any length; a row of zeros has no neighbours. Shape: (N, D)
        threshold: Smallest cosine of a near pair, above 0.

    Yields:
        After each block, the comparisons done and all there are.

    Raises:
        ValueError: The threshold is not above 0 and at most 1, or an embedding is not finite.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a cosine threshold is above 0 and at most 1, not {threshold}")
    vectors = _unit(embeddings)
    count, found = len(vectors), _Found(len(vectors), threshold - ROUNDING)
    total = sum(min(ROWS, count - top) * (count - top) for top in range(0, count, ROWS))
    done = 0
    for top in range(0, count, ROWS):
        rows = vectors[top : top + ROWS]
        for left in range(top, count, COLUMNS):
            cosines = rows @ vectors[left : left + COLUMNS].T
            if left == top:
                cosines[np.tril_indices(len(rows), m=cosines.shape[1])] = -2.0  # each pair once, no row with itself
            found.add(cosines, top, left)
            done += cosines.size
            yield done, total
    return found.result()


def clashes(
    embeddings: np.ndarray, labels: Sequence[str], keys: Sequence[str], group: Sequence[int], threshold: float
) -> list[Clash]:
    """Find the near pairs of one group that carry different labels, each row with the closest it contradicts.

    Args:
        embeddings: Of length 1 each, of all rows. Shape: (N, D)
        labels: One per row; an empty one contradicts nothing.
        keys: Rows with the same key count as the same text, whose contradictions are known without embeddings.
        group: Row indices.
        threshold: Smallest cosine of a near pair.
    """
    rows = np.array([row for row in group if not is_missing(labels[row])], dtype=int)
    names, texts = _numbered([labels[row] for row in rows]), _numbered([keys[row] for row in rows])
    if not names.any():  # one label, or none
        return []
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(rows), ROWS):
        part = slice(start, start + ROWS)
        cosines = embeddings[rows[part]] @ embeddings[rows].T
        cosines[(names[part, None] == names) | (texts[part, None] == texts)] = -2.0
        for row, other, cosine in zip(rows[part], cosines.argmax(axis=1), cosines.max(axis=1), strict=True):
            if cosine >= threshold - ROUNDING:
                first, second = sorted((int(row), int(rows[other])))
                found[first, second] = min(float(cosine), 1.0)
    return [Clash(pair, cosine) for pair, cosine in sorted(found.items())]


def _numbered(values: Sequence[str]) -> np.ndarray:
    """Number the different values from 0 in order of their first appearance."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], dtype=int)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """Scale each row to length 1, in float32; a row of zeros stays zero."""
    vectors = np.asarray(embeddings, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("an embedding is not finite")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


class _Found:
    """What the blocks so far have shown."""

    def __init__(self, count: int, threshold: float) -> None:
        self.threshold = threshold
        self.groups = Groups(count)
        self.partner = np.full(count, -1)
        self.cosine = np.zeros(count, dtype=np.float32)

    def add(self, cosines: np.ndarray, top: int, left: int) -> None:
        """Take in a block. `cosines` has the shape (R, C) and begins at this row and this column."""
        high = np.flatnonzero(cosines.max(axis=1) >= self.threshold)
        if not len(high):  # nearly always: this one pass is all that a block costs beside the product
            return
        near = cosines[high]
        wide = np.flatnonzero(near.max(axis=0) >= self.threshold)
        near = near[:, wide]
        rows, columns = top + high, left + wide
        self._prefer(columns, rows[near.argmax(axis=0)], near.max(axis=0))
        self._prefer(rows, columns[near.argmax(axis=1)], near.max(axis=1))
        self._connect(near >= self.threshold, rows, columns)

    def _prefer(self, rows: np.ndarray, partners: np.ndarray, cosines: np.ndarray) -> None:
        better = cosines > self.cosine[rows]
        self.partner[rows[better]] = partners[better]
        self.cosine[rows[better]] = cosines[better]

    def _connect(self, linked: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Join the groups that a block links.

        In each pass every row and every column follows one link that leads out of its group, so a pass at least
        halves the groups that can still grow (Borůvka 1926), and a block of millions of links takes a few passes.

        Args:
            linked: Which of these rows is near which of these columns. Shape: (R, C)
            rows: Shape: (R,)
            columns: Shape: (C,)
        """
        while True:
            outward = linked & (self._roots(rows)[:, None] != self._roots(columns))
            down, across = np.flatnonzero(outward.any(axis=1)), np.flatnonzero(outward.any(axis=0))
            if not len(down):
                return
            self._join(rows[down], columns[outward[down].argmax(axis=1)])
            self._join(rows[outward[:, across].argmax(axis=0)], columns[across])

    def _roots(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self.groups.find(row) for row in rows.tolist()])

    def _join(self, left: np.ndarray, right: np.ndarray) -> None:
        for pair in zip(left.tolist(), right.tolist(), strict=True):
            self.groups.join(pair)

    def result(self) -> Neighbours:
        """Collect the groups."""
        groups: dict[int, list[int]] = defaultdict(list)
        for row in np.flatnonzero(self.partner >= 0).tolist():
            groups[self.groups.find(row)].append(row)
        members = tuple(tuple(rows) for _, rows in sorted(groups.items()))
        return Neighbours(members, self.partner, np.minimum(self.cosine, 1.0))
