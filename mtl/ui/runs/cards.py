"""A run in a few lines: its card in the list, and the head above it when it is open."""

from __future__ import annotations

import time

from mtl.reports.plots import score_name
from mtl.runs.progress import HEADLINES, PHASES
from mtl.runs.store import STARTER
from mtl.runs.summary import Summary
from mtl.ui import html

LONGEST = 60
SHARED = "shared with you"


def card(found: Summary, *, shared: bool = False) -> str:
    """Write a run as the lines of its card. It is plain text: the list shows it as such.

    Args:
        found: The run.
        shared: Whether it is another visitor's, who shares it.
    """
    facts = [_scores(found) or _short(", ".join(found.tasks))]
    first = [SHARED, *_data(found)] if shared else [*_data(found), found.preset]
    rest = [*first, took(found.seconds), made(found) if found.title else ""]
    return "\n".join([title(found), *(" · ".join(filter(None, line)) for line in ([state(found), *facts], rest))])


def title(found: Summary) -> str:
    """Say which run it is: the person's name for it, else when it was made."""
    if found.name == STARTER:
        return "Starter (shipped)"
    return found.title or made(found)


def made(found: Summary) -> str:
    """Say when a run was made; if its name does not tell, the name."""
    if found.started is None:
        return found.name
    return time.strftime("%d %b %H:%M", time.localtime(found.started))


def state(found: Summary) -> str:
    """Say where a run stands, in a word or two."""
    if found.problem:
        return "Cannot be read"
    return HEADLINES.get(found.status.state) or PHASES.get(found.status.phase, "Starting").split(",")[0]


def took(seconds: float | None) -> str:
    """Say how long a run took, from its start to its last step."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _scores(found: Summary) -> str:
    return _short(" · ".join(f"{task}\N{NO-BREAK SPACE}{value:.3f}" for task, (_, value) in found.scores.items()))


def _data(found: Summary) -> list[str]:
    rows = sum(found.rows.values())
    return [_short(", ".join(found.files), 40), f"{rows:,} rows" if rows else ""]


def sentence(reason: str) -> str:
    """Write a reason as a sentence."""
    return f"{reason[:1].upper()}{reason[1:].rstrip('.')}." if reason else ""


def _short(text: str, most: int = LONGEST) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def head_html(found: Summary, *, shared: bool = False) -> str:
    """Draw what a run is: its name, where it stands and why, its tasks, data and scores; arguments as for `card`."""
    rows = ", ".join(f"{count:,} {side}" for side, count in found.rows.items())
    chips = [
        ("run", found.name),
        ("tasks", ", ".join(found.tasks)),
        ("data", ", ".join(found.files)),
        ("rows", rows),
        ("preset", found.preset),
        ("made", made(found) if found.started else ""),
        ("took", took(found.seconds)),
        *((f"{task}: test {score_name(metric)}", f"{value:.3f}") for task, (metric, value) in found.scores.items()),
    ]
    reason = sentence(found.problem or found.status.reason)
    mark = f'<span class="chip">{SHARED}</span>' if shared else ""
    return (
        f'<div class="status {html.escape(found.status.state)}"><div class="headline"><span class="dot"></span>'
        f'<b class="run-title">{html.escape(title(found))}</b><span>{html.escape(state(found))}</span>{mark}</div>'
        f"{html.chips((name, value) for name, value in chips if value)}"
        f"{html.notes([reason], 'problem' if found.problem else 'info') if reason else ''}</div>"
    )
