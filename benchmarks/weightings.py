"""Does sharing pay, and does a weighting help? Joint training under several weightings against each task alone.

    python benchmarks/weightings.py --data FILE.csv [--weightings fixed uncertainty pcgrad upgrad] [--rows 2000]
        [--epochs 2] [--joint-epochs 4] [--seeds 3] [--record]

All runs have the defaults apart from the weighting, the same rows and the same seed, and keep their last weights.
With as many epochs jointly as alone, the shared layers make as many steps for all tasks as they make for each alone;
with twice as many for two tasks, the encoder passes over as many texts as in both single runs together.
The interval is a paired bootstrap over evaluation rows and seeds of the difference in accuracy, joint minus alone.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.intervals import mean_interval
from benchmarks.runs import (
    Trained,
    command,
    draw,
    environment,
    finish,
    learn,
    parser,
    read,
    right,
    seeded,
    tell,
    together,
)
from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.reading import is_missing
from mtl.data.splitting import Examples


def main() -> None:
    """Train all, compare, print, and record if asked to."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, nargs="+", required=True)
    options.add_argument("--weightings", nargs="+", default=["fixed", "uncertainty", "pcgrad", "upgrad"])
    options.add_argument("--rows", type=int, default=2_000)
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--joint-epochs", type=int, help="of the joint runs; by default as many as alone")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--evaluation-rows", type=int, default=2_000)
    options.add_argument("--set", action="append", default=[], help="KEY=VALUE for every run")
    given = options.parse_args()
    config, splits = read(given.data, [f"training.epochs={given.epochs}", *given.set])
    joint_epochs = given.joint_epochs or given.epochs
    evaluation = draw(together(splits.validation, splits.test), given.evaluation_rows, 0)
    joint: dict[str, list[Trained]] = {weighting: [] for weighting in given.weightings}
    alone: dict[str, list[Trained]] = {task: [] for task in config.tasks}
    for seed in range(given.seeds):
        rows = draw(splits.train, given.rows, seed)
        for task in config.tasks:
            alone[task].append(
                learn(only(task, seeded(config, seed)), labelled(rows, task), labelled(evaluation, task))
            )
            tell(f"seed {seed}, {task} alone: {shown(alone[task][-1])}")
        for weighting in given.weightings:
            weighted = override(
                seeded(config, seed), [f"training.weighting={weighting}", f"training.epochs={joint_epochs}"]
            )
            joint[weighting].append(learn(weighted, rows, evaluation))
            tell(f"seed {seed}, {weighting}: {shown(joint[weighting][-1])}")
    name = ", ".join(path.name for path in given.data)
    numerics = alone[next(iter(alone))][0].numerics
    text = [
        f"## {date.today():%Y-%m-%d}: joint minus alone under {len(joint)} weightings, {name}, rows {given.rows:,}, "
        f"epochs {given.epochs} alone, {joint_epochs} jointly, seeds {given.seeds}",
        "",
        command(),
        "",
        *table(joint, alone),
        "",
        f"Accuracy in per cent, differences in points; required is an interval that ends above 0. {len(evaluation):,} "
        f"evaluation rows. {environment(numerics)}",
    ]
    finish("\n".join(text), given.record)


def only(task: str, config: RunConfig) -> RunConfig:
    """Leave all tasks but one out of a configuration."""
    return config.model_copy(update={"tasks": {task: config.tasks[task]}})


def labelled(rows: Examples, task: str) -> Examples:
    """Take the rows that carry a task's label."""
    return rows.take([row for row, cell in enumerate(rows.cells[task]) if not is_missing(cell)])


def shown(trained: Trained) -> str:
    """Say how a training went."""
    scores = ", ".join(f"{task} {score['accuracy']:.4f}" for task, score in trained.scored.scores.items())
    return f"{scores}, {trained.seconds:.0f} s"


def table(joint: dict[str, list[Trained]], alone: dict[str, list[Trained]]) -> list[str]:
    """Compare every weighting with every task alone."""
    lines = ["| weighting | task | jointly | alone | difference | 95 % interval | required | time, alone / jointly |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    total = sum(np.median([one.seconds for one in runs]) for runs in alone.values())
    for weighting, runs in joint.items():
        ratio = total / np.median([one.seconds for one in runs])
        for task, others in alone.items():
            ours = np.stack([right(one.scored, task) for one in runs])
            theirs = np.stack([right(one.scored, task) for one in others])
            low, high = mean_interval(ours - theirs)
            lines.append(
                f"| {weighting} | {task} | {100 * ours.mean():.2f} | {100 * theirs.mean():.2f} "
                f"| {100 * (ours.mean() - theirs.mean()):+.2f} | {100 * low:+.2f} to {100 * high:+.2f} "
                f"| {'met' if high > 0 else 'NOT MET'} | {ratio:.1f} |"
            )
    return lines


if __name__ == "__main__":
    main()
