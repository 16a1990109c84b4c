"""What does one shared encoder cost in accuracy? Joint training against one fine-tuned model per task.

    python benchmarks/accuracy.py --data FILE.csv [--peer ours] [--rows 2000] [--epochs 2] [--seeds 3] [--record]

Ours trains all tasks of the file at once, with the default configuration. The peer fine-tunes the same encoder for
each task alone, on those of the same rows that carry its label:

- `trainer`: transformers' `Trainer` as an expert sets it: bfloat16, batches grouped by length, everything else its
  defaults. What does this app cost, all in all?
- `ours`: our own training with the same configuration and seed. What does sharing do, and nothing else?

Both keep their last weights and are scored in float32 on the same rows, which neither has seen; a row without a label
of a task counts for the other tasks only. The interval is a paired bootstrap over evaluation rows and seeds. It prints
Markdown; `--record` appends it to RESULTS.md.

R evaluation rows, S seeds, C classes.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.intervals import mean_interval
from benchmarks.rounds import processor
from benchmarks.trainer import targets, trainer_of
from mtl.config import RunConfig, task_specs
from mtl.config_text import from_dict
from mtl.data.batching import IGNORE_INDEX, by_token_budget, pad, tokenise
from mtl.data.preparing import cut, prepare
from mtl.data.reading import is_missing, read_file
from mtl.data.splitting import Examples, Splits
from mtl.errors import DataError, UserError
from mtl.modeling.encoder import load_encoder, max_length_of
from mtl.modeling.multitask import build_model
from mtl.settings import settings
from mtl.tasks import TaskSpec
from mtl.training.events import EpochEnd, RunBegin, RunEnd
from mtl.training.loop import train

RESULTS = Path(__file__).with_name("RESULTS.md")
EVALUATION_ROWS_PER_TRAINING_ROW = 5  # a trial on a few rows is not worth a long evaluation
MIN_DIFFERENCE = {"trainer": -0.02, "ours": -math.inf}  # whether sharing costs nothing is shown, not required
PEER_NAMES = {"trainer": "Trainer, alone", "ours": "ours, alone"}
PACKAGES = ("torch", "transformers", "sentence-transformers", "accelerate")

Peer = Callable[[RunConfig, Examples, Examples], "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What one training gave.

    Attributes:
        correct: Task name -> 1 or 0 for each labelled evaluation row, in their order. Shape: (R,)
        seconds: Time of the training steps alone: without loading, tokenising and evaluating.
        numerics: Device, precision and attention, where they were chosen.
    """

    correct: dict[str, np.ndarray]
    seconds: float
    numerics: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """One task, all seeds.

    Attributes:
        labelled: For each seed, how many of its training rows carry the task's label.
        ours: 1 or 0. Shape: (S, R)
        theirs: 1 or 0. Shape: (S, R)
        time_ratio: Median over the seeds of their training time, for this task alone, to ours, for all tasks.
    """

    task: str
    labelled: tuple[int, ...]
    ours: np.ndarray
    theirs: np.ndarray
    time_ratio: float

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, ours minus theirs."""
        return mean_interval(self.ours - self.theirs)


@dataclass(frozen=True)
class Plan:
    """What is compared, on how much."""

    data: Path
    peer: str
    rows: int
    epochs: int
    seeds: int
    evaluation_rows: int

    @property
    def command(self) -> str:
        """The command that does this again."""
        return (
            f"python benchmarks/accuracy.py --data {self.data.name} --peer {self.peer} --rows {self.rows} "
            f"--epochs {self.epochs} --seeds {self.seeds} --evaluation-rows {self.evaluation_rows}"
        )


def main() -> None:
    """Compare, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a CSV file with a text column and label columns")
    parser.add_argument("--peer", choices=PEERS, default="trainer", help="what trains each task alone")
    parser.add_argument("--rows", type=int, default=2_000, help="training rows, drawn anew for each seed")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--evaluation-rows", type=int, default=1_500, help="at most, and at most 5 per training row")
    parser.add_argument("--record", action="store_true", help="append the result to RESULTS.md")
    arguments = vars(parser.parse_args())
    record = arguments.pop("record")
    plan = Plan(**arguments)
    if min(plan.rows, plan.epochs, plan.seeds, plan.evaluation_rows) < 1:
        parser.error("rows, epochs, seeds and evaluation rows must be at least 1")
    text = run(plan)
    print(text)
    if record:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}")


