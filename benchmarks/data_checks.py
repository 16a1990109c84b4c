"""Does the look at the data find what is wrong with it? Planted duplicates, contradictions and wrong labels.

    python benchmarks/data_checks.py --data FILE.csv [FILE.csv …] [--rows 5000] [--seeds 3] [--record]

Rows are drawn from the file, none of them equal to another after normalising. Then are planted, in per cent of them:
5 % exact duplicates (as they are, in capitals, with other punctuation or spaces, with a link or a mention added), 2 %
near duplicates (a word dropped, replaced, or swapped with its neighbour), 2 % contradictions (a copy, in other case or
punctuation, with another label), and 3 % wrong labels in each task (another class, each as likely as any other). The
table goes through the same doors as a person's: it is written as CSV, read, understood, profiled and checked. Labels
that were wrong before count against the precision. It prints Markdown; `--record` appends it to RESULTS.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from mtl.choices import DEFAULT_ENCODER
from mtl.config import RunConfig
from mtl.config_text import from_dict
from mtl.data.preparing import Understood, understand_table
from mtl.data.profile import profile
from mtl.data.reading import is_missing, read_file, read_table
from mtl.data.sameness import normalised
from mtl.errors import DataError, UserError
from mtl.inference.checks import NEAR_DUPLICATE, Checks, NearDuplicates, check, near_duplicates
from mtl.settings import settings

RESULTS = Path(__file__).with_name("RESULTS.md")
EXACT, NEAR, CONTRADICTIONS, NOISE = 0.05, 0.02, 0.02, 0.03
THRESHOLDS = (0.85, 0.9, 0.925, 0.95, 0.975)
WORDS = 5  # a shorter text is not a near duplicate of what is left of it

Rng = random.Random
Result = TypeVar("Result")


@dataclass
class Planted:
    """A table with known faults.

    Attributes:
        texts: One per row.
        labels: Task -> one per row; empty where it is missing.
        exact: (row, its copy).
        near: How a copy was changed -> (row, its copy).
        clashing: Task -> (row, its copy with another label).
        wrong: Task -> row -> the label it had, where it was replaced.
    """

    texts: list[str]
    labels: dict[str, list[str]]
    exact: list[tuple[int, int]] = field(default_factory=list)
    near: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    clashing: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    wrong: dict[str, dict[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class StageOne:
    """What is found without embeddings: groups of equal texts, and for each task those whose labels differ."""

    duplicates: Sequence[Sequence[int]]
    contradictions: Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True)
class TaskScore:
    """How one task's planted faults were found, as shares of 1."""

    contradictions: float
    listed: float
    precision: float
    recall: float
    first: float
    suggested: float


@dataclass(frozen=True)
class Threshold:
    """What a cosine threshold finds: the share of the planted near duplicates, and groups of other rows."""

    found: float
    groups: int
    largest: int


@dataclass(frozen=True)
class Score:
    """One table; `exact` and `near` are shares of what was planted, `near` at the default threshold."""

    rows: int
    exact: float
    near: dict[str, float]
    thresholds: dict[float, Threshold]
    tasks: dict[str, TaskScore]
    seconds: float


def main() -> None:
    """Plant, look, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="CSV files with a text and label columns")
    parser.add_argument("--rows", type=int, default=5_000, help="rows drawn from each file, anew for each seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--record", action="store_true", help="append the result to RESULTS.md")
    arguments = parser.parse_args()
    if min(arguments.rows, arguments.seeds) < 1:
        parser.error("rows and seeds must be at least 1")
    scores = {path: [score(path, arguments.rows, seed) for seed in range(arguments.seeds)] for path in arguments.data}
    text = as_text(scores, arguments.rows, arguments.seeds)
    print(text)
    if arguments.record:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}")


def score(path: Path, rows: int, seed: int) -> Score:
    """Plant faults in one file and look for them.

    Raises:
        UserError: The file cannot be used.
    """
    planted = plant(understand_table(read_file(path), RunConfig()), rows, seed)
    stage_one = look(planted)
    cache = settings().cache_dir
    start = time.perf_counter()
    checks = to_the_end(check(planted.texts, planted.labels, DEFAULT_ENCODER, cache))
    seconds = time.perf_counter() - start
    near = {
        threshold: to_the_end(near_duplicates(planted.texts, DEFAULT_ENCODER, cache, threshold=threshold))
        for threshold in THRESHOLDS
    }
    found = Score(
        rows=len(planted.texts),
        exact=share_together(planted.exact, stage_one.duplicates),
        near={name: share_together(its, checks.near.groups) for name, its in planted.near.items()},
        thresholds={threshold: measure_near(planted, its) for threshold, its in near.items()},
        tasks={task: measure_task(planted, stage_one, checks, task) for task in planted.labels},
        seconds=seconds,
    )
    print(f"{path.name}, seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def look(planted: Planted) -> StageOne:
    """Have the table profiled as the page does it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["text", *planted.labels])
    writer.writerows(zip(planted.texts, *planted.labels.values(), strict=True))
    config = from_dict({"data": {"text_column": "text", "task_columns": list(planted.labels)}})
    found = profile(understand_table(read_table(text.getvalue().encode()), config))
    return StageOne(found.duplicates, found.contradictions)


