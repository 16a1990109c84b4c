"""How far a run is, in words and numbers, from its status and its journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtl.reports.plots import History, epochs, steps
from mtl.runs.store import Status


@dataclass(frozen=True)
class Progress:
    """What a person waiting for a run wants to know.

    Attributes:
        headline: A few words.
        detail: One sentence, or nothing yet.
        fraction: Steps done, 0 to 1; None before the first.
        seconds_left: At the pace so far; None while unknown.
    """

    headline: str
    detail: str
    fraction: float | None = None
    seconds_left: float | None = None


HEADLINES = {
    "queued": "Waiting",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
    "diverged": "Diverged",
    "interrupted": "Interrupted",
}
PHASES = {
    "starting": "Loading the encoder and the data",
    "embedding": "Embedding the texts, once",
    "training": "Training",
    "validating": "Scoring the validation rows",
    "testing": "Scoring the test rows, once",
}


def progress(
    status: Status,
    history: History,
    timings: Sequence[dict[str, Any]],
    ahead: int = 0,
    wait_seconds: float | None = None,
) -> Progress:
    """Sum up a run.

    Args:
        status: Its status file.
        history: Its journal so far.
        timings: Its clock times so far.
        ahead: Runs that come before it in the queue.
        wait_seconds: How long they are likely to take; None while unknown.
    """
    begin = next((event for event in history if event["event"] == "RunBegin"), None)
    taken = steps(history)
    step, total = (taken[-1]["step"] if taken else 0), (begin["steps"] if begin else 0)
    fraction = step / total if total else None
    if status.is_final:
        return Progress(HEADLINES[status.state], _sentence(status.reason), 1.0 if status.state == "done" else fraction)
    if status.state == "queued":
        return Progress(HEADLINES["queued"], _turn(ahead, wait_seconds))
    headline = PHASES.get(status.phase, "Starting")
    if not begin:
        return Progress(headline, "")
    ended = epochs(history)[-1]["epoch"] if epochs(history) else 0
    # patience may pass over epochs, so the last step knows better than how many there were
    epoch = min(max(ended + 1, taken[-1]["epoch"] if taken else 1), begin["epochs"])
    detail = f"Epoch {epoch} of {begin['epochs']}, step {step} of {total}"
    return Progress(headline, detail, fraction, _seconds_left(timings, step, total))


def _turn(ahead: int, seconds: float | None) -> str:
    """Say when a waiting run's turn comes."""
    if not ahead:
        return "It starts in a moment."
    place = f"{ahead} {'run is' if ahead == 1 else 'runs are'} ahead"
    return f"{place}; its turn comes in {duration(seconds)}." if seconds is not None else f"{place}."


def _sentence(reason: str) -> str:
    reason = reason.strip()
    return reason[:1].upper() + reason[1:] + ("" if reason[-1:] in {".", "!", "?", ""} else ".")


def _seconds_left(timings: Sequence[dict[str, Any]], step: int, steps: int) -> float | None:
    """Extend the pace of the last steps; the evaluations between them are part of it."""
    recent = list(timings[-50:])
    if len(recent) < 2 or not steps:
        return None
    pace = (recent[-1]["seconds"] - recent[0]["seconds"]) / (recent[-1]["step"] - recent[0]["step"])
    return max(0.0, pace * (steps - step))


def duration(seconds: float) -> str:
    """Say a duration: `about 2 min`."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
