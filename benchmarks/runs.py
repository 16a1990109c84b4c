"""What the benchmarks of training share: files as the app reads them, one training, and its scores on other rows."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mtl.config import RunConfig, task_specs
from mtl.config_text import override
from mtl.data.batching import IGNORE_INDEX
from mtl.data.combining import read_configured
from mtl.data.preparing import cut, prepare
from mtl.data.splitting import Examples, Splits
from mtl.errors import UserError
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.settings import settings
from mtl.training.events import EpochEnd, RunBegin, RunEnd
from mtl.training.loop import train
from mtl.training.metrics import Evaluation

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("torch", "transformers", "sentence-transformers")


@dataclass(frozen=True)
class Trained:
    """One training and its scores.

    Attributes:
        scored: On the evaluation rows, with the last weights (there were no validation rows), in float32.
        model: With those weights.
        seconds: Of the epochs, without loading and scoring.
        numerics: Device, precision, attention and threads.
        learns: Share of the weights that learn.
    """

    scored: Evaluation
    model: MultiTaskModel
    seconds: float
    numerics: dict[str, str]
    learns: float


def read(files: Sequence[Path], options: Sequence[str] = ()) -> tuple[RunConfig, Splits]:
    """Read files as the app does, and prepare a run on them.

    Args:
        files: Several become one table.
        options: `KEY=VALUE` settings.

    Raises:
        UserError: They cannot be used.
    """
    config = override(RunConfig(), list(options))
    table = read_configured([(path, path.name) for path in files], config.data)
    prepared = prepare(table, config)
    return prepared.config, cut(table, prepared.config, prepared.split)


def learn(config: RunConfig, rows: Examples, evaluation: Examples) -> Trained:
    """Train on some rows to the last epoch, without validation, and score others.

    Raises:
        UserError: The training diverged.
    """
    model = build_model(config, task_specs(config))
    numerics: dict[str, str] = {}
    start = seconds = learns = 0.0
    for event in train(model, Splits(rows, rows.take([]), evaluation), config, cache_dir=settings().cache_dir):
        match event:
            case RunBegin():
                numerics, start = event.numerics, time.perf_counter()
                learns = event.trainable / event.parameters
            case EpochEnd():
                seconds = time.perf_counter() - start
            case RunEnd(test=test) if test:
                return Trained(test, model, seconds, numerics, learns)
            case RunEnd():
                raise UserError(f"The training of {', '.join(config.tasks)} failed: {event.reason}")
    raise UserError("The training ended without a word.")


def right(scored: Evaluation, task: str) -> np.ndarray:
    """Say for each labelled row of a classification task whether its class was found. Shape: (R,), 1 or 0."""
    labels = scored.labels[task]
    return (scored.logits[task].argmax(dim=-1) == labels)[labels != IGNORE_INDEX].numpy().astype(float)


def environment(numerics: dict[str, str]) -> str:
    """Say on what this was measured; times are comparable within one run only."""
    chosen = ", ".join(f"{name} {numerics[name]}" for name in ("device", "precision", "attention", "threads"))
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    system = f"{os.cpu_count()} cores, {platform.system()}"
    return f"Computed on {chosen}. Python {platform.python_version()}, {packages}; {system}."


def finish(text: str, record: bool) -> None:
    """Print a result and keep it if asked to."""
    print(text)
    if record:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Begin a script's options."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--record", action="store_true", help="append the result to RESULTS.md")
    return made


def command() -> str:
    """Return the command that does this again, with the names of files alone."""
    words = [Path(word).name if word.endswith(".csv") else word for word in sys.argv[1:] if word != "--record"]
    return f"`python benchmarks/{Path(sys.argv[0]).name} {' '.join(words)}`"


def tell(text: str) -> None:
    """Report progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def seeded(config: RunConfig, seed: int) -> RunConfig:
    """Change a configuration's seed."""
    return config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})


def draw(rows: Examples, count: int, seed: int) -> Examples:
    """Draw some rows; all of them if there are not more."""
    if count >= len(rows):
        return rows
    return rows.take(sorted(np.random.default_rng(seed).choice(len(rows), count, replace=False).tolist()))


def together(*sides: Examples) -> Examples:
    """Put the rows of several sides behind each other."""
    return Examples(
        tuple(text for side in sides for text in side.texts),
        {task: tuple(cell for side in sides for cell in side.cells[task]) for task in sides[0].cells},
        tuple(row for side in sides for row in side.rows),
    )


@torch.inference_mode()
def sts_spearman(model: MultiTaskModel, file: Path) -> float:
    """Correlate cosine similarities with the human scores of STS-B, by rank.

    Args:
        model: Whose embeddings are compared.
        file: With the columns sentence1, sentence2, score.
    """
    from scipy.stats import spearmanr

    from mtl.data.reading import read_file
    from mtl.inference.neighbours import unit
    from mtl.training.evaluation import embeddings_of, tokenised

    table = read_file(file)
    sides = []
    for name in ("sentence1", "sentence2"):
        texts = tuple(table.columns[name])
        rows = tokenised(model, Examples(texts, {}, tuple(range(len(texts)))))
        steps = embeddings_of(model, rows)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                sides.append(unit(end.value.numpy()))
                break
    scores = [float(cell) for cell in table.columns["score"]]
    return float(spearmanr((sides[0] * sides[1]).sum(axis=1), scores).statistic)
