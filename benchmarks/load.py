"""Many visitors at once: does anyone get what is another one's, is anything lost, and how long does an answer take?

    python benchmarks/load.py [--clients 64] [--calls 20] [--record]
    python benchmarks/load.py --soak MINUTES [--record]

Serves the page to strangers, without a budget for their requests. Each client has a secret,
texts and a finished run of their own. They are asked one after another first; then, while a run trains, all at once
and in another order, and every answer must be the one from before. Then a thousand names of runs are guessed, and one
visitor submits a hundred runs. With `--soak` the server's memory is watched instead; see `soak.py`.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.abuse import NO_SUCH_RUN, guess, guessed_names, submit_by_program, submit_many
from benchmarks.runs import command, finish, parser, tell
from benchmarks.visitors import FREELY, Answer, Predictions, Visitor, Window, wait_for
from mtl.runs.store import SAMPLE
from tests.ui.server import Server, serving

MARK = re.compile("mark[0-9a-f]{12}")
STARTERS = 8  # one client in so many starts a run
LONG = {"training": {"epochs": 20, "batch_size": 8}}
PROBES = 60


@dataclass
class Outcome:
    """What came of many calls.

    Attributes:
        calls: How many.
        crossed: Answers that were not the ones from before, or bore another one's mark.
        lost: Calls that got no answer.
        errors: Sentences, where there had been an answer.
        seconds: From the first call to the last answer.
    """

    calls: int = 0
    crossed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def take(self, visitor: Visitor, kind: str, answer: Any, wanted: Any) -> None:
        """Count an answer and compare it with the one from before."""
        self.calls += 1
        marks = set(MARK.findall(json.dumps(answer)))
        if isinstance(answer, Answer) and answer.is_lost:
            self.lost.append(kind)
        elif marks - {visitor.mark}:
            self.crossed.append(kind)
        elif answer != wanted and isinstance(answer, Answer) and answer.refusal:
            self.errors[f"{kind}: {answer.refusal}"] += 1
        elif answer != wanted:
            self.crossed.append(kind)


def questions(visitor: Visitor, other: Visitor) -> dict[str, tuple[str, list[Any]]]:
    """Return what a visitor asks, all of it about what is theirs but one. Kind -> endpoint and values."""
    first, second = f"the {visitor.mark} team won the cup in Leeds", f"soup of {visitor.mark} was awful, said Ana"
    both, mine, rest = [first, second], visitor.run, ["starter", visitor.token]
    assert mine is not None and other.run is not None
    return {
        "embed": ("embed", [both, *rest]),
        "similarity": ("similarity", [both, [second, f"rain on {visitor.mark}"], *rest]),
        "search": ("search", [f"lunch with {visitor.mark}", both, 2, *rest]),
        "topic": ("topic", [both, "", *rest]),
        "sentiment": ("sentiment", [both, "", *rest]),
        "entities": ("entities", [both, "", *rest]),
        "predict": ("predict", [first, *rest]),
        "runs": ("runs", [visitor.token]),
        "run_status": ("run_status", [mine.name, visitor.token]),
        "run_report": ("run_report", [mine.name, visitor.token]),
        "another's report": ("run_report", [other.run.name, visitor.token]),
    }


def page(visitor: Visitor) -> dict[str, Any]:
    """Open the page as the visitor's browser does; return what is seen of their run, and its files."""
    assert visitor.run is not None
    window = Window(visitor, visitor.run.name)
    polled = window.fire("poll")
    if polled.values is None:
        return {"error": polled.refusal}
    shown = {name: window.get(name) for name in ("run-status", "loss-plot", "score-plot", "last-epoch")}
    return shown | {"files": window.download()}


