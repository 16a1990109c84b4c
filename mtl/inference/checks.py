"""The second stage of a look at the data, which needs embeddings: near duplicates, and labels that are likely wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mtl.data.neighbours import Clash, clashes, near_groups
from mtl.data.reading import is_missing
from mtl.data.sameness import Groups, normalised
from mtl.data.suspects import SuspectLabels, suspect_labels
from mtl.inference.frozen import frozen_embeddings

# Nearly all real pairs above it (some dozens were read) are one text in two wordings; between 0.90 and 0.95 many are
# two texts about one thing. Copies with one word changed stay above it in 19 cases of 20 where texts have 40 words, in
# 4 of 5 at 20 words, in half at 10 (benchmarks/data_checks.py).
NEAR_DUPLICATE = 0.95

# Seconds on two cores, roughly; they only place the progress bar.
PER_TEXT, PER_PAIR, PER_LABEL = 2.5e-3, 5e-9, 6e-4

Progress = tuple[float, str]
Result = TypeVar("Result")


@dataclass(frozen=True)
class NearDuplicates:
    """Rows whose texts nearly repeat each other.

    Attributes:
        groups: Groups of two or more texts that are not equal after normalising; each has all rows of its texts,
            ascending, and all rows of the texts that count as equal to them.
        partners: Row -> (first row of the most similar other text, its cosine), for the rows in groups.
    """

    groups: tuple[tuple[int, ...], ...]
    partners: Mapping[int, tuple[int, float]]


@dataclass(frozen=True)
class Checks:
    """What was found.

    Attributes:
        near: Near duplicates.
        clashes: Task name -> pairs of near duplicates that carry different labels.
        suspects: Task name -> labels that are likely wrong.
    """

    near: NearDuplicates
    clashes: Mapping[str, tuple[Clash, ...]]
    suspects: Mapping[str, SuspectLabels]


def near_duplicates(
    texts: Sequence[str], encoder_name: str, cache_dir: Path, *, threshold: float = NEAR_DUPLICATE
) -> Generator[Progress, None, NearDuplicates]:
    """Look for near duplicates only, for a split that keeps them together.

    Args:
        texts: One per row; an empty one repeats nothing.
        encoder_name: Whose embeddings are compared, before any training.
        cache_dir: Where embeddings are kept.
        threshold: Smallest cosine of a near pair.

    Yields:
        The share of the work done so far, and what is being done.

    Raises:
        CheckpointError: The encoder cannot be loaded.
    """
    filled = _Filled(texts)
    _, found = yield from _compare(filled, encoder_name, cache_dir, threshold, 1.0)
    return filled.in_rows(found)


def check(
    texts: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    encoder_name: str,
    cache_dir: Path,
    *,
    threshold: float = NEAR_DUPLICATE,
    seed: int = 0,
) -> Generator[Progress, None, Checks]:
    """Look for near duplicates, for those whose labels differ, and for labels that are likely wrong.

    Args:
        texts: One per row; rows with an empty one are passed over.
        labels: Classification task -> one label per row; an empty one is missing.
        encoder_name: Whose embeddings are used, before any training.
        cache_dir: Where embeddings are kept.
        threshold: Smallest cosine of a near pair.
        seed: Same seed, same suspects.

    Yields:
        The share of the work done so far, and what is being done.

    Raises:
        CheckpointError: The encoder cannot be loaded.
    """
    filled = _Filled(texts)
    cost = len(filled.rows) * PER_LABEL * len(labels)
    share = filled.cost / (filled.cost + cost) if cost else 1.0
    vectors, near = yield from _compare(filled, encoder_name, cache_dir, threshold, share)
    together = filled.together(near.groups)
    clashing: dict[str, tuple[Clash, ...]] = {}
    suspects: dict[str, SuspectLabels] = {}
    for number, (task, column) in enumerate(labels.items()):
        cells = [column[row] for row in filled.rows]
        found = [clash for group in near.groups for clash in clashes(vectors, cells, filled.keys, group, threshold)]
        clashing[task] = tuple(replace(c, rows=(filled.rows[c.rows[0]], filled.rows[c.rows[1]])) for c in found)
        start, end = (share + (1 - share) * part / len(labels) for part in (number, number + 1))
        steps = suspect_labels(vectors, cells, together, seed=seed)
        result = yield from _stage(steps, f'Checking the labels of "{task}"', start, end)
        moved = tuple(replace(suspect, row=filled.rows[suspect.row]) for suspect in result.suspects)
        suspects[task] = replace(result, suspects=moved)
    return Checks(filled.in_rows(near), clashing, suspects)


class _Filled:
    """The rows with a text. What is found is counted in places among them, and put back into rows at the end.

    Attributes:
        rows: Their indices.
        keys: Their normalised texts.
        members: Normalised text -> its places; the first stands for all when texts are compared.
        cost: Seconds that embedding and comparing may take.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.rows = [row for row, text in enumerate(texts) if not is_missing(text)]
        self.texts = [texts[row] for row in self.rows]
        self.keys = [normalised(text) for text in self.texts]
        self.members: dict[str, list[int]] = defaultdict(list)
        for place, key in enumerate(self.keys):
            self.members[key].append(place)
        self.different = len(set(self.texts))
        self.cost = self.different * PER_TEXT + len(self.members) ** 2 * PER_PAIR

    def together(self, groups: Sequence[Sequence[int]]) -> list[int]:
        """Number the texts so that equal and nearly equal ones have the same number."""
        found = Groups(len(self.rows))
        found.join_equal(self.keys)
        for places in groups:
            found.join(places)
        return [found.find(place) for place in range(len(self.rows))]

    def in_rows(self, near: NearDuplicates) -> NearDuplicates:
        """Put places back into rows."""
        groups = tuple(tuple(self.rows[place] for place in group) for group in near.groups)
        partners = {self.rows[one]: (self.rows[other], cosine) for one, (other, cosine) in near.partners.items()}
        return NearDuplicates(groups, partners)


def _compare(
    filled: _Filled, encoder_name: str, cache_dir: Path, threshold: float, share: float
) -> Generator[Progress, None, tuple[np.ndarray, NearDuplicates]]:
    """Embed every text and compare those that are not equal anyway, in this share of the whole work."""
    cut = share * filled.different * PER_TEXT / filled.cost if filled.rows else 0.0
    steps = frozen_embeddings(filled.texts, encoder_name, cache_dir)
    vectors = yield from _stage(steps, f"Embedding {filled.different:,} different texts", 0.0, cut)
    members = list(filled.members.values())
    comparing = near_groups(vectors[[places[0] for places in members]], threshold)
    found = yield from _stage(comparing, "Comparing every two texts", cut, share)
    groups = [sorted(place for one in group for place in members[one]) for group in found.groups]
    partners = {
        place: (members[found.partner[one]][0], float(found.cosine[one]))
        for group in found.groups
        for one in group
        for place in members[one]
    }
    return vectors, NearDuplicates(tuple(map(tuple, groups)), partners)


def _stage(
    steps: Generator[tuple[int, int], None, Result], sentence: str, start: float, end: float
) -> Generator[Progress, None, Result]:
    """Run one piece of the work between two points of the progress bar."""
    while True:
        try:
            done, total = next(steps)
        except StopIteration as stop:
            return stop.value
        yield start + (end - start) * done / total, sentence
