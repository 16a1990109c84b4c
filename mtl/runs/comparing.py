"""Does sharing pay? The same data, split, budget and seeds, once jointly and once for each task alone.

A comparison is ordinary runs; the first joint one heads it and holds `comparison.json`, which names the others. What
it says is a function of the runs' own files: whoever looks sees how far it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtl.config import RunConfig, SamplingOptions
from mtl.data.entities import spans_or_none
from mtl.data.preparing import cut
from mtl.data.reading import Table, is_missing
from mtl.data.splitting import Examples, Split, Splits
from mtl.errors import CheckpointError, ConfigError
from mtl.runs.files import write_json
from mtl.runs.store import Run, RunStore

if TYPE_CHECKING:
    import numpy as np

FILE = "comparison.json"
DRAWS = 1_000
MOST_SEEDS = 5


def create(
    store: RunStore,
    config: RunConfig,
    table: Table,
    *,
    near: Sequence[Sequence[int]] | None = None,
    seeds: int = 1,
    files: Sequence[str] = (),
    token: str = "",
) -> list[Run]:
    """Make the runs of a comparison, ready for a worker, in the order in which they are to be run.

    Args:
        store: Where they are made.
        config: Of the joint run, as the person gave it; its seed is the first one.
        table: The data.
        near: Groups of rows with nearly the same text, wanted where `data.split.near_duplicates` is set.
        seeds: How often everything is trained.
        files: What the person calls the files.
        token: The owner's secret.

    Raises:
        ConfigError: There is one task, or a number of seeds that is not accepted.
        UserError: The file or the configuration cannot be used; nothing was created.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(f"The number of seeds must be between 1 and {MOST_SEEDS}.")
    first = store.create(config, table, near=near, files=files, token=token)
    base = first.config
    if len(base.tasks) < 2:
        store.discard(first)
        raise ConfigError("There is one task, so nothing is shared; choose two or more tasks to compare.")
    split = first.split()
    sides = cut(first.table(), base, split)
    joint, alone = [first], {task: list[Run]() for task in base.tasks}
    for number in range(seeds):
        seeded = _with_seed(base, base.training.seed + number)
        if number:
            joint.append(store.vary(first, seeded, split, token))
        for task in base.tasks:
            alone[task].append(store.vary(first, _only(seeded, task), _labelled(sides, task), token))
    write_json(
        first.path / FILE,
        {
            "joint": [run.name for run in joint],
            "alone": {task: [run.name for run in runs] for task, runs in alone.items()},
        },
    )
    return [run for group in zip(joint, *alone.values(), strict=True) for run in group]


def _with_seed(config: RunConfig, seed: int) -> RunConfig:
    return config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})


def _only(config: RunConfig, task: str) -> RunConfig:
    """Leave all tasks but one out of a resolved configuration."""
    options = config.training.sampling_options
    if options.balance_task not in (None, task):
        options = SamplingOptions(**options.model_dump() | {"balance_task": None})
    return config.model_copy(
        update={
            "tasks": {task: config.tasks[task]},
            "data": config.data.model_copy(update={"task_columns": (task,)}),
            "training": config.training.model_copy(update={"sampling_options": options}),
        }
    )


def _labelled(sides: Splits, task: str) -> Split:
    """Keep of each side the rows that carry a task's label."""
    return Split(*(_rows(examples, task) for examples in (sides.train, sides.validation, sides.test)))


def _rows(examples: Examples, task: str) -> tuple[int, ...]:
    cells = examples.cells[task]
    return tuple(row for row, cell in zip(examples.rows, cells, strict=True) if not is_missing(cell))


