"""Easiest rows first (Bengio et al. 2009, "Curriculum learning", doi:10.1145/1553374.1553380).

How difficult a row is, is the loss of a simple model on the frozen encoder ("transfer teacher", Hacohen & Weinshall
2019, arXiv:1904.03626). The share of the rows that take part grows in a straight line (Platanios et al. 2019,
arXiv:1903.09848).

N rows, D embedding size, C classes, K tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mtl.data.suspects import INVERSE_PENALTY, MAX_TRAINING_ROWS, ROUNDS

FOLDS = 5
GUESS = 1.0  # what a guess among C classes loses, ln(C), as a share of ln(C)


def share(epoch: int, *, start: float, epochs: int) -> float:
    """Return the share of the rows that take part: start + (1 - start) * (epoch - 1) / epochs, and at most 1.

    So all rows take part from epoch `epochs` + 1 on.

    Args:
        epoch: 1 for the first.
        start: Share in the first epoch, above 0.
        epochs: How many epochs do without some rows, if `start` is below 1.
    """
    return 1.0 if epoch > epochs else start + (1 - start) * (epoch - 1) / epochs


def first_epochs(groups: np.ndarray, difficulty: np.ndarray, *, start: float, epochs: int, seed: int) -> np.ndarray:
    """Say from which epoch on each row takes part.

    Rows that are labelled for the same tasks form a group. Of each group the easiest `share` takes part, rounded up,
    so no task is without rows in any epoch, and how many rows take part does not depend on which are easy.

    Args:
        groups: Rows of equal entries are in one group. Shape: (N, anything)
        difficulty: Lower is easier; between equals the order is random. Shape: (N,)
        start: Share in the first epoch, above 0.
        epochs: All rows take part from the epoch after so many.
        seed: Of that random order.

    Returns:
        Epochs, 1 for the first. Shape: (N,)
    """
    if not len(groups):
        return np.zeros(0, dtype=int)
    _, group, sizes = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    ties = np.random.default_rng(seed).permutation(len(group))
    order = np.lexsort((ties, difficulty, group))
    rank = np.empty(len(group), dtype=int)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = np.full(len(group), epochs + 1)
    for epoch in range(epochs, 0, -1):
        # 1e-9: 0.07 * 100 is a little more than 7
        found[rank < np.ceil(share(epoch, start=start, epochs=epochs) * sizes - 1e-9)[group]] = epoch
    return found


def row_difficulty(
    embeddings: np.ndarray, classes: Mapping[str, Sequence[str | None]], *, seed: int, folds: int = FOLDS
) -> np.ndarray:
    """Estimate how hard each row is: what a model loses on it that has not seen it.

    The model is a logistic regression on the embeddings, cross-validated, one for each task. Its loss is divided by
    ln(C), so 1 is what a guess loses in every task, and a row of several tasks gets the mean.

    Args:
        embeddings: Of the encoder before it learns; scaled to length 1 here. Shape: (N, D)
        classes: Task key -> the class of each row, None where it is not labelled. Only classification tasks.
        seed: Of the folds.
        folds: Each is held out once. Rows of a class with fewer rows count as a guess.

    Returns:
        Lower is easier. A row with no class of any task gets the median. Shape: (N,)
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(norms > 0, norms, 1)
    total, known = np.zeros(len(unit)), np.zeros(len(unit))
    for column in classes.values():
        rows = np.array([row for row, name in enumerate(column) if name is not None], dtype=int)
        names, targets = np.unique(np.array([column[row] for row in rows], dtype=str), return_inverse=True)
        if len(names) >= 2:
            total[rows] += _held_out_losses(unit[rows], targets, folds, seed)
            known[rows] += 1
    has = known > 0
    found = np.full(len(unit), float(np.median(total[has] / known[has])) if has.any() else GUESS)
    found[has] = total[has] / known[has]
    return found


def _held_out_losses(embeddings: np.ndarray, targets: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the negative log-likelihood of each row's class over ln(C); a class too rare to be told is guessed.

    C counts the classes that are frequent enough.

    Args:
        embeddings: Of length 1. Shape: (N, D)
        targets: Class of each row. Shape: (N,)
        folds: Each is held out once.
        seed: Of the folds.

    Returns:
        Shape: (N,)
    """
    from sklearn.linear_model import LogisticRegression  # a second to import
    from sklearn.model_selection import StratifiedKFold

    losses = np.full(len(targets), GUESS)
    kept = np.flatnonzero(np.bincount(targets)[targets] >= folds)
    classes = len(np.unique(targets[kept]))
    if classes < 2:
        return losses
    rng = np.random.default_rng(seed)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for learning, held_out in splitter.split(kept, targets[kept]):
        rows, tested = kept[rng.permutation(learning)[:MAX_TRAINING_ROWS]], kept[held_out]
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=ROUNDS).fit(embeddings[rows], targets[rows])
        place = np.searchsorted(model.classes_, targets[tested])
        seen = np.isin(targets[tested], model.classes_)  # among very many rows a rare class may not be drawn
        probabilities = model.predict_proba(embeddings[tested[seen]])[np.arange(seen.sum()), place[seen]]
        losses[tested[seen]] = -np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / math.log(classes)
    return losses
