"""How sure a score is: 95 % intervals by the percentile bootstrap over the test rows (Efron & Tibshirani 1993, ch. 13).

A score of a whole file depends on a few counts of its rows only, so rows that are alike form a cell, and drawing N rows
with replacement is drawing the cells' counts from a multinomial distribution. That takes time by the number of cells,
whatever the number of rows. N rows, K cells, C classes, S draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

DRAWS = 1_000
TAILS = (0.025, 0.975)
MOST_NUMBERS = 4_000_000  # in memory at once

Scores = dict[str, np.ndarray]
Intervals = dict[str, list[float]]


def class_intervals(truth: np.ndarray, guess: np.ndarray, *, classes: int, seed: int, draws: int = DRAWS) -> Intervals:
    """Give each score of `mtl.training.metrics.class_scores` its interval.

    Args:
        truth: Class indices of the labelled rows. Shape: (N,).
        guess: Likewise, predicted. Shape: (N,).
        classes: C.
        seed: Equal seeds give equal intervals.
        draws: S.

    Returns:
        Score -> [low, high].
    """
    cells, counts = np.unique(truth * classes + guess, return_counts=True)
    of_truth, of_guess = _Sum(cells // classes, classes), _Sum(cells % classes, classes)
    right = _Sum(np.where(cells // classes == cells % classes, cells % classes, classes), classes + 1)

    def score(drawn: np.ndarray) -> Scores:
        return _class_scores(right(drawn)[:, :classes], of_truth(drawn), of_guess(drawn))

    return _intervals(counts, score, seed, draws)


def entity_intervals(counts: np.ndarray, *, seed: int, draws: int = DRAWS) -> Intervals:
    """Give each score of `mtl.training.entity_scores` its interval.

    Args:
        counts: Right, predicted and true entities of each annotated row. Shape: (N, 3).
        seed: Equal seeds give equal intervals.
        draws: S.

    Returns:
        Score -> [low, high].
    """
    kinds, rows = np.unique(counts, axis=0, return_counts=True)

    def score(drawn: np.ndarray) -> Scores:
        right, guessed, true = (drawn @ kinds).T
        return {
            "entity_f1": _ratio(2 * right, guessed + true),
            "entity_precision": _ratio(right, guessed),
            "entity_recall": _ratio(right, true),
        }

    return _intervals(rows, score, seed, draws)


def _class_scores(right: np.ndarray, true: np.ndarray, guessed: np.ndarray) -> Scores:
    """Compute the scores of each draw as scikit-learn has them; a class that a draw has not got does not count in it.

    Args:
        right: Rows of each class that are predicted right. Shape: (S, C), as of the others.
        true: Rows of each class.
        guessed: Rows predicted as each class.
    """
    f1, recall = _ratio(2 * right, true + guessed), _ratio(right, true)
    rows = true.sum(axis=1)
    return {
        "accuracy": right.sum(axis=1) / rows,
        "macro_f1": f1.sum(axis=1) / (true + guessed > 0).sum(axis=1),
        "weighted_f1": (true * f1).sum(axis=1) / rows,
        "macro_recall": recall.sum(axis=1) / (true > 0).sum(axis=1),
    }


def _intervals(counts: np.ndarray, score: Callable[[np.ndarray], Scores], seed: int, draws: int) -> Intervals:
    parts = [score(drawn) for drawn in _draws(counts, np.random.default_rng(seed), draws)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: [float(end) for end in np.quantile(values, TAILS)] for name, values in joined.items()}


def _draws(counts: np.ndarray, generator: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    """Yield samples with replacement, some at a time: how many rows each cell has. Shape of each: (S', K)."""
    rows = int(counts.sum())
    step = max(1, MOST_NUMBERS // len(counts))
    for start in range(0, draws, step):
        yield generator.multinomial(rows, counts / rows, size=min(step, draws - start))


class _Sum:
    """Sums cells that belong to one class: (S, K) -> (S, C).

    Args:
        group: The class of each cell. Shape: (K,).
        groups: C.
    """

    def __init__(self, group: np.ndarray, groups: int) -> None:
        self._order = np.argsort(group, kind="stable")
        self._found, self._starts = np.unique(group[self._order], return_index=True)
        self._groups = groups

    def __call__(self, drawn: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(drawn), self._groups), dtype=drawn.dtype)
        sums[:, self._found] = np.add.reduceat(drawn[:, self._order], self._starts, axis=1)
        return sums


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