def run(plan: Plan) -> str:
    """Train both ways with every seed and describe the result as Markdown.

    Raises:
        UserError: The file cannot be used.
    """
    transformers_logging.set_verbosity_error()  # the fresh heads are reported at every load
    config, splits = load(plan)
    evaluation = evaluation_rows(splits, min(plan.evaluation_rows, plan.rows * EVALUATION_ROWS_PER_TRAINING_ROW))
    draws = [
        splits.train.take(np.random.default_rng(seed).choice(len(splits.train), plan.rows, replace=False).tolist())
        for seed in range(plan.seeds)
    ]
    ours: list[Outcome] = []
    theirs: list[dict[str, Outcome]] = []
    for seed, drawn in enumerate(draws):
        seeded = config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})
        ours.append(train_ours(seeded, drawn, evaluation))
        tell(f"seed {seed}, joint", ours[-1])
        theirs.append({})
        for task in config.tasks:
            own, scored = labelled(drawn, task), labelled(evaluation, task)
            theirs[-1][task] = PEERS[plan.peer](only(task, seeded), own, scored)
            tell(f"seed {seed}, {task} alone", theirs[-1][task])
    ratios = [
        sum(one.seconds for one in alone.values()) / joint.seconds for joint, alone in zip(ours, theirs, strict=True)
    ]
    heading = f"joint against {PEER_NAMES[plan.peer]}, {plan.data.name}"
    return "\n".join(
        [
            f"## {date.today():%Y-%m-%d}: {heading}, rows {plan.rows:,}, epochs {plan.epochs}, seeds {plan.seeds}",
            "",
            f"`{plan.command}`",
            "",
            *as_table([compare(task, draws, ours, theirs) for task in config.tasks], plan.peer),
            "",
            "All single-task runs together took "
            f"{np.median(ratios):.1f} times as long to train as the one joint run (median).",
            f"{len(evaluation):,} evaluation rows. {environment(ours[0].numerics)}",
            "",
        ]
    )


def load(plan: Plan) -> tuple[RunConfig, Splits]:
    """Read the file as the app would, with its default configuration; columns of entities are left out.

    Raises:
        UserError: The file cannot be used, or not for this comparison.
    """
    table = read_file(plan.data)
    prepared = prepare(table, from_dict({"training": {"epochs": plan.epochs}}))
    tasks = {name: task for name, task in prepared.config.tasks.items() if task.kind == "classification"}
    if not tasks:
        raise DataError(f"{plan.data} has no column of classes; the peers learn nothing else.")
    config = prepared.config.model_copy(update={"tasks": tasks})
    splits = cut(table, prepared.config, prepared.split)
    if plan.rows > len(splits.train):
        raise DataError(f"{plan.data} leaves {len(splits.train)} rows to train on; --rows {plan.rows} are too many.")
    if plan.peer == "ours" and len(tasks) == 1:
        raise DataError(
            f"{plan.data} has one task, {next(iter(tasks))}, so nothing is shared; compare with --peer trainer."
        )
    return config, splits


def evaluation_rows(splits: Splits, count: int) -> Examples:
    """Draw the rows that both are scored on, the same for every seed, from those that are not for training."""
    both = Examples(
        splits.validation.texts + splits.test.texts,
        {task: cells + splits.test.cells[task] for task, cells in splits.validation.cells.items()},
        splits.validation.rows + splits.test.rows,
    )
    chosen = np.random.default_rng(0).choice(len(both), min(count, len(both)), replace=False)
    return both.take(sorted(chosen.tolist()))


def labelled(examples: Examples, task: str) -> Examples:
    """Take the examples that carry a task's label.

    Raises:
        DataError: None does.
    """
    rows = [row for row, cell in enumerate(examples.cells[task]) if not is_missing(cell)]
    if not rows:
        raise DataError(f'None of the {len(examples)} rows that were drawn has a label of "{task}"; raise --rows.')
    return examples.take(rows)


def only(task: str, config: RunConfig) -> RunConfig:
    """Leave all tasks but one out of a configuration."""
    return config.model_copy(update={"tasks": {task: config.tasks[task]}})


def train_ours(config: RunConfig, rows: Examples, evaluation: Examples) -> Outcome:
    """Train one encoder with a head for each of the configuration's tasks.

    There are no validation rows, so the last weights are kept, as by the Trainer.

    Raises:
        UserError: The training diverged.
    """
    tasks = task_specs(config)
    model = build_model(config, tasks)
    correct: dict[str, np.ndarray] = {}
    numerics: dict[str, str] = {}
    start = seconds = 0.0
    for event in train(model, Splits(rows, rows.take([]), evaluation), config, cache_dir=settings().cache_dir):
        match event:
            case RunBegin():
                numerics, start = event.numerics, time.perf_counter()
            case EpochEnd():
                seconds = time.perf_counter() - start
            case RunEnd(test=test) if test:
                correct = {task.name: hits(test.logits[task.name], evaluation, task) for task in tasks}
            case RunEnd():
                raise UserError(f"Our training of {', '.join(config.tasks)} failed: {event.reason}")
    return Outcome(correct, seconds, numerics)