def alone(visitor: Visitor, other: Visitor) -> dict[str, Any]:
    """Ask everything while nobody else asks. Kind -> answer.

    Raises:
        SystemExit: An answer does not tell its visitor from another one; nothing could be compared then.
    """
    asked = questions(visitor, other)
    found: dict[str, Any] = dict(zip(asked, visitor.send(list(asked.values())), strict=True))
    found["page"] = page(visitor)
    if found.pop("another's report") != NO_SUCH_RUN:
        raise SystemExit("a run of another visitor was opened")
    for kind, answer in found.items():
        own = {"embed": "[", "run_status": visitor.run.name, "predict": "confidence"}.get(kind, visitor.mark)
        if own not in json.dumps(answer):
            raise SystemExit(f"{kind} of one visitor alone: {json.dumps(answer)[:300]}")
    if f"{1000.5 + visitor.number}" not in json.dumps(found["page"]["loss-plot"]):
        raise SystemExit("the plot of one visitor alone is not theirs")
    return found | {"another's report": NO_SUCH_RUN}


def start_and_stop(visitor: Visitor, outcome: Outcome) -> None:
    """Start a run, look at it, and stop it; each of the four answers must be about it alone."""
    started = visitor.start()
    outcome.take(visitor, "start_run", started, started)
    if started.values is None:
        outcome.errors[f"start_run: {started.refusal}"] += bool(started.refusal)
        return
    name, token = started.values[0]["run"], started.values[0]["token"]
    listed = visitor.ask("runs", token)
    seen = (
        [[(one["run"], one["files"]) for one in listed.values[0]][:-1], len(listed.values[0])]
        if listed.values
        else listed
    )
    outcome.take(visitor, "runs", seen, [[(name, [f"{visitor.mark}.csv"])], 2])
    outcome.take(visitor, "run_status", visitor.ask("run_status", name, visitor.token), NO_SUCH_RUN)
    stopped = visitor.ask("stop_run", name, token)
    outcome.take(visitor, "stop_run", stopped.values[0]["run"] if stopped.values else stopped, name)


def all_at_once(
    visitors: Sequence[Visitor], answers: Sequence[dict[str, Any]], calls: int, starters: int = STARTERS
) -> Outcome:
    """Let every visitor make their calls, each in an order of their own, and compare.

    Args:
        visitors: All of them.
        answers: What each got alone.
        calls: Of each visitor.
        starters: One visitor in so many starts a run as well; 0: nobody.
    """
    outcome, lock, begin = Outcome(), threading.Lock(), threading.Barrier(len(visitors) + 1)

    def work(number: int) -> None:
        visitor, own, wanted = visitors[number], Outcome(), answers[number]
        asked = questions(visitor, visitors[(number + 1) % len(visitors)])
        draw = random.Random(number)
        kinds = [kind for _ in range(calls // len(wanted) + 1) for kind in draw.sample(list(wanted), len(wanted))]
        begin.wait()
        try:
            if starters and number % starters == 0:
                start_and_stop(visitor, own)
            for kind in kinds[: calls - own.calls]:
                answer = page(visitor) if kind == "page" else visitor.ask(asked[kind][0], *asked[kind][1])
                own.take(visitor, kind, answer, wanted[kind])
        except (httpx.HTTPError, ValueError, KeyError) as error:  # no answer, or one that cannot be read
            own.lost += [type(error).__name__] * (calls - own.calls)
        with lock:
            outcome.calls += own.calls
            outcome.crossed += own.crossed
            outcome.lost += own.lost
            outcome.errors += own.errors

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(visitors))]
    for thread in threads:
        thread.start()
    begin.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - began
    return outcome


def main() -> None:
    """Do all of it, print, and record if asked to."""
    options = parser(__doc__)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--calls", type=int, default=20)
    options.add_argument("--soak", type=float, metavar="MINUTES", help="watch the memory for so long instead")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="mtl-load-") as folder, served(Path(folder)) as server:
        if given.soak:
            from benchmarks.soak import soak

            text, is_good = soak(server, given.soak)
        else:
            text, is_good = measure(server, given.clients, given.calls)
        faults = server.logged.count("report ") + server.logged.count("Traceback")
    finish(f"{text}\n\nFaults in the server's log: {faults}. {versions()}", given.record)
    if not is_good or faults:
        raise SystemExit(1)


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """Serve the page to strangers, with everything it writes in this folder."""
    (folder / "server").mkdir()  # what is uploaded lies beside it
    with serving(folder / "server", **FREELY) as server:
        yield server