def comparison(run: Run) -> dict[str, Any] | None:
    """Read which runs a run is compared with; None if it heads no comparison."""
    try:
        return json.loads((run.path / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def outcome(store: RunStore, run: Run) -> dict[str, Any] | None:
    """Say what a comparison has come to.

    Returns:
        None if the run heads none; else `done` and `total` runs, whether it is `finished`, and then `tasks` (each with
        `task`, `metric`, `joint`, `alone`, `difference`, and its 95 % interval `low` to `high`), `gain`, the mean over
        the tasks of the difference as a share of the score alone (Maninis et al. 2019, arXiv:1904.08918), and
        `sentence`, what to do.
    """
    named = comparison(run)
    if named is None or "outcome" in named:
        return named and named["outcome"]
    joint = _found(store, named["joint"])
    alone = {task: _found(store, names) for task, names in named["alone"].items()}
    runs = [one for group in (joint, *alone.values()) for one in group]
    total = len(named["joint"]) + sum(map(len, named["alone"].values()))
    done = sum(one.status.is_final for one in runs) + total - len(runs)
    found: dict[str, Any] = {"done": done, "total": total, "finished": done == total, "tasks": [], "gain": None}
    if done < total:
        return found | {"sentence": f"{done} of {total} runs are done."}
    failed = [one for one in runs if not (one.report() or {}).get("test")]
    if failed or len(runs) < total:
        return found | {"sentence": "Not every run reached its test rows, so they cannot be compared."}
    tasks = [_compare(task, joint, runs) for task, runs in alone.items()]
    gains = [one["difference"] / one["alone"] for one in tasks if one["alone"]]
    gain = sum(gains) / len(gains) if gains else None
    found |= {"tasks": tasks, "gain": gain, "sentence": advice(tasks)}
    write_json(run.path / FILE, named | {"outcome": found})  # it takes seconds, and a page asks every second
    return found


def _found(store: RunStore, names: Sequence[str]) -> list[Run]:
    runs = []
    for name in names:
        try:
            runs.append(store.open(name))
        except CheckpointError:  # deleted meanwhile
            continue
    return runs


def _compare(task: str, joint: Sequence[Run], alone: Sequence[Run]) -> dict[str, Any]:
    import numpy as np

    metric = (joint[0].report() or {})["tasks"][task]["main"]
    pairs = []
    for ours, theirs in zip(joint, alone, strict=True):
        left, right = outcomes(ours, task), outcomes(theirs, task)
        rows = [row for row in left if row in right]
        pairs.append((_stack(left, rows), _stack(right, rows)))
    score = SCORERS[metric]
    ours, theirs = (np.mean([score(pair[side]) for pair in pairs]) for side in (0, 1))
    generator = np.random.default_rng(0)
    count = len(pairs[0][0])
    drawn = []
    for _ in range(DRAWS):
        seeds = generator.integers(len(pairs), size=len(pairs))
        some = generator.integers(count, size=count)
        drawn.append(np.mean([score(pairs[s][0][some]) - score(pairs[s][1][some]) for s in seeds]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "task": task,
        "metric": metric,
        "joint": float(ours),
        "alone": float(theirs),
        "difference": float(ours - theirs),
        "low": float(low),
        "high": float(high),
    }


def _stack(found: Mapping[str, Sequence[int]], rows: Sequence[str]) -> np.ndarray:
    import numpy as np

    return np.array([found[row] for row in rows])


def outcomes(run: Run, task: str) -> dict[str, list[int]]:
    """Read what a run said of a task on its test rows.

    Returns:
        Row -> (true class, predicted class); for entities (exactly found, predicted, true) counts.
    """
    lines = (run.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    config = run.config.tasks[task]
    if config.kind == "token_classification":
        return {str(row["row"]): _entity_counts(row, task) for row in rows if not is_missing(row[task])}
    number = {label: index for index, label in enumerate(config.labels or ())}
    return {
        str(row["row"]): [number[row[task]], number[row[f"{task}_predicted"]]]
        for row in rows
        if not is_missing(row[task])
    }


def _entity_counts(row: Mapping[str, Any], task: str) -> list[int]:
    (truth,) = spans_or_none([row["text"]], [row[task]])
    (guess,) = spans_or_none([row["text"]], [row[f"{task}_predicted"]])
    found = set(truth or ()) & set(guess or ())
    return [len(found), len(guess or ()), len(truth or ())]


def _confusion(pairs: np.ndarray) -> np.ndarray:
    import numpy as np

    size = int(pairs.max()) + 1
    return np.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size * size).reshape(size, size)


def _f1s(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the F1 of each class that occurs, and how often it is the true one."""
    table = _confusion(pairs)
    hits, truths, guesses = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    occurs = truths + guesses > 0
    return (2 * hits / (truths + guesses).clip(1))[occurs], truths[occurs]


def _weighted_f1(pairs: np.ndarray) -> float:
    scores, truths = _f1s(pairs)
    return float((scores * truths).sum() / truths.sum())


def _macro_recall(pairs: np.ndarray) -> float:
    table = _confusion(pairs)
    truths = table.sum(axis=1)
    return float((table.diagonal()[truths > 0] / truths[truths > 0]).mean())


def _ratio(hits: float, total: float) -> float:
    return float(hits / total) if total else 0.0


SCORERS: dict[str, Any] = {
    "accuracy": lambda pairs: float((pairs[:, 0] == pairs[:, 1]).mean()),
    "macro_f1": lambda pairs: float(_f1s(pairs)[0].mean()),
    "weighted_f1": _weighted_f1,
    "macro_recall": _macro_recall,
    "entity_f1": lambda counts: _ratio(2 * counts[:, 0].sum(), counts[:, 1:].sum()),
    "entity_precision": lambda counts: _ratio(counts[:, 0].sum(), counts[:, 1].sum()),
    "entity_recall": lambda counts: _ratio(counts[:, 0].sum(), counts[:, 2].sum()),
}


def advice(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Say in a sentence what to do, from the intervals of the differences."""
    better = [one["task"] for one in tasks if one["low"] > 0]
    worse = [one["task"] for one in tasks if one["high"] < 0]
    if not better and not worse:
        return "No difference is shown: train jointly, since one model does the work of several for the cost of one."
    if not worse:
        verb = "is" if len(better) == 1 else "are"
        return f"Sharing pays: {_listed(better)} {verb} better jointly, and no task is shown to be worse."
    gain = f", though {_listed(better)} {'gains' if len(better) == 1 else 'gain'}" if better else ""
    return (
        f"Sharing costs {_listed(worse)}{gain}: try more epochs, a larger loss weight or another weighting for "
        f"{'it' if len(worse) == 1 else 'them'}, or train {'it' if len(worse) == 1 else 'them'} alone."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
