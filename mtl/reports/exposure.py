"""What a sampling would show the model: how often each task and each row comes, before anything is trained.

The sampler itself is run, so the table cannot differ from what training does. N training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np

from mtl.config import RunConfig, task_specs
from mtl.data.entities import spans_or_none
from mtl.data.reading import is_missing
from mtl.data.splitting import Examples
from mtl.training.sampling import Sampler, build_sampler

MAX_ROWS = 200_000  # rows times epochs; more take seconds


@dataclass(frozen=True)
class Frequency:
    """How often a row comes in an epoch, averaged over the epochs: the mean, the rarest and the most frequent row."""

    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class TaskExposure:
    """What a task gets.

    Attributes:
        labelled: Training rows with a label of it.
        batches: For each epoch looked at, the batches that teach it.
        rows: For each epoch looked at, how many rows with a label of it they hold; a row counts as often as it comes.
        per_row: How often its labelled rows come in such batches; None if it has none.
    """

    labelled: int
    batches: tuple[int, ...]
    rows: tuple[int, ...]
    per_row: Frequency | None


@dataclass(frozen=True)
class Exposure:
    """What a run would see.

    Attributes:
        epochs: The epochs that were looked at, 1 for the first.
        steps: For each of them, its batches.
        tasks: Task key -> what it gets.
        per_row: How often the training rows come, in whatever batch; None if there are none.
        sentences: What a reader should know about the numbers.
    """

    epochs: tuple[int, ...]
    steps: tuple[int, ...]
    tasks: dict[str, TaskExposure]
    per_row: Frequency | None
    sentences: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)


def exposure(
    sampler: Sampler,
    labelled: Mapping[str, Sequence[bool]],
    epochs: int,
    scores: Mapping[str, float] | None = None,
) -> Exposure:
    """Run a sampler and count.

    Args:
        sampler: Of the training rows.
        labelled: Task key -> which of them have a label of it.
        epochs: Of the run.
        scores: Task key -> a validation score to assume from the second epoch on; None: none is known.
    """
    known = {key: np.asarray(column, dtype=bool) for key, column in labelled.items()}
    size = len(next(iter(known.values()), ()))
    chosen, sentences = _epochs(epochs, size)
    seen = np.zeros(size, dtype=int)
    taught = {key: np.zeros(size, dtype=int) for key in known}
    batches: dict[str, list[int]] = {key: [] for key in known}
    rows: dict[str, list[int]] = {key: [] for key in known}
    steps = []
    for epoch in chosen:
        draws = sampler.epoch(epoch, scores or {} if epoch > 1 else {})
        steps.append(len(draws))
        for key, column in known.items():
            found, visits = _count([draw.rows for draw in draws if draw.task in (None, key)], column)
            batches[key].append(int(np.count_nonzero(found)))
            rows[key].append(int(found.sum()))
            taught[key] += visits
        seen += _count([draw.rows for draw in draws], np.ones(size, dtype=bool))[1]
    tasks = {
        key: TaskExposure(
            labelled=int(column.sum()),
            batches=tuple(batches[key]),
            rows=tuple(rows[key]),
            per_row=_frequency(taught[key][column], len(chosen)),
        )
        for key, column in known.items()
    }
    return Exposure(chosen, tuple(steps), tasks, _frequency(seen, len(chosen)), sentences)


def what_if(examples: Examples, config: RunConfig, scores: Mapping[str, float] | None = None) -> Exposure:
    """Say what a configuration would show of these rows, without a model or tokens.

    Args:
        examples: The training rows.
        config: Resolved.
        scores: As for `exposure`.

    Raises:
        ConfigError: The task whose classes are to come equally often does not exist.
        DataError: No training row may ever be drawn.
    """
    labelled: dict[str, list[bool]] = {}
    classes: dict[str, list[str | None]] = {}
    for task in task_specs(config):
        cells = examples.cells[task.name]
        if task.kind == "token_classification":
            spans = spans_or_none(examples.texts, cells)
            classes[task.key] = [None if found is None else str(bool(found)) for found in spans]
        else:
            classes[task.key] = [None if is_missing(cell) else cell for cell in cells]
        labelled[task.key] = [name is not None for name in classes[task.key]]
    sampler = build_sampler(labelled, classes, [1] * len(examples), config, weights=examples.weights or None)
    epochs = config.training.epochs
    assert isinstance(epochs, int)  # build_sampler refuses anything else
    return exposure(sampler, labelled, epochs, scores)


def _epochs(epochs: int, rows: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Choose the epochs to look at: all, or of a large run the first, the middle one and the last."""
    if epochs <= 3 or rows * epochs <= MAX_ROWS:
        return tuple(range(1, epochs + 1)), ()
    chosen = (1, (epochs + 1) // 2, epochs)
    sentence = f"There are many rows, so only the epochs {chosen[0]}, {chosen[1]} and {chosen[2]} were counted."
    return chosen, (sentence,)


def _count(batches: list[list[int]], labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the labelled rows of each batch, and how often each row of the table is in the batches. Shape: (N,)."""
    rows = np.array(list(chain.from_iterable(batches)), dtype=int)
    batch = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
    found = np.bincount(batch, weights=labelled[rows], minlength=len(batches)).astype(int)
    return found, np.bincount(rows, minlength=len(labelled))


def _frequency(visits: np.ndarray, epochs: int) -> Frequency | None:
    if not len(visits):
        return None
    return Frequency(*(round(float(value) / epochs, 4) for value in (visits.mean(), visits.min(), visits.max())))
