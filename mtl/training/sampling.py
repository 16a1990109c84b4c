"""Which rows make a batch: all tasks together, or one task at a time and how often each comes.

An epoch of batches of one task is as long as one pass over every task's labelled rows. Its batches are dealt out to
the tasks by the shares that the sampling gives them (`mtl.training.task_sampling`), and within a batch a row comes as
often as the row sampling says (`mtl.training.row_sampling`). Every epoch draws its rows afresh, whatever the one before
drew, so of a task that gets few batches a row may come twice running while another waits.

N training rows, K tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch

from mtl.config import RunConfig, task_specs
from mtl.errors import ConfigError, DataError
from mtl.training.curriculum import first_epochs
from mtl.training.row_sampling import ROW_SAMPLINGS, Rows, RowWeights, draw_batches
from mtl.training.task_sampling import SAMPLINGS, Moment, Shares, apportion


@dataclass(frozen=True)
class Draw:
    """One batch: its rows, and the key of the task that it teaches; None: every task that a row is labelled for."""

    rows: list[int]
    task: str | None


class Sampler:
    """The batches of every epoch, a function of the seed, the epoch and the validation scores alone.

    Args:
        rows: What is known of the training rows.
        shares: How often each task comes; None: batches of all tasks.
        in_turn: Whether the tasks take turns; otherwise their batches are shuffled.
        row_weights: How often each row comes.
        batch_size: Rows of one batch; fewer at the end of a pass over a task's rows.
        seed: Of the run.
        epochs: Of the run.
        temperature: See `Moment`.
        final_exponent: See `Moment`.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        shares: Shares | None,
        in_turn: bool,
        row_weights: RowWeights,
        batch_size: int,
        seed: int,
        epochs: int,
        temperature: float,
        final_exponent: float,
    ) -> None:
        self._rows, self._shares, self._in_turn, self._row_weights = rows, shares, in_turn, row_weights
        self._batch_size, self._seed, self._epochs = batch_size, seed, epochs
        self._temperature, self._final_exponent = temperature, final_exponent
        self._tasks = rows.tasks

    def steps(self, epoch: int) -> int:
        """Return how many batches an epoch has; it depends on neither the lengths, the classes nor the scores."""
        keys: Sequence[str | None] = [None] if self._shares is None else self._tasks
        return sum(self._pass(len(self._rows.of(epoch, key))) for key in keys)

    def epoch(self, epoch: int, scores: Mapping[str, float]) -> list[Draw]:
        """Return the batches of an epoch.

        Args:
            epoch: 1 for the first.
            scores: Task key -> main validation score after the epoch before; only `difficulty` looks at them.
        """
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        if self._shares is None:
            rows = self._rows.of(epoch, None)
            return [Draw(batch, None) for batch in self._draw(rows, len(rows), None, generator)]
        turns = self._turns(epoch, scores, generator)
        batches = {
            key: iter(self._task_batches(key, number, epoch, generator)) for key, number in Counter(turns).items()
        }
        return [Draw(next(batches[key]), key) for key in turns]

    def _turns(self, epoch: int, scores: Mapping[str, float], generator: torch.Generator) -> list[str]:
        """Return the task of each batch."""
        if not self._tasks:
            return []
        if self._in_turn:
            first = (epoch - 1) % len(self._tasks)  # so that it is not the same task that always gets one batch more
            return list(islice(cycle(self._tasks[first:] + self._tasks[:first]), self.steps(epoch)))
        rows = np.array([len(self._rows.of(epoch, key)) for key in self._tasks])
        passes = np.array([self._pass(count) for count in rows])
        known = np.array([scores.get(key, np.nan) for key in self._tasks])
        moment = Moment(epoch, self._epochs, rows, passes, known, self._temperature, self._final_exponent)
        assert self._shares is not None
        counts = apportion(self._shares(moment), int(passes.sum()))
        turns = [key for key, count in zip(self._tasks, counts, strict=True) for _ in range(count)]
        return [turns[i] for i in torch.randperm(len(turns), generator=generator).tolist()]

    def _task_batches(self, key: str, number: int, epoch: int, generator: torch.Generator) -> list[list[int]]:
        """Pass over a task's rows as often as needed, and stop in the middle of the last pass."""
        rows = self._rows.of(epoch, key)
        whole, rest = divmod(number, self._pass(len(rows)))
        batches = [batch for _ in range(whole) for batch in self._draw(rows, len(rows), key, generator)]
        return batches + (self._draw(rows, rest * self._batch_size, key, generator) if rest else [])

    def _draw(self, rows: np.ndarray, count: int, task: str | None, generator: torch.Generator) -> list[list[int]]:
        return draw_batches(
            rows,
            count,
            weights=self._row_weights(self._rows, rows, task),
            lengths=self._rows.lengths,
            batch_size=self._batch_size,
            generator=generator,
        )

    def _pass(self, rows: int) -> int:
        """Return how many batches so many rows make."""
        return -(-rows // self._batch_size)


def build_sampler(
    labelled: Mapping[str, Sequence[bool]],
    classes: Mapping[str, Sequence[str | int | None]],
    lengths: Sequence[int],
    config: RunConfig,
    *,
    weights: Sequence[float] | None = None,
    difficulty: Sequence[float] | np.ndarray | None = None,
) -> Sampler:
    """Build the sampler of a configuration.

    Args:
        labelled: Task key -> which training rows have a label of it.
        classes: Task key -> the class of each row, None where it has none; for a task of entities whether it has any.
        lengths: Tokens of each row; all 1 where they do not matter.
        config: Resolved.
        weights: Numbers of the weight column, finite and not negative; None: there is none.
        difficulty: How difficult each row is, for a curriculum; None: not known yet, so which rows come first is
            random. How many do is the same.

    Raises:
        ConfigError: The task whose classes are to come equally often does not exist.
        DataError: No training row may ever be drawn.
    """
    training, options = config.training, config.training.sampling_options
    if not isinstance(training.epochs, int) or training.batch_size is None:
        raise ValueError("resolve the configuration before building its sampler")
    numbers = np.ones(len(lengths))
    if training.row_sampling == "weight_column":
        if weights is None:
            raise ValueError("row_sampling weight_column needs the weights")
        numbers = np.asarray(weights, dtype=float)
    if len(numbers) and not numbers.any():
        raise DataError("Every training row has weight 0, so none would be drawn; give some a higher weight.")
    known = {key: np.asarray(rows, dtype=bool) for key, rows in labelled.items()}
    rows = Rows(
        labelled=known,
        classes={key: _numbered(column) for key, column in classes.items()},
        lengths=lengths,
        first_epochs=_first_epochs(known, numbers, difficulty, config),
        numbers=numbers,
        balance=_balance_key(config, classes) if training.row_sampling == "class_balance" else None,
    )
    return Sampler(
        rows,
        shares=SAMPLINGS[training.sampling],
        in_turn=training.sampling == "uniform",
        row_weights=ROW_SAMPLINGS[training.row_sampling],
        batch_size=training.batch_size,
        seed=training.seed,
        epochs=training.epochs,
        temperature=options.temperature,
        final_exponent=options.final_exponent,
    )


def _first_epochs(
    labelled: Mapping[str, np.ndarray],
    numbers: np.ndarray,
    difficulty: Sequence[float] | np.ndarray | None,
    config: RunConfig,
) -> np.ndarray:
    curriculum = config.training.curriculum
    if curriculum is None:
        return np.ones(len(numbers), dtype=int)
    hardness = np.zeros(len(numbers)) if difficulty is None else np.asarray(difficulty, dtype=float)
    # rows of weight 0 are a group of their own, so that the easiest rows of a task are never all of that kind
    groups = np.stack([*labelled.values(), numbers > 0], axis=1)
    return first_epochs(groups, hardness, start=curriculum.start, epochs=curriculum.epochs, seed=config.training.seed)


def _numbered(column: Sequence[str | int | None]) -> np.ndarray:
    """Number the classes in the order of their first row; -1 where there is none. Shape: (N,)."""
    numbers: dict[str | int, int] = {}
    return np.array([-1 if name is None else numbers.setdefault(name, len(numbers)) for name in column], dtype=int)


def _balance_key(config: RunConfig, classes: Mapping[str, object]) -> str | None:
    name = config.training.sampling_options.balance_task
    if name is None:
        return None
    keys = {task.name: task.key for task in task_specs(config) if task.key in classes}
    if name not in keys:
        known = ", ".join(keys) or "none"
        raise ConfigError(f'training.sampling_options.balance_task: there is no task "{name}"; there are: {known}.')
    return keys[name]