def measure(server: Server, clients: int, calls: int) -> tuple[str, bool]:
    """Measure under load; return the text, and whether nothing was crossed, lost or given away."""
    visitors = [Visitor(server, number) for number in range(clients)]
    for visitor in visitors:
        visitor.plant()
    probe, rows = Predictions(Visitor(server)), dict[str, tuple[float, float, int]]()
    probe.ask()  # the first one waits for the shipped checkpoint
    probe.taken()
    rows["nobody else"] = _probed(probe)
    answers = [alone(visitor, visitors[(number + 1) % clients]) for number, visitor in enumerate(visitors)]
    tell("asked one after another")
    trainer = Visitor(server)
    long = trainer.ask("start_run", trainer.upload("sample.csv", SAMPLE.read_bytes()), LONG).values[0]
    wait_for(trainer, long["run"], long["token"], "running")
    _wait_for_steps(trainer, long)
    rows["one run trains"] = _probed(probe)
    with probe.meanwhile():
        outcome = all_at_once(visitors, answers, calls)
    rows[f"one run trains, {clients} clients"] = probe.taken()
    still = trainer.ask("run_status", long["run"], long["token"]).values[0]
    tell(f"{outcome.calls} calls, {outcome.crossed} crossed, {outcome.lost} lost, {dict(outcome.errors)}")
    trainer.ask("stop_run", long["run"], long["token"])
    real = [visitor.run.name for visitor in visitors]
    asked, given = guess(Visitor(server), guessed_names(real, 1000), real)
    there = sum(visitor.run.status.state == "done" for visitor in visitors)
    tell(f"{asked} requests for guessed runs, {given} answered")
    wait_for(trainer, long["run"], long["token"])
    many = submit_many(server)
    program = submit_by_program(server)
    good = not (outcome.crossed or outcome.lost or outcome.errors or given) and there == clients and many.is_fair
    first = rows["nobody else"]
    lines = [
        f"| {name} | {p50 * 1000:.0f} ms | {p95 * 1000:.0f} ms | {p50 / first[0]:.1f} | {p95 / first[1]:.1f} | {n} |"
        for name, (p50, p95, n) in rows.items()
    ]
    text = [
        f"## {date.today():%Y-%m-%d}: {clients} clients with {calls} calls each, at once",
        "",
        command(),
        "",
        "| one prediction, while | p50 | p95 | p50, times | p95, times | measured |",
        "|---|---|---|---|---|---|",
        *lines,
        "",
        f"{outcome.calls:,} calls while a run trained (it was {still['state']} at their end, step {still['step']}): "
        f"{len(outcome.crossed)} crossed results, plots or files, {len(outcome.lost)} lost, "
        f"{sum(outcome.errors.values())} refused. {outcome.calls / outcome.seconds:.1f} calls a second.",
        f"{asked:,} requests with 1,000 guessed names of runs, {clients} of them another visitor's: {given} answered; "
        f"{there} of these {clients} runs are as they were.",
        many.text,
        program,
    ]
    return "\n".join(text), good


def _probed(probe: Predictions) -> tuple[float, float, int]:
    for _ in range(PROBES):
        probe.ask()
    return probe.taken()


def _wait_for_steps(visitor: Visitor, started: dict[str, str]) -> None:
    while visitor.ask("run_status", started["run"], started["token"]).values[0]["step"] == 0:
        time.sleep(0.5)


def versions() -> str:
    """Say with what this was measured; times are comparable within one run only."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("gradio", "torch", "transformers"))
    cores = len(os.sched_getaffinity(0))
    shared = f"{cores} core{'s' * (cores > 1)} for server, training and clients together"
    return f"Python {platform.python_version()}, {packages}; {shared}, {platform.system()}."


if __name__ == "__main__":
    main()
