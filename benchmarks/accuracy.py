"""What does one shared encoder cost in accuracy? Joint training against one fine-tuned model per task.

    python benchmarks/accuracy.py --data FILE.csv [--rows 2000] [--epochs 2] [--seeds 3] [--record]

Ours trains all tasks of the file at once, with the default configuration. The peer fine-tunes the same encoder for
each task alone, on the same rows, with transformers' `Trainer` as an expert sets it: bfloat16, batches grouped by
length, everything else its defaults. Both keep their last weights and are scored in float32 on the same rows, which
neither has seen. The interval is a paired bootstrap over evaluation rows and seeds. It prints Markdown; `--record`
appends it to RESULTS.md.

R evaluation rows, S seeds, C classes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from mtl.config import DEFAULT_ENCODER, RunConfig, task_specs
from mtl.config_text import from_dict
from mtl.data.batching import IGNORE_INDEX, by_token_budget, pad, tokenise
from mtl.data.preparing import cut, prepare
from mtl.data.reading import read_file
from mtl.data.splitting import Examples, Splits
from mtl.errors import DataError, UserError
from mtl.modeling.encoder import encoder_folder, load_encoder
from mtl.modeling.multitask import build_model
from mtl.settings import settings
from mtl.tasks import TaskSpec
from mtl.training.events import EpochEnd, RunBegin, RunEnd
from mtl.training.loop import train

RESULTS = Path(__file__).with_name("RESULTS.md")
EVALUATION_ROWS = 1_500
EVALUATION_ROWS_PER_TRAINING_ROW = 5  # a trial on a few rows is not worth a long evaluation
MIN_DIFFERENCE = -0.02
DRAWS = 2_000
PACKAGES = ("torch", "transformers", "sentence-transformers", "accelerate")


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
        ours: 1 or 0. Shape: (S, R)
        theirs: 1 or 0. Shape: (S, R)
        low: Lower end of the difference's 95 % interval, ours minus theirs.
        high: Upper end.
        time_ratio: Median over the seeds of their training time, for this task alone, to ours, for all tasks.
    """

    task: str
    ours: np.ndarray
    theirs: np.ndarray
    low: float
    high: float
    time_ratio: float

    @property
    def holds(self) -> bool:
        """Whether ours may be called no worse: the interval reaches above 0 and stays above -2 points."""
        return self.high > 0 and self.low > MIN_DIFFERENCE


def main() -> None:
    """Compare, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a CSV file with a text column and label columns")
    parser.add_argument("--rows", type=int, default=2_000, help="training rows, drawn anew for each seed")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--record", action="store_true", help="append the result to RESULTS.md")
    arguments = parser.parse_args()
    if min(arguments.rows, arguments.epochs, arguments.seeds) < 1:
        parser.error("rows, epochs and seeds must be at least 1")
    text = run(arguments.data, rows=arguments.rows, epochs=arguments.epochs, seeds=arguments.seeds)
    print(text)
    if arguments.record:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}")


def run(data: Path, *, rows: int, epochs: int, seeds: int) -> str:
    """Train both ways with every seed and describe the result as Markdown.

    Raises:
        UserError: The file cannot be used.
    """
    transformers_logging.set_verbosity_error()  # the fresh heads are reported at every load
    table = read_file(data)
    prepared = prepare(table, from_dict({"training": {"epochs": epochs}}))
    splits = cut(table, prepared.config, prepared.split)
    if rows > len(splits.train):
        raise DataError(f"{data} leaves {len(splits.train)} rows to train on; --rows {rows} are too many.")
    evaluation = evaluation_rows(splits, min(EVALUATION_ROWS, rows * EVALUATION_ROWS_PER_TRAINING_ROW))
    ours: list[Outcome] = []
    theirs: list[dict[str, Outcome]] = []
    for seed in range(seeds):
        drawn = splits.train.take(np.random.default_rng(seed).choice(len(splits.train), rows, replace=False).tolist())
        training = prepared.config.training.model_copy(update={"seed": seed})
        config = prepared.config.model_copy(update={"training": training})
        ours.append(train_jointly(config, drawn, evaluation))
        tell(f"seed {seed}, joint", ours[-1])
        theirs.append({})
        for task in task_specs(config):
            theirs[-1][task.name] = train_alone(task, config, drawn, evaluation)
            tell(f"seed {seed}, {task.name} alone", theirs[-1][task.name])
    comparisons = [compare(task.name, ours, theirs) for task in task_specs(prepared.config)]
    whole = np.median(
        [sum(one.seconds for one in alone.values()) / joint.seconds for joint, alone in zip(ours, theirs, strict=True)]
    )
    heading = (
        f"## {date.today():%Y-%m-%d}: joint against alone, {data.name}, rows {rows:,}, epochs {epochs}, seeds {seeds}"
    )
    return "\n".join(
        [
            heading,
            "",
            f"`python benchmarks/accuracy.py --data {data.name} --rows {rows} --epochs {epochs} --seeds {seeds}`",
            "",
            *as_table(comparisons),
            "",
            f"All single-task runs together took {whole:.1f} times as long to train as the one joint run (median).",
            f"{len(evaluation):,} evaluation rows. {environment(ours[0].numerics)}",
            "",
        ]
    )


def evaluation_rows(splits: Splits, count: int) -> Examples:
    """Draw the rows that both are scored on, the same for every seed, from those that are not for training."""
    both = Examples(
        splits.validation.texts + splits.test.texts,
        {task: cells + splits.test.cells[task] for task, cells in splits.validation.cells.items()},
        splits.validation.rows + splits.test.rows,
    )
    chosen = np.random.default_rng(0).choice(len(both), min(count, len(both)), replace=False)
    return both.take(sorted(chosen.tolist()))


def train_jointly(config: RunConfig, rows: Examples, evaluation: Examples) -> Outcome:
    """Train one encoder with a head per task.

    There are no validation rows, so the last weights are kept, as by the peer.
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
                raise UserError(f"The joint training failed: {event.reason}")
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


