"""What freezing and pooling do on the sample: test accuracy of each choice, for the guide's tables.

    python benchmarks/choices.py --seeds 3 --record

Every run uses the defaults apart from the one choice named, the same split, and as many epochs as its preset says.
A run takes up to a minute on two cores.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from mtl.config import RunConfig, task_specs
from mtl.config_text import override
from mtl.data.preparing import cut, prepare
from mtl.data.reading import read_file
from mtl.modeling.multitask import build_model
from mtl.settings import settings
from mtl.training.events import RunBegin, RunEnd
from mtl.training.loop import train

ROOT = Path(__file__).resolve().parents[1]
BOTTOM = "[embeddings, layer.0, layer.1, layer.2, layer.3, layer.4]"
CHOICES: dict[str, list[str]] = {
    "freeze everything": ["training.freeze=everything", "training.epochs=1"],
    "freeze the encoder (preset frozen)": ["training.preset=frozen"],
    "freeze all but the top layer": [f"training.freeze={BOTTOM}"],
    "freeze the embeddings (preset balanced)": [],
    "freeze nothing": ["training.freeze=nothing"],
    "preset classic": ["training.preset=classic"],
    "pooling cls": ["encoder.pooling=cls"],
    "pooling max": ["encoder.pooling=max"],
    "pooling attention": ["encoder.pooling=attention"],
    "projection to 64 dimensions": ["encoder.projection=64"],
    "without L2 normalisation": ["encoder.normalize=false"],
    "one rate for all (5e-5)": ["training.head_learning_rate=5e-5"],
}


def main() -> None:
    """Run every choice and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "sample.csv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="choices whose name holds this")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for every run, e.g. training.epochs=1")
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    options = parser.parse_args()
    chosen = {name: given for name, given in CHOICES.items() if options.only in name}
    results = {name: _scores(options.data, [*given, *options.set], options.seeds) for name, given in chosen.items()}
    table = _table(results, options.data, options.seeds)
    print(table)
    if options.record:
        with (ROOT / "benchmarks" / "RESULTS.md").open("a", encoding="utf-8") as file:
            file.write(table)


def _scores(data: Path, given: list[str], seeds: int) -> dict[str, list[float]]:
    """Train once per seed and return each task's test accuracies and the share of parameters that learnt."""
    found: dict[str, list[float]] = {}
    table = read_file(data)
    for seed in range(seeds):
        prepared = prepare(table, override(RunConfig(), [*given, f"training.seed={seed}"]))
        model = build_model(prepared.config, task_specs(prepared.config))
        splits = cut(table, prepared.config, prepared.split)
        for event in train(model, splits, prepared.config, cache_dir=settings().cache_dir):
            if isinstance(event, RunBegin):
                found.setdefault("learns", []).append(event.trainable / event.parameters)
            if isinstance(event, RunEnd) and event.test:
                for task, scores in event.test.scores.items():
                    found.setdefault(task, []).append(scores["accuracy"])
    print(given, found, flush=True)
    return found


def _table(results: dict[str, dict[str, list[float]]], data: Path, seeds: int) -> str:
    tasks = [task for task in next(iter(results.values())) if task != "learns"]
    lines = [
        f"\n## {datetime.date.today()}: choices on {data.name}, {seeds} seed{'s' if seeds > 1 else ''}\n",
        f"`python benchmarks/choices.py --seeds {seeds}`: test accuracy in per cent; of several seeds, mean (range).\n",
        f"| choice | parameters that learn | {' | '.join(tasks)} |",
        "|---|---|" + "---|" * len(tasks),
    ]
    for name, found in results.items():
        cells = [_cell(found[task]) for task in tasks]
        lines.append(f"| {name} | {found['learns'][0]:.0%} | {' | '.join(cells)} |")
    lines.append(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads.\n")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f}–{100 * max(values):.1f})"


if __name__ == "__main__":
    main()