def to_the_end(steps: Generator[object, None, Result]) -> Result:
    """Run a check without showing its progress."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def plant(understood: Understood, rows: int, seed: int) -> Planted:
    """Draw rows that all differ, and add the faults to them.

    Raises:
        DataError: The file has too few rows.
    """
    rng = Rng(seed)
    first = {key: row for row, key in reversed(list(enumerate(understood.keys))) if key}
    drawn = rng.sample(sorted(first.values()), min(rows, len(first)))
    texts = [understood.texts[row] for row in drawn]
    planted = Planted(texts, {task: [cells[row] for row in drawn] for task, cells in understood.cells.items()})
    count = len(drawn)
    if not planted.labels or count < 200:
        raise DataError(f"{count} different rows with {len(planted.labels)} tasks are too few to plant anything in.")
    unused = rng.sample(range(count), count)
    plant_copies(planted, [unused.pop() for _ in range(round(EXACT * count))], rng)
    plant_near(planted, unused, round(NEAR * count), rng)
    plant_contradictions(planted, unused, round(CONTRADICTIONS * count), rng)
    for task, cells in planted.labels.items():
        labelled = [row for row in unused if not is_missing(cells[row])]
        plant_noise(planted, task, rng.sample(labelled, round(NOISE * len(labelled))), rng)
    return shuffled(planted, rng)


def copy(planted: Planted, row: int, text: str) -> int:
    """Append a row's copy with this text and return the new row."""
    planted.texts.append(text)
    for cells in planted.labels.values():
        cells.append(cells[row])
    return len(planted.texts) - 1


def other_case(text: str, rng: Rng) -> str:
    """Write it in capitals or without any."""
    return rng.choice([str.upper, str.lower])(text)


def other_punctuation(text: str, rng: Rng) -> str:
    """Change how it ends, or put it in quotes."""
    return rng.choice([re.sub(r"[.!?,;\s]+$", "", text) + "!!!", f'"{text}"', f"{text} ..."])


def other_spaces(text: str, rng: Rng) -> str:
    """Double a space, and add one at either end."""
    return f" {'  '.join(text.split(' '))} "


def with_link(text: str, rng: Rng) -> str:
    """Add a link."""
    return f"{text} https://example.org/{rng.randrange(10**6)}"


def with_mention(text: str, rng: Rng) -> str:
    """Address it to somebody."""
    return f"@someone{rng.randrange(100)} {text}"


SAME_WORDS: list[Callable[[str, Rng], str]] = [lambda text, _: text, other_case, other_punctuation, other_spaces]


def plant_copies(planted: Planted, rows: Sequence[int], rng: Rng) -> None:
    """Add exact duplicates: equal to the row after normalising."""
    for row in rows:
        text = rng.choice([*SAME_WORDS, with_link, with_mention])(planted.texts[row], rng)
        planted.exact.append((row, copy(planted, row, text)))


def dropped(words: list[str], at: int, _: str) -> list[str]:
    """Leave a word out."""
    return words[:at] + words[at + 1 :]


def replaced(words: list[str], at: int, other: str) -> list[str]:
    """Put another word in its place."""
    return [*words[:at], other, *words[at + 1 :]]


