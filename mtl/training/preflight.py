"""A few steps of a run before the run: what it will take, and whether its first losses are those of fresh heads.

It calls what `train` calls, on batches of the run's own first epoch, so that its figures cannot drift from the loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mtl.choices import WEIGHTING_HELP
from mtl.config import RunConfig
from mtl.data.reading import is_missing
from mtl.data.splitting import Splits
from mtl.errors import CheckpointError, ConfigError, DataError
from mtl.modeling.encoder import max_length_of
from mtl.modeling.multitask import MultiTaskModel
from mtl.tasks import TaskSpec
from mtl.training.demands import cost
from mtl.training.evaluation import evaluate
from mtl.training.loop import Diverged, restore
from mtl.training.memory import Memory, MemoryWatch
from mtl.training.setup import Setup
from mtl.training.timing import LongestBatch, Seconds, longest_batch, measure

LEAST_ROWS = 32
MOST_RATIO, FEW_ROWS_A_CLASS, MANY_CUT, LONG_SECONDS, MOST_MEMORY = 1.5, 10, 0.5, 3600.0, 0.8


@dataclass(frozen=True)
class TaskPreflight:
    """One task before the first step.

    Attributes:
        name: The column's header.
        classes: How many.
        labelled_rows: Training rows with a label.
        rows_per_epoch: Labelled rows the loop goes through in one epoch.
        first_loss: Of one batch of labelled training rows, with the fresh head, without dropout.
        guessing_loss: ln(classes), for entities ln(tags): the loss of giving each the same probability.
        ratio: The first by the second; about 1 for a fresh head.
    """

    name: str
    classes: int
    labelled_rows: int
    rows_per_epoch: int
    first_loss: float
    guessing_loss: float
    ratio: float


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before it starts.

    Attributes:
        parameters: Weights of all parts.
        trainable: Weights that learn.
        epochs: Passes over the training rows, if the run is not stopped early.
        steps: Optimizer steps, likewise.
        seconds: What takes how long on this machine.
        longest_batch: The largest in the first epoch.
        cut_ratio: Share of the training texts that fill the encoder's maximum, so that what follows is cut.
        memory: What these steps reached.
        numerics: Device, precision, attention and threads.
        tasks: One entry a task.
        weighting_seconds: Weighting -> what a step would take with it, as far as its backward passes tell.
        warnings: What a person should know before waiting for the run.
    """

    parameters: int
    trainable: int
    epochs: int
    steps: int
    seconds: Seconds
    longest_batch: LongestBatch
    cut_ratio: float
    memory: Memory
    numerics: dict[str, str]
    tasks: tuple[TaskPreflight, ...]
    weighting_seconds: dict[str, float]
    warnings: tuple[str, ...]

    @property
    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self) | {"tasks": [asdict(task) for task in self.tasks], "warnings": list(self.warnings)}


def preflight(model: MultiTaskModel, splits: Splits, config: RunConfig, *, cache_dir: Path | None = None) -> Preflight:
    """Take a few steps of a run, to say what the whole will take.

    It takes ten to thirty seconds for the default encoder on two cores. The memory figure is true in a process of its
    own.

    Args:
        model: Fresh. Its weights are as before in the end; device, precision and freezing are the run's.
        splits: Training, validation and test examples.
        config: Resolved (`mtl.config.resolve`).
        cache_dir: Where the measurement of the fastest numerics is kept.

    Raises:
        CheckpointError: A loss is not finite before any step.
        ConfigError: A loss or a gradient is not finite in these steps.
        DataError: A task has no labelled training row.
    """
    with MemoryWatch() as watch:
        run = Setup(model, splits, config, cache_dir)
        weights = run.snapshot()  # held meanwhile, as the loop holds its best
        epoch = [row for draw in run.draws(1, {}) for row in draw.rows]
        tasks = tuple(_first_look(run, task, epoch) for task in run.tasks)
        longest = longest_batch(run)
        try:
            seconds = measure(run)
        except Diverged as error:
            raise ConfigError(f"Before the run: {str(error)[0].lower()}{str(error)[1:]}") from error
        finally:
            restore(model, weights)
    begin = run.begin
    limit = max_length_of(model.encoder)
    memory = watch.found(run.numerics.device)
    cut_ratio = sum(length >= limit for length in run.train.lengths) / len(run.train)
    return Preflight(
        parameters=begin.parameters,
        trainable=begin.trainable,
        epochs=begin.epochs,
        steps=begin.steps,
        seconds=seconds,
        longest_batch=longest,
        cut_ratio=cut_ratio,
        memory=memory,
        numerics=begin.numerics,
        tasks=tasks,
        weighting_seconds=_weighting_seconds(run, seconds.step),
        warnings=(*begin.warnings, *_warnings(tasks, seconds, memory, cut_ratio, limit)),
    )