class Stopwatch(TrainerCallback):
    """Times the training steps of a Trainer."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self.start = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self.start


def train_theirs(config: RunConfig, rows: Examples, evaluation: Examples) -> Outcome:
    """Fine-tune the same encoder for the configuration's only task with transformers' Trainer, as an expert sets it."""
    (task,) = task_specs(config)
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as nothing_is_kept:
        trainer = trainer_of(config, rows, Path(nothing_is_kept), expert=True, callbacks=[stopwatch])
        trainer.train()
    model: Any = trainer.model
    tokenizer: Any = trainer.processing_class
    tokens = tokenise(evaluation.texts, tokenizer, max_length_of(load_encoder()))
    logits = classify(model, tokenizer, tokens)
    return Outcome({task.name: hits(logits, evaluation, task)}, stopwatch.seconds, {})


@torch.inference_mode()
def classify(model: torch.nn.Module, tokenizer: Any, tokens: dict[str, list[list[int]]]) -> Tensor:
    """Compute a sequence classifier's logits in float32, in the order of the texts. Shape: (R, C)."""
    model.eval()
    device = next(model.parameters()).device
    order: list[int] = []
    found: list[Tensor] = []
    for indices in by_token_budget([len(ids) for ids in tokens["input_ids"]]):
        features = pad({name: [values[row] for row in indices] for name, values in tokens.items()}, tokenizer)
        found.append(model(**{name: value.to(device) for name, value in features.items()}).logits.float().cpu())
        order += indices
    return torch.cat(found)[torch.tensor(order).argsort()]


def hits(logits: Tensor, evaluation: Examples, task: TaskSpec) -> np.ndarray:
    """Say for each labelled row whether the highest logit is its label's. Shape: (R,)."""
    labels = targets(evaluation, task)
    return (logits.argmax(dim=-1).numpy() == labels)[labels != IGNORE_INDEX].astype(float)


def compare(
    task: str, draws: Sequence[Examples], ours: Sequence[Outcome], theirs: Sequence[dict[str, Outcome]]
) -> Comparison:
    """Put one task's outcomes of all seeds side by side."""
    own = np.stack([outcome.correct[task] for outcome in ours])
    other = np.stack([outcomes[task].correct[task] for outcomes in theirs])
    ratios = [alone[task].seconds / joint.seconds for joint, alone in zip(ours, theirs, strict=True)]
    counts = tuple(len(labelled(drawn, task)) for drawn in draws)
    return Comparison(task, counts, own, other, float(np.median(ratios)))


def as_table(comparisons: Sequence[Comparison], peer: str) -> list[str]:
    """Show the comparison, accuracies in per cent and differences in points."""
    lines = [
        f"| task | labelled rows, training / evaluation | ours, jointly | {PEER_NAMES[peer]} | difference "
        "| 95 % interval | required | time, alone / jointly |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in comparisons:
        ours, theirs = 100 * one.ours.mean(), 100 * one.theirs.mean()
        low, high = one.interval
        counts = " ".join(f"{count:,}" for count in dict.fromkeys(one.labelled))
        lines.append(
            f"| {one.task} | {counts} / {one.ours.shape[1]:,} | {ours:.1f}{by_seed(one.ours)} "
            f"| {theirs:.1f}{by_seed(one.theirs)} | {ours - theirs:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} "
            f"| {'met' if high > 0 and low > MIN_DIFFERENCE[peer] else 'NOT MET'} | {one.time_ratio:.1f} |"
        )
    floor = f" and its lower end above {100 * MIN_DIFFERENCE[peer]:.0f} points"
    required = f"Required: the interval's upper end above 0{floor if MIN_DIFFERENCE[peer] > -math.inf else ''}."
    return [*lines, "", required]


def by_seed(correct: np.ndarray) -> str:
    """List the accuracy of each seed. `correct` has the shape (S, R)."""
    return f" ({', '.join(f'{100 * value:.1f}' for value in correct.mean(axis=1))})"


def environment(numerics: dict[str, str]) -> str:
    """Say on what this was measured; times are comparable within one run only."""
    chosen = ", ".join(f"{name} {numerics[name]}" for name in ("device", "precision", "attention", "threads"))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Ours chose {chosen}. Python {platform.python_version()}, {packages}; "
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}."
    )


def tell(what: str, outcome: Outcome) -> None:
    """Report progress on stderr."""
    scores = ", ".join(f"{task} {correct.mean():.3f}" for task, correct in outcome.correct.items())
    print(f"{what}: {scores}, {outcome.seconds:.0f} s of training", file=sys.stderr, flush=True)


PEERS: dict[str, Peer] = {"trainer": train_theirs, "ours": train_ours}


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
