"""How fast is training? Timed steps of our loop and of transformers' `Trainer`, a few of each in turn.

    python -m benchmarks speed --data FILE.csv [OTHER.csv ...] [--rows 1000] [--rounds 5] [--quick] [--record]

The Trainer runs its own `train()`; after every few of its steps its clock stands still while ours takes as many. An
epoch is what counts: its steps over the same rows in batches of 32, and the scores on the same validation rows. The
first epoch of both is not counted, in which optimizers and allocators warm up. Loading, tokenising and the choice of
the numerics are outside the clock on both sides. Accuracy is measured apart, by `accuracy.py`.

- Full fine-tuning of the file's first task with all defaults, against the Trainer's defaults (float32, random batches)
  and against what an expert sets (bfloat16, batches grouped by length).
- All tasks jointly against one such Trainer run for each of them.
- The bottom half of the layers frozen, against the same without the cache of what they give. A whole run of the default
  number of epochs, the filling of the cache included.
- The encoder frozen: whole runs of 3 and 30 epochs, the one pass of the encoder included, against the Trainer with its
  body frozen, whose time is that of an epoch times 3 and times 30.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.peak import Effort, forward_flops, measure_peak, training_flops
from benchmarks.rounds import Ratio, Row, as_table, at_least, given, machine, ratio, titled
from benchmarks.runs import draw, finish, parser, read, tell
from benchmarks.trainer import trainer_of
from mtl.config import RunConfig, resolve, task_specs
from mtl.data.batching import tokenise
from mtl.data.reading import is_missing
from mtl.data.splitting import Examples, Splits
from mtl.errors import DataError
from mtl.modeling.encoder import max_length_of, transformer_of
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.settings import settings
from mtl.training import boundary
from mtl.training.events import EpochEnd, RunBegin, RunEnd, StepEnd
from mtl.training.loop import train
from mtl.training.numerics import Numerics, from_text

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 4  # steps of each side at a time
VALIDATION_SHARE = 15 / 70  # of the training rows, as the app divides a file
DEFAULTS, EXPERT = "Trainer, defaults", "Trainer, bf16 + group_by_length"
PEAK_GOAL = 0.35
GOALS = {DEFAULTS: 4.5, EXPERT: 1.6}
JOINT_GOALS = {DEFAULTS: 8.0, EXPERT: 3.0}  # of two tasks
BOUNDARY_GOAL, FROZEN_GOALS = 1.6, {3: 15.0, 30: 100.0}
MINUTES = "15 minutes for a file of one task and short texts, an hour for one of two tasks and long ones, on two cores"


@dataclass(frozen=True)
class Work:
    """What is learnt.

    Attributes:
        file: Where it is from.
        config: Resolved for the file's classification tasks, with the default epochs of so many rows.
        splits: Training and validation rows; none to test on.
        rounds: Epochs that count.
    """

    file: Path
    config: RunConfig
    splits: Splits
    rounds: int

    def of(self, task: str) -> Work:
        """Leave the other tasks out, and the rows without a label of this one."""
        sides = (_labelled(side, task) for side in (self.splits.train, self.splits.validation, self.splits.test))
        config = self.config.model_copy(update={"tasks": {task: self.config.tasks[task]}})
        return Work(self.file, config, Splits(*sides), self.rounds)

    def configured(self, epochs: int, **values: Any) -> RunConfig:
        """Change the training, which then goes on for so many epochs whatever the scores say."""
        training = self.config.training.model_copy(update={"epochs": epochs, "patience": epochs, **values})
        return self.config.model_copy(update={"training": training})


class OurRun:
    """One training of ours that takes its steps when it is told to, and a clock that runs meanwhile.

    Args:
        work: What is learnt.
        config: How.
        numerics: Settled before; None settles them.
        around: Entered whenever it computes.

    Attributes:
        epochs: Seconds of each epoch; what a run does once before its first step is in the first.
        numerics: What it computes with.
        losses: Of each step of the first epoch.
        left: Steps that this epoch still has.
        model: As it is.
    """

    def __init__(
        self,
        work: Work,
        config: RunConfig,
        numerics: Numerics | None = None,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.model: MultiTaskModel = build_model(config, task_specs(config))
        self.epochs: list[float] = []
        self.losses: list[float] = []
        self._around, self._seconds = around, 0.0
        self._random = torch.get_rng_state()
        self._events = train(self.model, work.splits, config, cache_dir=settings().cache_dir, numerics=numerics)
        begin = self._next()
        assert isinstance(begin, RunBegin)
        self.numerics = from_text(begin.numerics)
        self._seconds = 0.0
        self.left = self._per_epoch = begin.steps // begin.epochs

    def _next(self) -> object:
        """Let it compute until its next event; the other side's draws must not move its random numbers."""
        other = torch.get_rng_state()
        torch.set_rng_state(self._random)
        with self._around():
            start = time.perf_counter()
            event = next(self._events)
            self._seconds += time.perf_counter() - start
        self._random = torch.get_rng_state()
        torch.set_rng_state(other)
        return event

    def steps(self, count: int) -> None:
        """Take some steps, as far as this epoch has them."""
        for _ in range(min(count, self.left)):
            event = self._next()
            while not isinstance(event, StepEnd):
                event = self._next()
            self.left -= 1
            if not self.epochs:
                self.losses.append(event.loss)

    def end_epoch(self) -> None:
        """Take the epoch's last steps, and score the validation rows."""
        self.steps(self.left)
        event = self._next()
        while not isinstance(event, EpochEnd):
            if isinstance(event, RunEnd):
                raise DataError(f"Our training ended too early: {event.reason}")
            event = self._next()
        self.epochs.append(self._seconds)
        self._seconds, self.left = 0.0, self._per_epoch


