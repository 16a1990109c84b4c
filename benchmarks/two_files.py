"""Two files, one model: is a task worse for the other, and is the embedding still one?

    python benchmarks/two_files.py --topics ag_news.csv --sentiments tweet_sentiment.csv --sts stsb_validation.csv
        [--rows 4000] [--epochs 2] [--seeds 2] [--freezings balanced progressive] [--record]

Topic accuracy and sentiment macro recall of the joint run, against each task alone on the same rows, with bootstrap
intervals over rows; and the Spearman correlation of STS-B (dev) of the embedding after training, for every freezing.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.runs import (
    Trained,
    command,
    draw,
    environment,
    finish,
    learn,
    parser,
    read,
    seeded,
    sts_spearman,
    tell,
    together,
)
from benchmarks.weightings import labelled, only
from mtl.config import RunConfig, TrainingConfig, resolve
from mtl.config_text import override
from mtl.data.batching import IGNORE_INDEX
from mtl.modeling.encoder import load_encoder
from mtl.modeling.multitask import MultiTaskModel

FREEZINGS: dict[str, list[str]] = {
    "embeddings (balanced)": [],
    "bottom 4 layers": ["training.freeze=bottom.4"],
    "nothing": ["training.freeze=nothing"],
    "nothing, stay_close 1": ["training.freeze=nothing", "training.stay_close=1"],
    "progressive": [
        "training.preset=progressive",
        "training.epochs=5",
        "training.unfreezing.heads_epochs=1",
        "training.unfreezing.epochs=1",
    ],
    "encoder (frozen)": ["training.preset=frozen"],
}
DRAWS = 2_000


def main() -> None:
    """Train all, compare, print, and record if asked to."""
    options = parser(__doc__)
    for name in ("--topics", "--sentiments", "--sts"):
        options.add_argument(name, type=Path, required=True)
    options.add_argument("--rows", type=int, default=4_000, help="training rows of both files together")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--evaluation-rows", type=int, default=2_500)
    options.add_argument("--freezings", nargs="*", default=[""], help="those whose name holds one of these words")
    given = options.parse_args()
    freezings = {name: FREEZINGS[name] for name in FREEZINGS if any(word in name for word in given.freezings)}
    config, splits = read([given.topics, given.sentiments], [f"training.epochs={given.epochs}"])
    evaluation = draw(together(splits.validation, splits.test), given.evaluation_rows, 0)
    topic, sentiment = config.tasks
    metrics = {topic: "accuracy", sentiment: "macro_recall"}
    lines = ["| trained | frozen | topic accuracy | sentiment macro recall | STS-B Spearman |", "|---|---|---|---|---|"]
    before = sts_spearman(MultiTaskModel(load_encoder(), {}, ()), given.sts)
    lines.append(f"| not at all | – | – | – | {100 * before:.2f} |")
    alone: dict[str, list[Trained]] = {task: [] for task in config.tasks}
    joint: dict[str, list[Trained]] = {name: [] for name in freezings}
    drifts: dict[str, list[float]] = {name: [] for name in freezings}
    for seed in range(given.seeds):
        rows = draw(splits.train, given.rows, seed)
        for task in config.tasks:
            ran = learn(only(task, seeded(config, seed)), labelled(rows, task), labelled(evaluation, task))
            alone[task].append(ran)
            tell(f"seed {seed}, {task} alone: {ran.scored.scores[task]}, {ran.seconds:.0f} s")
        for name, settings in freezings.items():
            ran = learn(frozen(config, settings, seed), rows, evaluation)
            joint[name].append(ran)
            drifts[name].append(sts_spearman(ran.model, given.sts))
            tell(f"seed {seed}, {name}: {ran.scored.scores}, STS {drifts[name][-1]:.4f}, {ran.seconds:.0f} s")
    cells = [shown(alone[task], task, metrics[task]) for task in config.tasks]
    lines.append(f"| each alone | embeddings (balanced) | {cells[0]} | {cells[1]} | – |")
    for name, runs in joint.items():
        cells = [shown(runs, task, metrics[task]) for task in config.tasks]
        lines.append(f"| jointly | {name} | {cells[0]} | {cells[1]} | {100 * float(np.mean(drifts[name])):.2f} |")
    title = f"{given.topics.name} and {given.sentiments.name} in one model, rows {given.rows:,}, epochs {given.epochs}"
    text = [f"## {date.today():%Y-%m-%d}: {title}, seeds {given.seeds}", "", command(), "", *lines, ""]
    text.append(
        f"Per cent, mean over the seeds, 95 % bootstrap interval over {len(evaluation):,} evaluation rows. The presets "
        f"frozen and progressive have their own number of epochs. {environment(alone[topic][0].numerics)}"
    )
    finish("\n".join(text), given.record)


def frozen(config: RunConfig, settings: list[str], seed: int) -> RunConfig:
    """Change what is frozen; a preset brings its own epochs and rates."""
    own = {
        "epochs": None,
        "freeze": None,
        "encoder_learning_rate": None,
        "embeddings_learning_rate": None,
        "layer_decay": None,
        "patience": None,
    }
    values = config.training.model_dump() | {"seed": seed}
    if any("preset" in setting for setting in settings):
        values |= own
    return resolve(override(config.model_copy(update={"training": TrainingConfig(**values)}), settings), 1)


def shown(runs: list[Trained], task: str, metric: str) -> str:
    """Show the mean over the seeds and the interval over rows."""
    mean = np.mean([ran.scored.scores[task][metric] for ran in runs])
    low, high = interval(runs, task, metric)
    return f"{100 * mean:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def interval(runs: list[Trained], task: str, metric: str) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over the rows of the mean over the seeds."""
    pairs = []
    for ran in runs:
        labels = ran.scored.labels[task]
        known = labels != IGNORE_INDEX
        pairs.append((labels[known].numpy(), ran.scored.logits[task].argmax(dim=-1)[known].numpy()))
    generator = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        drawn = generator.integers(len(pairs[0][0]), size=len(pairs[0][0]))
        found.append(np.mean([score(truth[drawn], guess[drawn], metric) for truth, guess in pairs]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def score(truth: np.ndarray, guess: np.ndarray, metric: str) -> float:
    """Compute accuracy or macro recall."""
    if metric == "accuracy":
        return float((truth == guess).mean())
    return float(np.mean([(guess[truth == label] == label).mean() for label in np.unique(truth)]))


if __name__ == "__main__":
    main()