def swapped(words: list[str], at: int, _: str) -> list[str]:
    """Swap a word with its neighbour."""
    at = min(at, len(words) - 2)
    return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]


def plant_near(planted: Planted, unused: list[int], count: int, rng: Rng) -> None:
    """Add near duplicates, each changed in one word."""
    changes = {"dropped": dropped, "replaced": replaced, "swapped": swapped}
    planted.near = {name: [] for name in changes}
    keys = {normalised(text) for text in planted.texts}
    for row in list(unused):
        if sum(map(len, planted.near.values())) == count:
            return
        name = rng.choice(sorted(changes))
        words, others = planted.texts[row].split(), planted.texts[rng.choice(unused)].split()
        text = " ".join(changes[name](words, rng.randrange(len(words)), rng.choice(others))) if len(words) > 1 else ""
        if len(words) >= WORDS and normalised(text) not in keys:
            keys.add(normalised(text))
            planted.near[name].append((row, copy(planted, row, text)))
            unused.remove(row)


def plant_contradictions(planted: Planted, unused: list[int], count: int, rng: Rng) -> None:
    """Add copies with another label of one task, the tasks in turn."""
    planted.clashing = {task: [] for task in planted.labels}
    for number in range(count):
        task = list(planted.labels)[number % len(planted.labels)]
        cells = planted.labels[task]
        row = next((row for row in unused if not is_missing(cells[row])), None)
        if row is None:
            return
        unused.remove(row)
        new = copy(planted, row, rng.choice(SAME_WORDS)(planted.texts[row], rng))
        cells[new] = another(cells, cells[row], rng)
        planted.clashing[task].append((row, new))


def plant_noise(planted: Planted, task: str, rows: Sequence[int], rng: Rng) -> None:
    """Replace labels."""
    cells = planted.labels[task]
    planted.wrong[task] = {row: cells[row] for row in rows}
    for row in rows:
        cells[row] = another(cells, cells[row], rng)


def another(cells: Sequence[str], label: str, rng: Rng) -> str:
    """Draw another class of a task, each as likely as any other."""
    return rng.choice(sorted({cell for cell in cells if not is_missing(cell)} - {label}))


def shuffled(planted: Planted, rng: Rng) -> Planted:
    """Mix the rows, so that no place gives a copy away."""
    order = rng.sample(range(len(planted.texts)), len(planted.texts))
    place = {row: number for number, row in enumerate(order)}

    def moved(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(place[row], place[new]) for row, new in pairs]

    return Planted(
        [planted.texts[row] for row in order],
        {task: [cells[row] for row in order] for task, cells in planted.labels.items()},
        moved(planted.exact),
        {name: moved(pairs) for name, pairs in planted.near.items()},
        {task: moved(pairs) for task, pairs in planted.clashing.items()},
        {task: {place[row]: label for row, label in rows.items()} for task, rows in planted.wrong.items()},
    )


def measure_near(planted: Planted, near: NearDuplicates) -> Threshold:
    """Compare the near duplicates with what was planted."""
    pairs = [pair for its in planted.near.values() for pair in its]
    copies = {row for pair in pairs for row in pair}
    others = [len(group) for group in near.groups if not copies & set(group)]
    return Threshold(share_together(pairs, near.groups), len(others), max(map(len, near.groups), default=0))


def measure_task(planted: Planted, stage_one: StageOne, checks: Checks, task: str) -> TaskScore:
    """Compare one task's contradictions and suspect labels with what was planted."""
    wrong = planted.wrong[task]
    mistaken = wrong.keys() | {new for _, new in planted.clashing[task]}
    suspects = checks.suspects[task].suspects
    hits = [suspect for suspect in suspects if suspect.row in wrong]
    first = suspects[: len(mistaken)]
    return TaskScore(
        contradictions=share_together(planted.clashing[task], stage_one.contradictions[task]),
        listed=len(suspects) / checks.suspects[task].checked,
        precision=sum(suspect.row in mistaken for suspect in suspects) / max(1, len(suspects)),
        recall=len(hits) / len(wrong),
        first=sum(suspect.row in mistaken for suspect in first) / max(1, len(first)),
        suggested=sum(suspect.suggested == wrong[suspect.row] for suspect in hits) / max(1, len(hits)),
    )


