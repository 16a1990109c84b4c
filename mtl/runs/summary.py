"""A run in a few values, for lists: what it learns from what, where it stands, how good it is, how long it took."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.runs.files import read_records
from mtl.runs.store import Run, Status

TAIL_BYTES = 400  # of the clock times, more than a line
FILES = ("status.json", "title.txt", "report.json", "timing.jsonl", "events.jsonl", "best/manifest.json")


@dataclass(frozen=True)
class Summary:
    """What a list says of a run.

    Attributes:
        name: The run's id.
        title: What the person calls it; may be empty.
        status: Where it stands.
        tasks: What its heads answer, those kept from an earlier run too.
        files: What the person calls the files, without their folders.
        rows: Examples of each side of the split; empty before the run begins.
        scores: Task -> the score that counts and its value on the test rows.
        preset: Where the values that were left open come from.
        started: Seconds since 1970, None if the name does not say.
        seconds: From the start to the last step; None before the first.
        has_checkpoint: Whether there are weights to use.
        problem: Why it cannot be read; usually empty.
    """

    name: str
    title: str
    status: Status
    tasks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    preset: str = ""
    started: float | None = None
    seconds: float | None = None
    has_checkpoint: bool = False
    problem: str = ""


def summarise(run: Run) -> Summary:
    """Sum up a run; one whose files did not change is read once."""
    return _summary(run.path, tuple(_stamp(run.path / file) for file in FILES))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=1024)
def _summary(path: Path, stamps: tuple[tuple[int, int], ...]) -> Summary:
    run = Run(path)
    known: dict[str, Any] = {"status": run.status, "title": run.title, "started": _started(run.name)}
    try:
        config, tasks = run.config, tuple(run.tasks)
    except UserError as error:
        return Summary(run.name, **known, problem=str(error))
    return Summary(
        run.name,
        **known,
        tasks=tasks,
        files=tuple(Path(file).name for file in config.data.files),
        rows=_rows(path / "events.jsonl"),
        scores=scores_that_count(run.report()),
        preset=config.training.preset,
        seconds=_seconds(path / "timing.jsonl"),
        has_checkpoint=run.has_checkpoint,
    )


def scores_that_count(report: Mapping[str, Any] | None) -> dict[str, tuple[str, float]]:
    """Take from a report each task's score that counts: its name and its value. Older reports do not say which."""
    if not report or not report.get("test"):
        return {}
    named = {task: found.get("main") for task, found in (report.get("tasks") or {}).items()}
    found = {}
    for task, scores in report["test"].items():
        main = next((name for name in (named.get(task), "macro_f1", "entity_f1") if name in scores), None)
        if main:
            found[task] = (main, scores[main])
    return found


def _started(name: str) -> float | None:
    try:
        return time.mktime(time.strptime(name[:15], "%Y%m%d-%H%M%S"))
    except (ValueError, OverflowError):
        return None


def _rows(journal: Path) -> dict[str, int]:
    """Read from the first event how many examples there are, without the rest of the journal."""
    try:
        with journal.open("rb") as file:
            line = file.readline()
        return {str(side): int(count) for side, count in json.loads(line[9:])["rows"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _seconds(timings: Path) -> float | None:
    """Read the last clock time without those before it."""
    try:
        with timings.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return None
    skipped = 0 if size <= TAIL_BYTES else tail.find(b"\n") + 1
    records, _ = read_records(timings, max(0, size - TAIL_BYTES) + skipped)
    return records[-1].get("seconds") if records else None