def train_alone(task: TaskSpec, config: RunConfig, rows: Examples, evaluation: Examples) -> Outcome:
    """Fine-tune the same encoder for one task with transformers' Trainer, on the rows that carry its label.

    Seed, epochs, batch size and longest text are ours; rates, schedule, dropout and head are the Trainer's and the
    model's defaults.
    """
    training = config.training
    set_seed(training.seed)  # the fresh head
    folder = str(encoder_folder(DEFAULT_ENCODER))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(task.labels))
    max_length = load_encoder().max_seq_length or tokenizer.model_max_length
    tokens = tokenise(rows.texts, tokenizer, max_length)
    labels = targets(rows, task)
    dataset = [
        {name: values[row] for name, values in tokens.items()} | {"labels": int(label)}
        for row, label in enumerate(labels)
        if label != IGNORE_INDEX
    ]
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as nothing_is_kept:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=nothing_is_kept,
                seed=training.seed,
                num_train_epochs=int(training.epochs or 0),  # resolved, so neither is missing
                per_device_train_batch_size=training.batch_size or 0,
                bf16=True,
                train_sampling_strategy="group_by_length",
                use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
                dataloader_pin_memory=torch.cuda.is_available(),
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                report_to="none",
            ),
            train_dataset=dataset,
            processing_class=tokenizer,  # so batches are padded to their own longest text
            callbacks=[stopwatch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logits = classify(model, tokenizer, tokenise(evaluation.texts, tokenizer, max_length))
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


def targets(examples: Examples, task: TaskSpec) -> np.ndarray:
    """Turn a task's label cells into class indices, `IGNORE_INDEX` where a cell is empty."""
    index = {label: number for number, label in enumerate(task.labels)}
    return np.array([index.get(cell, IGNORE_INDEX) for cell in examples.cells[task.name]])


def hits(logits: Tensor, evaluation: Examples, task: TaskSpec) -> np.ndarray:
    """Say for each labelled row whether the highest logit is its label's. Shape: (R,)."""
    labels = targets(evaluation, task)
    return (logits.argmax(dim=-1).numpy() == labels)[labels != IGNORE_INDEX].astype(float)


def compare(task: str, ours: Sequence[Outcome], theirs: Sequence[dict[str, Outcome]]) -> Comparison:
    """Put one task's outcomes of all seeds side by side."""
    own = np.stack([outcome.correct[task] for outcome in ours])
    other = np.stack([outcomes[task].correct[task] for outcomes in theirs])
    ratios = [alone[task].seconds / joint.seconds for joint, alone in zip(ours, theirs, strict=True)]
    return Comparison(task, own, other, *paired_interval(own - other), float(np.median(ratios)))


def paired_interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean difference over seeds and rows, both drawn again each time.

    The rows are the same for all seeds, so a draw takes whole rows and whole seeds of the grid.

    Args:
        differences: Shape: (S, R)
    """
    generator = np.random.default_rng(0)
    seeds, rows = differences.shape
    means = [
        differences[generator.integers(seeds, size=seeds)][:, generator.integers(rows, size=rows)].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def as_table(comparisons: Sequence[Comparison]) -> list[str]:
    """Show the comparison, accuracies in per cent and differences in points."""
    lines = [
        "| task | ours, jointly | Trainer, alone | difference | 95 % interval | required | time, Trainer / ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in comparisons:
        ours, theirs = 100 * one.ours.mean(), 100 * one.theirs.mean()
        lines.append(
            f"| {one.task} | {ours:.1f}{by_seed(one.ours)} | {theirs:.1f}{by_seed(one.theirs)} | {ours - theirs:+.1f} "
            f"| {100 * one.low:+.1f} to {100 * one.high:+.1f} | {'met' if one.holds else 'NOT MET'} "
            f"| {one.time_ratio:.1f} |"
        )
    lines += [
        "",
        f"Required: the interval's upper end above 0 and its lower end above {100 * MIN_DIFFERENCE:.0f} points.",
    ]
    return lines


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


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def tell(what: str, outcome: Outcome) -> None:
    """Report progress on stderr."""
    scores = ", ".join(f"{task} {correct.mean():.3f}" for task, correct in outcome.correct.items())
    print(f"{what}: {scores}, {outcome.seconds:.0f} s of training", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
