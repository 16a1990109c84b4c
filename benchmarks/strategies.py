"""What should a person choose? Freezing, pooling, rates, weighting and sampling on 200 and 2,000 rows of one file.

    python benchmarks/strategies.py --data FILE.csv [--rows 200 2000] [--seeds 3] [--only WORD] [--record]

Every run has the defaults apart from the one choice that is named, and as many epochs as its preset says. The rows are
drawn anew for each seed, the same for every choice; the last weights are scored on rows that no run has seen.
"""

from __future__ import annotations

import statistics
import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.runs import command, draw, environment, finish, learn, parser, read, tell, together
from mtl.config import RunConfig, TaskConfig, resolve
from mtl.config_text import override

CHOICES: dict[str, list[str]] = {
    "everything frozen": ["training.freeze=everything", "training.epochs=1"],
    "encoder frozen (preset frozen)": ["training.preset=frozen"],
    "bottom 4 layers frozen": ["training.freeze=bottom.4"],
    "embeddings frozen (preset balanced)": [],
    "nothing frozen": ["training.freeze=nothing"],
    "progressive unfreezing (preset progressive)": ["training.preset=progressive"],
    "layer-wise decay (preset thorough)": ["training.preset=thorough"],
    "small rates (preset classic)": ["training.preset=classic"],
    "pooling cls": ["encoder.pooling=cls"],
    "pooling max": ["encoder.pooling=max"],
    "pooling attention": ["encoder.pooling=attention"],
    "one rate for all (5e-5)": ["training.head_learning_rate=5e-5"],
    "layer-wise decay 0.8": ["training.layer_decay=0.8"],
    "weighting uncertainty": ["training.weighting=uncertainty"],
    "sampling uniform": ["training.sampling=uniform"],
}


def main() -> None:
    """Run every choice and print one Markdown table."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--rows", type=int, nargs="+", default=[200, 2_000])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--evaluation-rows", type=int, default=1_000)
    options.add_argument("--only", default="", help="choices whose name holds this")
    options.add_argument(
        "--most", type=int, default=0, help="most epochs of any run, for a trial; 0: as many as it has"
    )
    given = options.parse_args()
    prepared, splits = read([given.data])
    evaluation = draw(together(splits.validation, splits.test), given.evaluation_rows, 0)
    chosen = {name: settings for name, settings in CHOICES.items() if given.only in name}
    found: dict[str, dict[int, list[dict[str, float]]]] = {name: {} for name in chosen}
    learns: dict[str, float] = {}
    numerics: dict[str, str] = {}
    for count in given.rows:
        for name, settings in chosen.items():
            for seed in range(given.seeds):
                config = configured(prepared, [*settings, f"training.seed={seed}"], count, given.most)
                trained = learn(config, draw(splits.train, count, seed), evaluation)
                found[name].setdefault(count, []).append(scores_of(trained.scored.scores))
                learns[name], numerics = trained.learns, trained.numerics
                tell(f"{count} rows, {name}, seed {seed}: {found[name][count][-1]}, {trained.seconds:.0f} s")
    title = f"choices on {given.data.name}, {' and '.join(f'{n:,}' for n in given.rows)} rows, {given.seeds} seeds"
    text = [f"## {date.today():%Y-%m-%d}: {title}", "", command(), "", *table(found, learns, given.rows), ""]
    text.append(
        f"Accuracy (entities: F1) in per cent, mean (range) over the seeds; {len(evaluation):,} evaluation rows. "
        f"{environment(numerics)}"
    )
    finish("\n".join(text), given.record)


def configured(prepared: RunConfig, settings: list[str], rows: int, most: int) -> RunConfig:
    """Change one choice of a prepared configuration, and resolve the rest for so many rows."""
    fresh = RunConfig(data=prepared.data, tasks={name: bare(task) for name, task in prepared.tasks.items()})
    config = resolve(override(fresh, settings), rows)
    epochs = config.training.epochs
    if most and isinstance(epochs, int) and epochs > most:
        config = override(config, [f"training.epochs={most}"])
    return config


def bare(task: TaskConfig) -> TaskConfig:
    """Keep of a task what the data decided."""
    return TaskConfig(kind=task.kind, labels=task.labels, merge=task.merge)


def scores_of(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return each task's accuracy, for entities the F1."""
    return {task: found.get("accuracy", found.get("entity_f1", 0.0)) for task, found in scores.items()}


def table(found: dict[str, dict[int, list[dict[str, float]]]], learns: dict[str, float], rows: list[int]) -> list[str]:
    """Lay the results out, a line per choice and a column per task and number of rows."""
    tasks = list(next(iter(found.values()))[rows[0]][0])
    heads = [f"{task}, {count:,}" for count in rows for task in tasks]
    lines = [f"| choice | learns | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for name, sizes in found.items():
        cells = [cell([scores[task] for scores in sizes[count]]) for count in rows for task in tasks]
        lines.append(f"| {name} | {learns[name]:.0%} | {' | '.join(cells)} |")
    return lines


def cell(values: list[float]) -> str:
    """Show a mean with its range."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f}–{100 * max(values):.1f})"


if __name__ == "__main__":
    main()
