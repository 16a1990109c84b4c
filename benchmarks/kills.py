"""Kill training with SIGKILL again and again, let it go on, and compare with a run that was left alone.

    python benchmarks/kills.py [--kills 60] [--seed 0] [--record]

MiniLM on a part of the sample, dropout on, four ways of training. Half of the kills come at random times, half just
before, in the middle of or just after an operation on the disk: a write, an fsync, a rename, a link, a line of the
journal. Every run goes on until it is done; then its journal, metrics, report, predictions and weights must have the
SHA-256 of those of the run that was left alone, and no step or epoch may be there twice.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed
os.environ.setdefault("OMP_NUM_THREADS", "1")  # this process is forked, and threads do not survive that

from benchmarks.runs import command, finish, parser, tell
from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.reading import Table, read_file
from mtl.runs import files, running
from mtl.runs.store import SAMPLE, Run, RunStore
from mtl.runs.worker import StopRequest, work

COMMON = [
    "training.epochs=4",
    "training.patience=10",
    "training.batch_size=8",
    "training.freeze=bottom.4",  # small resume points: it is many of them that are wanted
    "training.precision=float32",
    "training.attention=eager",
    "encoder.max_length=24",
]
WAYS: dict[str, list[str]] = {
    "defaults": [],
    "progressive unfreezing": [
        "training.unfreezing.heads_epochs=1",
        "training.unfreezing.layers=1",
        "training.unfreezing.epochs=1",
    ],
    "uncertainty weighting": ["training.weighting=uncertainty"],
    "PCGrad": ["training.weighting=pcgrad"],
}
COMPARED = ("events.jsonl", "metrics.csv", "report.json", "predictions.csv", "plan.json", "best/model.safetensors")
ROWS = 60
MOST_ATTEMPTS = 200
LONGEST_WAIT = 10.0


def main() -> None:
    """Kill, go on, compare, print, and record if asked to."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=60)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    draw = random.Random(given.seed)
    table = read_file(SAMPLE)
    table = Table({name: column[:ROWS] for name, column in table.columns.items()})
    running.SAVE_SECONDS = 0.3  # so that there are resume points in mid-epoch
    where: Counter[str] = Counter()
    outcomes: list[tuple[str, int, int, bool]] = []
    with tempfile.TemporaryDirectory(prefix="mtl-kills-") as folder:
        store = RunStore(Path(folder))
        for way, settings in WAYS.items():
            whole = store.create(override(RunConfig(), [*COMMON, *settings]), table)
            pristine = Path(folder) / f"pristine-{len(outcomes)}"
            shutil.copytree(whole.path, pristine)
            begun = time.monotonic()
            assert attempt(whole, None) is None
            seconds = time.monotonic() - begun
            assert whole.status.state == "done", whole.status
            wanted, total = hashes(whole), operations(whole)
            killed = rounds = 0
            same = True
            while killed < given.kills // len(WAYS):
                cut = Run(store.root / f"{whole.name[:-4]}{rounds:04d}")
                shutil.copytree(pristine, cut.path)
                killed += survive(cut, draw, total, seconds, where)
                rounds += 1
                same &= hashes(cut) == wanted and is_whole(cut, whole)
                shutil.rmtree(cut.path)
            outcomes.append((way, rounds, killed, same))
            tell(f"{way}: {rounds} runs, {killed} kills, equal: {same}")
    title = f"## {date.today():%Y-%m-%d}: {sum(killed for _, _, killed, _ in outcomes)} times kill -9"
    lines = ["| training | runs | kills | journal, metrics, report, predictions and weights |", "|---|---|---|---|"]
    lines += [
        f"| {way} | {runs} | {kills} | {'equal' if same else 'NOT EQUAL'} |" for way, runs, kills, same in outcomes
    ]
    places = ", ".join(f"{place} {count}" for place, count in where.most_common())
    finish("\n".join([title, "", command(), "", *lines, "", f"Where: {places}."]), given.record)
    if not all(same for *_, same in outcomes):
        raise SystemExit(1)