def share_together(pairs: Sequence[tuple[int, int]], groups: Sequence[Sequence[int]]) -> float:
    """Return the share of the pairs that lie in one group."""
    group_of = {row: number for number, group in enumerate(groups) for row in group}
    return sum(group_of.get(row, -1) == group_of.get(new, -2) for row, new in pairs) / len(pairs)


def as_text(scores: Mapping[Path, Sequence[Score]], rows: int, seeds: int) -> str:
    """Describe the result as Markdown."""
    files = " ".join(path.name for path in scores)
    every = [score for its in scores.values() for score in its]
    exact = all(score.exact == 1 for score in every)
    contradictions = all(task.contradictions == 1 for score in every for task in score.tasks.values())
    most = all(task.recall > 0.5 for score in every for task in score.tasks.values())
    return "\n".join(
        [
            f"## {date.today():%Y-%m-%d}: planted duplicates, contradictions and wrong labels, seeds {seeds}",
            "",
            f"`python benchmarks/data_checks.py --data {files} --rows {rows} --seeds {seeds}`",
            "",
            "In per cent, means over the seeds (range).",
            "",
            *duplicate_table(scores),
            "",
            *threshold_table(scores),
            "",
            *label_table(scores),
            "",
            f"Required: all exact duplicates ({verdict(exact)}), all contradictions ({verdict(contradictions)}), and "
            f"more than half of the wrong labels of every task ({verdict(most)}).",
            f"The default threshold is {NEAR_DUPLICATE}. "
            f"scikit-learn {version('scikit-learn')}, cleanlab {version('cleanlab')}, torch {version('torch')}; "
            f"{os.cpu_count()} cores.",
            "",
        ]
    )


def duplicate_table(scores: Mapping[Path, Sequence[Score]]) -> list[str]:
    """Show what was found of the copies; the near ones, and the time, are of the second stage."""
    lines = [
        "| data | rows | exact duplicates found | near: dropped | near: replaced | near: swapped | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for path, its in scores.items():
        near = " | ".join(percent([score.near[name] for score in its]) for name in ("dropped", "replaced", "swapped"))
        seconds = statistics.mean(score.seconds for score in its)
        exact = percent([score.exact for score in its])
        lines.append(f"| {path.name} | {its[0].rows:,} | {exact} | {near} | {seconds:.0f} |")
    return lines


def threshold_table(scores: Mapping[Path, Sequence[Score]]) -> list[str]:
    """Show what other thresholds would find."""
    lines = [
        "Near duplicates by threshold: planted ones found; other groups; rows of the largest group.",
        "",
        f"| data | {' | '.join(map(str, THRESHOLDS))} |",
        "|---|" + "---|" * len(THRESHOLDS),
    ]
    for path, its in scores.items():
        cells = []
        for threshold in THRESHOLDS:
            found = [score.thresholds[threshold] for score in its]
            groups, largest = (statistics.mean(getattr(one, name) for one in found) for name in ("groups", "largest"))
            cells.append(f"{100 * statistics.mean(one.found for one in found):.0f}; {groups:.0f}; {largest:.0f}")
        lines.append(f"| {path.name} | {' | '.join(cells)} |")
    return lines


def label_table(scores: Mapping[Path, Sequence[Score]]) -> list[str]:
    """Show what was found of the contradictions and the wrong labels of each task."""
    lines = [
        "| data | task | contradictions found | wrong labels found (recall) | precision | precision at the top "
        "| rows listed | suggestion right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path, its in scores.items():
        for task in its[0].tasks:
            cells = [
                percent([getattr(score.tasks[task], name) for score in its])
                for name in ("contradictions", "recall", "precision", "first", "listed", "suggested")
            ]
            lines.append(f"| {path.name} | {task} | {' | '.join(cells)} |")
    lines += ["", "The top is as many rows as there are planted wrong labels, those of contradictions included."]
    return lines


def percent(shares: Sequence[float]) -> str:
    """Show a mean and, if there is one, the range."""
    mean, low, high = (f"{100 * value:.0f}" for value in (statistics.mean(shares), min(shares), max(shares)))
    return mean if low == high else f"{mean} ({low}–{high})"


def verdict(holds: bool) -> str:
    """Say whether something required holds."""
    return "met" if holds else "NOT MET"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