class Turns(TrainerCallback):
    """Stops a Trainer's clock every few steps, and after each epoch's scores, and lets something else compute.

    Args:
        steps: Called after every few steps.
        end_epoch: Called after an epoch's scores.

    Attributes:
        epochs: The Trainer's own seconds of each epoch.
    """

    def __init__(self, steps: Callable[[], None] | None, end_epoch: Callable[[], None]) -> None:
        self.epochs: list[float] = []
        self._steps, self._end_epoch = steps, end_epoch
        self._start = self._seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let the other side take some steps."""
        if self._steps and state.global_step % CHUNK == 0:
            self._seconds += time.perf_counter() - self._start
            self._steps()
            self._start = time.perf_counter()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Note the epoch, and let the other side end its own."""
        self.epochs.append(self._seconds + time.perf_counter() - self._start)
        self._end_epoch()
        self._seconds, self._start = 0.0, time.perf_counter()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and record if asked to."""
    words = given(arguments)
    options = _options().parse_args(words)
    rows, rounds = (96, 2) if options.quick else (options.rows, options.rounds)
    tell(f"speed: {'three minutes' if options.quick else MINUTES}; {len(options.data)} file(s)")
    transformers_logging.set_verbosity_error()  # the fresh heads are reported at every load
    peak = measure_peak()
    lines: list[Row] = []
    numerics = ""
    for file in options.data:
        work = load(file, rows, rounds)
        found, numerics = whole_encoder(work)
        lines += [*found, *jointly(work), half_frozen(work), *encoder_frozen(work)]
        peak |= measure_peak()
    text = [*as_table(lines, peak), "", f"{rows:,} training rows, {rounds} epochs that count, batches of 32."]
    text.append(machine(peak, f"Ours chose {numerics}. "))
    names = ", ".join(file.name for file in options.data)
    finish(titled("speed", f"training speed, {names}", words, text), options.record)
    return 0


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, nargs="+", default=[ROOT / "data" / "sample.csv"])
    made.add_argument("--rows", type=int, default=1_000, help="training rows; 3 validation rows come on 14 of them")
    made.add_argument("--rounds", type=int, default=5, help="epochs that count")
    made.add_argument("--quick", action="store_true", help="few rows, to see that it works")
    return made


def load(file: Path, rows: int, rounds: int) -> Work:
    """Read a file as the app does, with its default configuration, and draw rows of it.

    Raises:
        DataError: It has no task of classes, which the Trainer could learn too.
    """
    config, splits = read([file])
    tasks = {name: task for name, task in config.tasks.items() if task.kind == "classification"}
    if not tasks:
        raise DataError(f"{file.name} has no column of classes.")
    training = config.training.model_copy(update={"epochs": "auto"})
    config = config.model_copy(update={"tasks": tasks, "training": training})
    learning = draw(splits.train, rows, 0)
    scored = draw(splits.validation, max(1, round(rows * VALIDATION_SHARE)), 0)
    return Work(file, resolve(config, len(learning)), Splits(learning, scored, scored.take([])), rounds)


def _labelled(rows: Examples, task: str) -> Examples:
    return rows.take([row for row, cell in enumerate(rows.cells[task]) if not is_missing(cell)])


def whole_encoder(work: Work) -> tuple[list[Row], str]:
    """Compare full fine-tuning of the first task; return also what ours computes with."""
    task = next(iter(work.config.tasks))
    rows, chosen = [], ""
    for peer in (DEFAULTS, EXPERT):
        ours, theirs = side_by_side(work.of(task), work.of(task), expert=peer == EXPERT)
        seconds = float(np.median(ours.epochs[1:]))
        measured = ratio(theirs[1:], ours.epochs[1:])
        effort = Effort(_flops(ours.model, work.of(task).splits), seconds, PEAK_GOAL, measured.median)
        name = f"full fine-tuning, {task} of {work.file.name}"
        rows.append(at_least(name, peer, measured, GOALS[peer], effort=effort))
        chosen = f"{ours.numerics.precision}, {ours.numerics.attention} attention"
        tell(f"{name}: {rows[-1].ratio} as {peer}; {seconds:.1f} s an epoch")
    return rows, chosen


def jointly(work: Work) -> list[Row]:
    """Compare all tasks in one run with a run for each; every one of them is timed in turn with the joint one."""
    tasks = list(work.config.tasks)
    if len(tasks) < 2:
        return []
    rows = []
    for peer in (DEFAULTS, EXPERT):
        total = np.zeros(work.rounds)
        for task in tasks:
            ours, theirs = side_by_side(work, work.of(task), expert=peer == EXPERT)
            total += np.array(theirs[1:]) / np.array(ours.epochs[1:])
        goal = JOINT_GOALS[peer] if len(tasks) == 2 else None
        found = Ratio(float(np.median(total)), float(total.min()), float(total.max()))
        name = f"{len(tasks)} tasks of {work.file.name} jointly"
        rows.append(at_least(name, f"{len(tasks)} runs, {peer}", found, goal))
        tell(f"{name}: {rows[-1].ratio} as {peer}")
    return rows


def side_by_side(our_work: Work, their_work: Work, *, expert: bool) -> tuple[OurRun, list[float]]:
    """Train on both sides in turn.

    Returns:
        Ours, and the Trainer's seconds of each epoch; both with the first epoch, which warms up.
    """
    epochs = our_work.rounds + 1
    ours = OurRun(our_work, our_work.configured(epochs))
    turns = Turns(lambda: ours.steps(CHUNK), ours.end_epoch)
    run_trainer(their_work, epochs, turns, expert=expert)
    return ours, turns.epochs


def run_trainer(work: Work, epochs: int, turns: Turns, *, expert: bool, body: bool = True) -> None:
    """Let a Trainer learn, scoring the validation rows after each epoch."""
    sides, config = work.splits, work.configured(epochs)
    with tempfile.TemporaryDirectory() as folder:
        made = trainer_of(
            config, sides.train, Path(folder), expert=expert, evaluation=sides.validation, body=body, callbacks=[turns]
        )
        made.train()


def half_frozen(work: Work) -> Row:
    """Compare the bottom half frozen with and without the cache of what it gives."""
    task = next(iter(work.config.tasks))
    own = work.of(task)
    layers = transformer_of(build_model(own.config, task_specs(own.config)).encoder).config.num_hidden_layers
    config = own.configured(own.rounds + 1, freeze=(f"bottom.{layers // 2}",))
    kept = OurRun(own, config)
    again = OurRun(own, config, kept.numerics, without_cache)
    for _ in range(own.rounds + 1):
        while kept.left or again.left:
            kept.steps(CHUNK)
            again.steps(CHUNK)
        kept.end_epoch()
        again.end_epoch()
    epochs = int(own.config.training.epochs or 1)
    whole = ratio(*([run.epochs[0] + (epochs - 1) * each for each in run.epochs[1:]] for run in (again, kept)))
    each = ratio(again.epochs[1:], kept.epochs[1:])
    name = f"bottom {layers // 2} of {layers} layers frozen, {task} of {work.file.name}, {epochs} epochs"
    means = [float(np.mean(run.losses)) for run in (kept, again)]
    flops = _flops(kept.model, own.splits, layers // 2)
    row = at_least(
        f"{name} (an epoch alone: {each})",
        "the same without the cache",
        whole,
        BOUNDARY_GOAL,
        difference=f"mean loss of the first epoch {means[0]:.4f} and {means[1]:.4f}",
        effort=Effort(flops, float(np.median(kept.epochs[1:])), PEAK_GOAL, each.median),
    )
    tell(f"{row.work}: {row.ratio}")
    return row


@contextmanager
def without_cache() -> Iterator[None]:
    """Let a run find no room for what its frozen layers give, so that every step computes it."""
    before = boundary.MOST_BYTES, boundary.MOST_DISK_BYTES
    boundary.MOST_BYTES = boundary.MOST_DISK_BYTES = 0
    try:
        yield
    finally:
        boundary.MOST_BYTES, boundary.MOST_DISK_BYTES = before


def encoder_frozen(work: Work) -> list[Row]:
    """Compare whole runs with a frozen encoder; each epoch of the Trainer is followed by all runs of ours."""
    task = next(iter(work.config.tasks))
    own = work.of(task)
    seconds: dict[int, list[float]] = {epochs: [] for epochs in FROZEN_GOALS}
    numerics = OurRun(own, own.configured(1, freeze=("encoder",))).numerics

    def ours() -> None:
        for epochs, times in seconds.items():
            run = OurRun(own, own.configured(epochs, freeze=("encoder",)), numerics)
            for _ in range(epochs):
                run.end_epoch()
            times.append(sum(run.epochs))

    turns = Turns(None, ours)
    run_trainer(own, own.rounds + 1, turns, expert=False, body=False)
    rows = []
    for epochs, goal in FROZEN_GOALS.items():
        found = ratio([epochs * each for each in turns.epochs[1:]], seconds[epochs][1:])
        name = f"encoder frozen, {task} of {work.file.name}, {epochs} epochs"
        rows.append(at_least(name, f"Trainer, body frozen; an epoch x {epochs}", found, goal))
        tell(f"{name}: {rows[-1].ratio}; {float(np.median(seconds[epochs])):.1f} s")
    return rows


def _flops(model: MultiTaskModel, splits: Splits, kept_layers: int = 0) -> float:
    """Count what an epoch's matrix products take: its steps, and one forward pass for the validation rows."""
    config = transformer_of(model.encoder).config
    learning, scored = (_lengths(model, side.texts) for side in (splits.train, splits.validation))
    above = config.num_hidden_layers - kept_layers
    return training_flops(config, learning, kept_layers, kept=True) + forward_flops(config, scored, above)


def _lengths(model: MultiTaskModel, texts: Sequence[str]) -> list[int]:
    ids = tokenise(texts, model.encoder.tokenizer, max_length_of(model.encoder))["input_ids"]
    return [len(one) for one in ids]


if __name__ == "__main__":
    sys.exit(main())
