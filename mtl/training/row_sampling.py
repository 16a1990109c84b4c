"""How often each row comes: evenly, so that classes come equally often, or by a column of numbers.

N training rows, K tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtl.choices import RowSampling
from mtl.data.batching import BUCKET_BATCHES, shuffled_buckets


@dataclass(frozen=True)
class Rows:
    """The training rows as a sampler sees them.

    Attributes:
        labelled: Task key -> which rows have a label of it. Shape: (N,)
        classes: Task key -> the class of each row as a number, -1 where there is none. Shape: (N,)
        lengths: Tokens of each row.
        first_epochs: The epoch from which on each row takes part. Shape: (N,)
        numbers: The weight column; 1 everywhere without one. Shape: (N,)
        balance: Key of the task whose classes `class_balance` evens out; None: each task's own.
    """

    labelled: Mapping[str, np.ndarray]
    classes: Mapping[str, np.ndarray]
    lengths: Sequence[int]
    first_epochs: np.ndarray
    numbers: np.ndarray
    balance: str | None

    @property
    def tasks(self) -> list[str]:
        """The tasks that have a row to learn from."""
        return [key for key, known in self.labelled.items() if (known & (self.numbers > 0)).any()]

    def of(self, epoch: int, task: str | None) -> np.ndarray:
        """Return the rows that take part in an epoch: those labelled for a task; None: all."""
        taking_part = self.first_epochs <= epoch
        return np.flatnonzero(taking_part if task is None else taking_part & self.labelled[task])


# rows, those that may be drawn (n of them), the task of the batch or None for all -> their weights; shape: (n,)
RowWeights = Callable[[Rows, np.ndarray, str | None], np.ndarray]


def uniform(rows: Rows, chosen: np.ndarray, task: str | None) -> np.ndarray:
    """Weigh all rows the same."""
    return np.ones(len(chosen))


def class_balance(rows: Rows, chosen: np.ndarray, task: str | None) -> np.ndarray:
    """Weigh each row inversely to the frequency of its class among the chosen rows; the mean is 1.

    In a batch of one task its own classes count. In a batch of all tasks a row's weight is the mean over the tasks it
    has a class of. With `balance` the classes of that task count in every batch. A row without a class weighs 1.
    """
    keys = [rows.balance] if rows.balance else list(rows.classes) if task is None else [task]
    total, known = np.zeros(len(chosen)), np.zeros(len(chosen))
    for key in keys:
        numbers = rows.classes[key][chosen]
        has = numbers >= 0
        if has.any():
            counts = np.bincount(numbers[has])
            total[has] += has.sum() / (np.count_nonzero(counts) * counts[numbers[has]])
            known += has
    return np.divide(total, known, out=np.ones(len(chosen)), where=known > 0)


def weight_column(rows: Rows, chosen: np.ndarray, task: str | None) -> np.ndarray:
    """Weigh each row by its number in the file; a row of 0 never comes."""
    return rows.numbers[chosen]


ROW_SAMPLINGS: dict[RowSampling, RowWeights] = {
    "uniform": uniform,
    "class_balance": class_balance,
    "weight_column": weight_column,
}


def draw_batches(
    rows: np.ndarray,
    count: int,
    *,
    weights: np.ndarray,
    lengths: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """Draw rows and cut them into shuffled batches of similar length; only one batch may be smaller than the others.

    Args:
        rows: Those that may be drawn. Shape: (n,)
        count: How many to draw. With equal weights at most n, and no row comes twice.
        weights: How often each is to come, in proportion; at least one is above 0. Shape: (n,)
        lengths: Tokens of each row of the table.
        batch_size: Rows of one batch.
        generator: Source of the draws and of the order.
    """
    if not len(rows):
        return []
    if np.ptp(weights) == 0:
        if count < len(rows):
            rows = rows[torch.randperm(len(rows), generator=generator).numpy()[:count]]
        drawn = rows.tolist()
        batches = shuffled_buckets([lengths[row] for row in drawn], batch_size, generator)
        return [[drawn[place] for place in batch] for batch in batches]
    return _spread_buckets(rows, draw_copies(weights, count, generator), lengths, batch_size, generator)


def draw_copies(weights: np.ndarray, count: int, generator: torch.Generator) -> np.ndarray:
    """Say how often each row comes: `count` times its share of the weights, rounded down or up at random.

    Systematic sampling (Madow 1949, "On the theory of systematic sampling, II"): one random start and equal steps along
    the summed weights of the shuffled rows. On average each row comes exactly as often as its weight says, as with
    independent draws; but those would leave out a third of all rows by chance.

    Args:
        weights: At least one is above 0. Shape: (n,)
        count: The sum of the result.
        generator: Source of the shuffle and the start.

    Returns:
        Shape: (n,)
    """
    order = torch.randperm(len(weights), generator=generator).numpy()
    edges = np.cumsum(weights[order] / weights.max())  # divided first, as the sum might overflow
    start = torch.rand((), generator=generator, dtype=torch.float64).item()
    points = (np.arange(count) + start) * (edges[-1] / count)
    found = np.searchsorted(edges, points, side="right")  # right: a row of weight 0 has no room and is passed over
    last = np.flatnonzero(weights[order])[-1]  # rounding may put the last point on the end
    copies = np.zeros(len(weights), dtype=int)
    copies[order] = np.bincount(np.minimum(found, last), minlength=len(weights))
    return copies


def _spread_buckets(
    rows: np.ndarray, copies: np.ndarray, lengths: Sequence[int], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """Do as `shuffled_buckets`, for rows that come several times.

    Copies of a row are of one length, so sorting would put them all into one batch. They are laid evenly over the
    epoch instead, and the groups that are sorted by length are so much smaller as there are copies.
    """
    start = np.repeat(torch.rand(len(rows), generator=generator, dtype=torch.float64).numpy(), copies)
    number = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)  # of the copy: 0, 1, 2 …
    place = (number + start) / np.repeat(copies, copies)
    order = np.repeat(rows, copies)[np.argsort(place, kind="stable")].tolist()
    typical_copies = float((copies**2).sum() / copies.sum())
    all_batches = -(-len(order) // batch_size)
    step = batch_size * min(max(int(all_batches / typical_copies), 1), BUCKET_BATCHES)
    batches: list[list[int]] = []
    for begin in range(0, len(order), step):
        group = sorted(order[begin : begin + step], key=lengths.__getitem__)
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
