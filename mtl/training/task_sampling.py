"""How often each task comes, where a batch is of one task: shares p_k of the batches, rounded to whole ones.

K tasks; n_k labelled rows of a task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtl.choices import Sampling

FLOOR = 0.05  # the weakness of a task that is solved, so that it is not forgotten


@dataclass(frozen=True)
class Moment:
    """What the tasks' shares may depend on.

    Attributes:
        epoch: 1 for the first.
        epochs: Of the run.
        rows: Labelled rows of each task that take part. Shape: (K,)
        passes: How many batches each task's rows make. Shape: (K,)
        scores: Main score of each task after the epoch before, from 0 to 1; not a number where unknown. Shape: (K,)
        temperature: For the sampling of that name.
        final_exponent: For the annealed one.
    """

    epoch: int
    epochs: int
    rows: np.ndarray
    passes: np.ndarray
    scores: np.ndarray
    temperature: float
    final_exponent: float


Shares = Callable[[Moment], np.ndarray]


def proportional(moment: Moment) -> np.ndarray:
    """Give each task one pass over its rows. Shape: (K,)."""
    return moment.passes.astype(float)


def uniform(moment: Moment) -> np.ndarray:
    """Give all tasks the same. Shape: (K,)."""
    return np.ones(len(moment.rows))


def temperature(moment: Moment) -> np.ndarray:
    """p_k ~ n_k^(1 / T) (Arivazhagan 2019, arXiv:1907.05019). Shape: (K,)."""
    return _power(moment, 1 / moment.temperature)


def annealed(moment: Moment) -> np.ndarray:
    """p_k ~ n_k^a, a falling from 1 (Stickland & Murray 2019, arXiv:1902.02671; there to 0.2). Shape: (K,)."""
    return _power(moment, annealed_exponent(moment.epoch, moment.epochs, moment.final_exponent))


def difficulty(moment: Moment) -> np.ndarray:
    """p_k ~ 1 - score, 0.05 at least; before the first score in proportion. Shape: (K,).

    A task without a score counts as the mean of the others.
    """
    known = np.isfinite(moment.scores)
    if not known.any():
        return proportional(moment)
    weakness = np.clip(1 - moment.scores, FLOOR, 1)
    weakness[~known] = weakness[known].mean()
    return weakness


def annealed_exponent(epoch: int, epochs: int, final: float) -> float:
    """Return 1 in the first epoch, `final` in the last, and between them along a straight line."""
    if epochs == 1:
        return 1.0
    return 1 - (1 - final) * (min(epoch, epochs) - 1) / (epochs - 1)


def _power(moment: Moment, exponent: float) -> np.ndarray:
    return proportional(moment) if exponent == 1 else moment.rows**exponent


SAMPLINGS: dict[Sampling, Shares | None] = {  # None: one batch for all tasks
    "joint": None,
    "proportional": proportional,
    "uniform": uniform,
    "temperature": temperature,
    "annealed": annealed,
    "difficulty": difficulty,
}


def apportion(shares: np.ndarray, total: int) -> list[int]:
    """Deal out whole batches in proportion, by the largest remainder, and one at least to each.

    A task whose share is less than one batch gets one, and the others divide what is left.

    Args:
        shares: Above 0. Shape: (K,)
        total: At least K.
    """
    small = np.zeros(len(shares), dtype=bool)
    while True:
        exact = np.where(small, 1.0, shares / shares[~small].sum() * (total - small.sum()))
        if not (exact < 1 - 1e-9).any():
            break
        small |= exact < 1 - 1e-9
    found = np.floor(exact + 1e-9).astype(int)
    first = np.argsort(-np.round(exact - found, 9), kind="stable")  # between equal remainders the earlier task
    found[first[: total - found.sum()]] += 1
    return found.tolist()
