"""What one visitor may do to the others: guess the names of their runs, and submit a hundred runs."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.runs import tell
from benchmarks.visitors import Answer, Visitor, Window, wait_for
from mtl.runs.store import Run
from mtl.settings import PUBLIC
from tests.ui.server import Server

NO_SUCH_RUN = Answer(None, "There is no such run.")
GUESSED = ("run_status", "run_report", "stop_run", "delete_run")
AT_ONCE = 50  # the queue of a shared page takes a hundred
WINDOWS, PROGRAMS = 100, 30
LIMIT = PUBLIC["max_runs_per_visitor"]


def guessed_names(real: Sequence[str], count: int) -> list[str]:
    """Return names of runs that are another one's, names near them, and names that never were."""
    draw = random.Random(0)
    near = [f"{real[n % len(real)][:-3]}{draw.randrange(4096):03x}" for n in range((count - len(real)) // 2)]
    never = [f"20261130-{100000 + n}-{secrets.token_hex(9)}{n % 10}" for n in range(count - len(real) - len(near))]
    return [*real, *near, *never]


def guess(visitor: Visitor, names: Sequence[str], real: Sequence[str] = ()) -> tuple[int, int]:
    """Ask for each name at one of four endpoints, at all of them for the real ones.

    Returns:
        How many requests, and how many got anything but the one refusal.
    """
    asked = [(name, GUESSED if name in real else [GUESSED[number % 4]]) for number, name in enumerate(names)]
    events = [(endpoint, [name, visitor.token]) for name, endpoints in asked for endpoint in endpoints]
    parts = [events[start : start + AT_ONCE] for start in range(0, len(events), AT_ONCE)]
    return len(events), sum(answer != NO_SUCH_RUN for part in parts for answer in visitor.send(part))


@dataclass(frozen=True)
class Fairness:
    """What came of a hundred runs of one visitor.

    Attributes:
        text: In words.
        is_fair: Whether never more than the limit waited or trained, and another visitor had their turn after those.
    """

    text: str
    is_fair: bool


def submit_many(server: Server, count: int = WINDOWS) -> Fairness:
    """Press Start in many windows of one browser; see when another visitor's turn comes."""
    greedy, other = Visitor(server), Visitor(server)
    runs, refusals, most = dict[str, Run](), Counter[str](), 0
    form = Window(greedy)
    form.set("preset", "frozen")
    form.fire("preset:input")
    for _ in range(count):
        window = Window(greedy)
        window.values |= form.values
        window.upload()
        pressed = window.fire("start:click")
        if pressed.values is None:
            refusals[pressed.refusal or "lost"] += 1
            continue
        name = next(one["run"] for one in pressed.values if isinstance(one, dict) and "run" in one)
        runs[name] = Run(server.runs / name)
        most = max(most, sum(not run.status.is_final for run in runs.values()))
    tell(f"{len(runs)} of {count} runs were taken, {most} at once: {dict(refusals)}")
    begun, going = time.perf_counter(), sum(not run.status.is_final for run in runs.values())
    mine = other.start().values[0]
    wait_for(other, mine["run"], mine["token"], "running")
    waited, after = time.perf_counter() - begun, all(run.status.is_final for run in runs.values())
    lasted = wait_for(other, mine["run"], mine["token"], "done")
    text = (
        f"One visitor pressed Start in {count} windows: {most} of their runs at most waited or trained at once (the "
        f"limit is {LIMIT}), and all {sum(refusals.values())} others were refused. Another visitor's run waited for "
        f"{going} of them, which was {waited / lasted:.1f} times its own length."
    )
    said = len(refusals) == 1 and f"You have {LIMIT} runs" in next(iter(refusals))
    return Fairness(text, 0 < most <= LIMIT and said and after)


def submit_by_program(server: Server, count: int = PROGRAMS) -> str:
    """Call `start_run` again and again, each time as somebody new from one address; say how many were taken."""
    program, other = Visitor(server), Visitor(server)
    taken = [answer.values[0] for answer in (program.start() for _ in range(count)) if answer.values]
    refused = other.start().refusal
    for one in reversed(taken):  # those that wait first, or each would begin
        program.ask("stop_run", one["run"], one["token"])
    wait_for(program, taken[0]["run"], taken[0]["token"])
    meanwhile = f"another visitor was refused ({refused})" if refused else "another visitor's run was taken too."
    called = f"A program at one address called `start_run` {count} times without a secret"
    return f"{called}: {len(taken)} runs were taken; {meanwhile}"