def survive(run: Run, draw: random.Random, operations: int, seconds: float, where: Counter[str]) -> int:
    """Kill a run in its first attempts, then let it come to its end; return how often it was killed."""
    killed = 0
    for _ in range(draw.randint(2, 5)):
        if draw.random() < 0.5:
            place = attempt(run, None, after=draw.uniform(0.2, min(seconds, LONGEST_WAIT)))
        else:
            place = attempt(run, draw.randrange(operations))
        if place is None:
            return killed
        killed += 1
        where[place] += 1
    for _ in range(MOST_ATTEMPTS):
        if attempt(run, None) is None:
            return killed
    raise SystemExit("the run never came to its end")


def attempt(run: Run, operation: int | None, after: float | None = None) -> str | None:
    """Train in a process of its own; return where it was killed, or None if it came to its end."""
    note = run.path.parent / "killed-at"
    note.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        os.close(1)
        os.open(os.devnull, os.O_WRONLY)
        count = Disk(operation, note).patch()
        status = work(Run(run.path), StopRequest())
        (run.path.parent / f"{run.name}.operations").write_text(str(count()))
        os._exit(0 if status.state == "done" else 1)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, code = os.waitpid(child, 0)
    if os.WIFSIGNALED(code):
        return note.read_text() if note.exists() else "a random time"
    assert os.WEXITSTATUS(code) == 0, Run(run.path).status
    return None


class Disk:
    """Stands before every operation on the disk and dies at one of them: before it, in its middle or after it.

    Args:
        fatal: The number of the operation; None: at none.
        note: The file that says which it was.
    """

    def __init__(self, fatal: int | None, note: Path) -> None:
        self.fatal, self.note, self.count = fatal, note, 0

    def patch(self) -> Callable[[], int]:
        """Take the place of the real operations; return what counts them."""
        import safetensors.torch

        os.fsync = self._watched("fsync", os.fsync)
        os.link = self._watched("link", os.link)
        os.truncate = self._watched("truncate", os.truncate)
        Path.rename = self._watched("rename", Path.rename)  # type: ignore[method-assign]
        Path.replace = self._watched("replace", Path.replace)  # type: ignore[method-assign]
        safetensors.torch.save_file = self._watched("weights", safetensors.torch.save_file, self._half_a_file)
        append = self._watched("journal", files.append_record, self._half_a_line)
        for module in ("mtl.runs.files", "mtl.runs.store"):
            sys.modules[module].append_record = append  # type: ignore[attr-defined]
        sys.modules.pop("mtl.runs.checkpoint", None)  # it is to import the watched `save_file`
        return lambda: self.count

    def _watched(self, name: str, real: Callable[..., Any], half: Callable[..., None] | None = None) -> Any:
        def operate(*arguments: Any, **options: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number != self.fatal:
                return real(*arguments, **options)
            when = ("before", "after", "in the middle of")[number % (3 if half else 2)]
            self.note.write_text(f"{when} a {name}")
            if when == "after":
                real(*arguments, **options)
            elif when != "before" and half:
                half(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        return operate

    @staticmethod
    def _half_a_file(tensors: Any, path: Path, *_: Any) -> None:
        path.write_bytes(b"\x10\0\0\0\0\0\0\0{}")

    @staticmethod
    def _half_a_line(path: Path, value: Any) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write('0badcafe {"event":"Ste')


def operations(run: Run) -> int:
    """Return how many operations on the disk a run took that was left alone."""
    return int((run.path.parent / f"{run.name}.operations").read_text())


def hashes(run: Run) -> dict[str, str]:
    """Hash what must be equal."""
    return {name: hashlib.sha256((run.path / name).read_bytes()).hexdigest() for name in COMPARED}


def is_whole(run: Run, other: Run) -> bool:
    """Say whether each step and epoch is there once, and nothing is left behind."""
    events, _ = run.events()
    marks = [(event["event"], event.get("epoch"), event.get("step")) for event in events]
    left = [path.name for path in run.path.rglob(".*")]
    timings = [timing["step"] for timing in run.timings()[0]]
    return len(set(marks)) == len(marks) == len(other.events()[0]) and timings == sorted(set(timings)) and not left


if __name__ == "__main__":
    main()