def _weighting_seconds(run: Setup, measured: float) -> dict[str, float]:
    """Extend the measured step to every weighting: a backward pass takes twice as long as the forward pass."""
    training, tasks = run.training, len(run.tasks)
    apart = run.shares and tasks > 1

    def work(weighting: str) -> float:
        return 1 + 2 * (cost(weighting, tasks, clip_per_task=training.clip_per_task is not None) if apart else 1)

    return {name: measured * work(name) / work(training.weighting) for name in WEIGHTING_HELP}


def _first_look(run: Setup, task: TaskSpec, epoch: Sequence[int]) -> TaskPreflight:
    """Score one batch of a task's labelled training rows before anything is learnt.

    Args:
        run: Before its first step.
        task: One of its tasks.
        epoch: The training rows the loop goes through in one epoch.

    Raises:
        CheckpointError: The loss is not finite.
        DataError: The task has no labelled training row.
    """
    cells = run.train.examples.cells[task.name]
    labelled = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    generator = torch.Generator().manual_seed(run.seed)
    mixed = torch.randperm(len(labelled), generator=generator)[: max(run.batch_size, LEAST_ROWS)].tolist()
    scored = evaluate(run.model, run.train.examples.take([labelled[i] for i in mixed]), run.config)
    if scored is None:
        raise DataError(
            f'No training row has a label of "{task.name}". Add some, or leave the column out of the tasks.'
        )
    loss, guessing = scored.losses[task.name], math.log(run.model.head(task.key).outputs)
    if not math.isfinite(loss):
        raise CheckpointError(
            f'The loss of "{task.name}" is not a number before the first step, so the encoder\'s weights are spoilt. '
            "Choose another encoder."
        )
    rows = sum(not is_missing(cells[row]) for row in epoch)
    return TaskPreflight(task.name, len(task.labels), len(labelled), rows, loss, guessing, loss / guessing)


def _warnings(
    tasks: Sequence[TaskPreflight], seconds: Seconds, memory: Memory, cut_ratio: float, limit: int
) -> Iterator[str]:
    """Say what should make a person think before waiting."""
    for task in tasks:
        if task.ratio > MOST_RATIO:
            yield (
                f'"{task.name}" starts with a loss of {task.first_loss:.2f}, where guessing would give '
                f"{task.guessing_loss:.2f}: its labels, or the scale of the embeddings, look wrong."
            )
        if task.labelled_rows < FEW_ROWS_A_CLASS * task.classes:
            yield (
                f'"{task.name}" has {task.labelled_rows} labelled training rows for {task.classes} classes, which is '
                "little to learn from."
            )
    if cut_ratio > MANY_CUT:
        yield f"{cut_ratio:.0%} of the training texts reach the limit of {limit} tokens; what follows is not read."
    if seconds.run > LONG_SECONDS:
        yield (
            f"The run would take about {seconds.run / 3600:.1f} hours on this machine. Fewer epochs, a smaller "
            "encoder.max_length or the preset frozen take less."
        )
    if memory.peak_bytes > MOST_MEMORY * memory.available_bytes:
        taken, there = memory.peak_bytes / 2**30, memory.available_bytes / 2**30
        yield (
            f"It takes {taken:.1f} GB of the {there:.1f} GB of memory that it can have. "
            "A smaller batch size or encoder.max_length takes less."
        )
