"""Intents and entities in one model: accuracy and entity F1 on rows kept aside, with bootstrap intervals.

python benchmarks/intent_entities.py --data snips_train.csv --validation snips_validation.csv [--epochs 5]
    [--set KEY=VALUE] [--record]
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.intervals import mean_interval
from benchmarks.runs import command, environment, finish, learn, parser, read, right, seeded, tell, together
from mtl.data.preparing import merge_labels
from mtl.data.reading import read_file
from mtl.data.splitting import Examples
from mtl.training.metrics import Evaluation

DRAWS = 2_000
GOALS = {"accuracy": 0.97, "entity_f1": 0.92}


def main() -> None:
    """Train, score, print, and record if asked to."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--validation", type=Path, required=True)
    options.add_argument("--epochs", type=int, default=5)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--set", action="append", default=[])
    given = options.parse_args()
    config, splits = read([given.data], [f"training.epochs={given.epochs}", *given.set])
    table = merge_labels(read_file(given.validation), config.tasks)
    cells = {task: tuple(table.columns[task]) for task in config.tasks}
    texts = tuple(table.columns[(config.data.text_column or ("text",))[0]])
    rows = together(splits.train, splits.validation, splits.test)
    trained = learn(seeded(config, given.seed), rows, Examples(texts, cells, tuple(range(len(texts)))))
    tell(f"{trained.scored.scores}, {trained.seconds:.0f} s")
    lines = ["| task | score | value | 95 % interval | goal |", "|---|---|---|---|---|"]
    for task, scores in trained.scored.scores.items():
        name = "entity_f1" if "entity_f1" in scores else "accuracy"
        low, high = interval(trained.scored, task)
        met = "met" if scores[name] >= GOALS[name] else "NOT MET"
        lines.append(f"| {task} | {name} | {scores[name]:.4f} | {low:.4f} to {high:.4f} | {GOALS[name]} {met} |")
    title = f"{given.data.name}, {', '.join(config.tasks)} in one model, epochs {given.epochs}, seed {given.seed}"
    text = [f"## {date.today():%Y-%m-%d}: {title}", "", command(), "", *lines, ""]
    text.append(f"{len(rows):,} training rows, {len(texts):,} scored. {environment(trained.numerics)}")
    finish("\n".join(text), given.record)


def interval(scored: Evaluation, task: str) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over rows, of the accuracy or of the entity F1."""
    if task not in scored.spans:
        return mean_interval(right(scored, task))
    pairs = [(set(truth or ()), guess) for truth, guess in zip(scored.spans[task], scored.entities[task], strict=True)]
    counts = np.array([[_hits(truth, guess), len(guess.entities), len(truth)] for truth, guess in pairs])
    generator = np.random.default_rng(0)
    sums = [counts[generator.integers(len(counts), size=len(counts))].sum(axis=0) for _ in range(DRAWS)]
    low, high = np.quantile([2 * hit / max(1, said + true) for hit, said, true in sums], [0.025, 0.975])
    return float(low), float(high)


def _hits(truth: set, guess: object) -> int:
    spans = {(span.start, span.end, span.label) for span in truth}
    return sum((entity.start, entity.end, entity.label) in spans for entity in guess.entities)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
