"""Whether the server grows: mixed use for some minutes, and its memory, open files and threads all the while."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import psutil

from benchmarks.runs import command, tell
from benchmarks.visitors import Visitor, Window, wait_for
from tests.ui.server import Server

EVERY = 5.0
PAGES, PAGE_SECONDS, POLL_SECONDS = 4, 30.0, 2.0
MOST_MB_PER_HOUR, MOST_FILES_PER_HOUR = 50.0, 30.0
TEXTS = ["the team won the cup in Leeds", "the soup was awful, said Ana", "rain and snow on the hills tomorrow"]
INFERENCE: dict[str, list[Any]] = {
    "embed": [TEXTS],
    "similarity": [TEXTS, TEXTS[:2]],
    "search": ["a cold dinner", TEXTS, 2],
    "topic": [TEXTS, ""],
    "sentiment": [TEXTS, ""],
    "entities": [TEXTS, ""],
    "predict": [TEXTS[0]],
}


class Use:
    """Mixed use of a server until it is told to end.

    Args:
        server: It.

    Attributes:
        done: What was done -> how often.
        faults: What did not work.
    """

    def __init__(self, server: Server) -> None:
        self.server, self.over = server, threading.Event()
        self.done: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        kinds: list[Callable[[], None]] = [*[self._page] * PAGES, self._predict, self._upload, self._train]
        self._threads = [threading.Thread(target=self._repeat, args=(kind,)) for kind in kinds]

    def begin(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """End, and wait for what is under way."""
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, once: Callable[[], None]) -> None:
        while not self.over.is_set():
            try:
                once()
            except Exception as error:  # the use goes on; the fault is counted
                self.faults[f"{once.__name__}: {type(error).__name__}: {error}"[:200]] += 1
                self.over.wait(1)

    def _count(self, what: str, answer: Any) -> None:
        self.done[what] += 1
        if answer.values is None:
            self.faults[f"{what}: {answer.refusal or 'lost'}"] += 1

    def _page(self) -> None:
        """Open a page, let it poll for half a minute, and close it, as its heartbeat tells the server."""
        visitor = Visitor(self.server)
        visitor.http.get("/").raise_for_status()
        window = Window(visitor, "starter")
        with visitor.http.stream("GET", f"/gradio_api/heartbeat/{window.session}"):
            end = time.monotonic() + PAGE_SECONDS
            while time.monotonic() < end and not self.over.is_set():
                self._count("poll", window.fire("poll"))
                self._count("list", window.fire("refresh"))
                self.over.wait(POLL_SECONDS)
        self.done["page"] += 1
        visitor.http.close()

    def _predict(self) -> None:
        visitor = Visitor(self.server)
        for name, values in INFERENCE.items():
            self._count("prediction", visitor.ask(name, *values, "starter", ""))
            self.over.wait(0.3)
        visitor.http.close()

    def _upload(self) -> None:
        visitor = Visitor(self.server)
        file = visitor.upload(f"{visitor.mark}.csv", visitor.rows(200 + secrets.randbelow(200)))
        self._count("upload", visitor.ask("inspect_csv", file))
        visitor.http.close()
        self.over.wait(3)

    def _train(self) -> None:
        """Train a short run, look at it, answer with it, take it away, delete it."""
        visitor = Visitor(self.server)
        started = visitor.start()
        self._count("run", started)
        if started.values is None:
            return
        run, visitor.token = started.values[0]["run"], started.values[0]["token"]
        wait_for(visitor, run, visitor.token, "done")
        self._count("prediction", visitor.ask("predict", TEXTS[0], run, visitor.token))
        window = Window(visitor, run)
        self._count("poll", window.fire("poll"))
        self.done["download"] += bool(window.download())
        self._count("deletion", visitor.ask("delete_run", run, visitor.token))
        visitor.http.close()


def soak(server: Server, minutes: float) -> tuple[str, bool]:
    """Use the server for so long; return the text, and whether it did not grow."""
    process, use, samples = psutil.Process(server.process.pid), Use(server), list[tuple[float, ...]]()
    use.begin()
    began = time.monotonic()
    while (now := time.monotonic() - began) < minutes * 60:
        samples.append((now / 3600, process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()))
        if len(samples) % 12 == 1:
            tell(f"{now / 60:.0f} min: {samples[-1][1]:.0f} MB, {samples[-1][2]} files, {samples[-1][3]} threads")
        time.sleep(EVERY)
    use.end()
    server.answers.clear()
    return _text(np.array(samples), minutes, use)


def _text(samples: np.ndarray, minutes: float, use: Use) -> tuple[str, bool]:
    quarters = np.array_split(samples[:, 1:], 4)
    hours, rest = samples[len(samples) // 2 :, 0], samples[len(samples) // 2 :, 1:]
    slopes = [float(np.polyfit(hours, column, 1)[0]) for column in rest.T]
    errors = [_error(hours, column) for column in rest.T]
    # at the edge of the interval: what is noise must not pass for growth, nor growth for noise
    grows = slopes[0] - 2 * errors[0] > MOST_MB_PER_HOUR or slopes[1] - 2 * errors[1] > MOST_FILES_PER_HOUR
    rows = [
        f"| {name} | {' | '.join(f'{np.median(part[:, n]):.0f}' for part in quarters)} "
        f"| {slopes[n]:+.1f} ± {2 * errors[n]:.1f} |"
        for n, name in enumerate(("resident memory, MB", "open files", "threads"))
    ]
    verdict = "IT GROWS" if grows else "It does not grow"
    text = [
        f"## {date.today():%Y-%m-%d}: {minutes:g} minutes of mixed use",
        "",
        command(),
        "",
        "| of the server | 1st quarter | 2nd | 3rd | 4th | slope of the second half, an hour |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"{verdict}: more than {MOST_MB_PER_HOUR:.0f} MB or {MOST_FILES_PER_HOUR:.0f} files an hour would be growth "
        "(least squares, ± 2 standard errors; the quarters are medians).",
        f"Done: {', '.join(f'{what} {count:,}' for what, count in sorted(use.done.items()))}. "
        f"Did not work: {dict(use.faults) or 'nothing'}.",
    ]
    return "\n".join(text), not grows and not use.faults


def _error(x: np.ndarray, y: np.ndarray) -> float:
    """Return the standard error of a slope, as if the samples were independent."""
    rest = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(np.sqrt((rest**2).sum() / max(1, len(x) - 2) / ((x - x.mean()) ** 2).sum()))
