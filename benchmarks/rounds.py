"""Several ways of doing the same, timed in turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.peak import Effort, Peak

PACKAGES = ("torch", "transformers", "sentence-transformers")


@dataclass(frozen=True)
class Ratio:
    """A ratio measured in every round.

    Attributes:
        median: What is claimed.
        low: The smallest of all rounds.
        high: The largest.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Row:
    """One line of a table: how fast something is against its peer.

    Attributes:
        work: What was done.
        against: The peer.
        ratio: What was measured, in words.
        goal: Likewise; empty if it is for the record only.
        met: Whether the goal is reached; None without one.
        difference: How far the results are apart, and how far they may be.
        effort: Operations and seconds of ours, where they are counted.
    """

    work: str
    against: str
    ratio: str
    goal: str = ""
    met: bool | None = None
    difference: str = ""
    effort: Effort | None = None


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Do everything once in each round, and each round begin with another one.

    Args:
        ways: Name -> what is timed.
        rounds: At least 1.
        warm: Whether everything is done once before the clock runs.

    Returns:
        Name -> the seconds of each round.
    """
    if warm:
        for way in ways.values():
            way()
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Divide round by round; the median of the ratios is not moved by a round in which the machine was busy."""
    found = np.array(numerators, dtype=float) / np.array(denominators, dtype=float)
    return Ratio(float(np.median(found)), float(found.min()), float(found.max()))


def at_least(
    work: str, against: str, found: Ratio, goal: float | None, *, difference: str = "", effort: Effort | None = None
) -> Row:
    """Make a row of "so many times as fast", met if the median reaches the goal; without one it is for the record."""
    met = None if goal is None else found.median >= goal
    wanted = "" if goal is None else f"at least {goal:g}"
    return Row(work, against, f"{found} x as fast", wanted, met, difference, effort)


def at_most(work: str, against: str, found: Ratio, goal: float, *, difference: str = "") -> Row:
    """Make a row of "so many times the time"; it is met if the median stays at or below the goal."""
    met = found.median <= goal
    return Row(work, against, f"{found} x the time", f"at most {goal:g}", met, difference)


def as_table(rows: Sequence[Row], peak: Peak | None = None) -> list[str]:
    """Show rows as Markdown, with the share of the peak that each reached if it is known."""
    heads = ["work", "against", "median (all rounds)", "goal", "met", "difference"]
    lines = [heads + (["of the peak, float32 / bfloat16"] if peak else [])]
    lines.append(["---"] * len(lines[0]))
    verdicts = {None: "–", True: "met", False: "NOT MET"}
    for row in rows:
        cells = [row.work, row.against, row.ratio, row.goal or "–", verdicts[row.met], row.difference or "–"]
        lines.append(cells + ([peak.share(row.effort) if row.effort else "–"] if peak else []))
    return [f"| {' | '.join(cells)} |".replace(" --- ", "---") for cells in lines]


def titled(script: str, title: str, arguments: Sequence[str], lines: Sequence[str]) -> str:
    """Put date and command above a result. Of files the names alone are told."""
    return "\n".join([f"## {date.today():%Y-%m-%d}: {title}", "", command(script, arguments), "", *lines, ""])


def command(script: str, arguments: Sequence[str]) -> str:
    """Return the command that does this again, with the names of files alone."""
    words = [Path(word).name if os.sep in word else word for word in arguments if word != "--record"]
    return f"`python -m benchmarks {' '.join([script, *words])}`"


def machine(peak: Peak, numerics: str = "") -> str:
    """Say on what this was measured; times are comparable within one run only."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{numerics}{peak} Python {platform.python_version()}, {packages}; {processor()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, {platform.system()}."
    )


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def given(arguments: Sequence[str] | None) -> list[str]:
    """Return a script's arguments: those it was called with, or those of the command line."""
    return list(sys.argv[1:] if arguments is None else arguments)
