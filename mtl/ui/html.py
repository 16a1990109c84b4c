"""Small pieces of HTML. Every text of a person is escaped here and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def escape(text: object) -> str:
    """Make any text harmless inside HTML, in attributes too."""
    return html.escape(str(text), quote=True)


def chips(items: Iterable[tuple[str, str]]) -> str:
    """Draw label-value pairs as small pills."""
    pills = "".join(f'<span class="chip">{escape(label)} <b>{escape(value)}</b></span>' for label, value in items)
    return f'<div class="chips">{pills}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, numbers_from: int = 1, caption: str = "") -> str:
    """Draw a table; the columns from `numbers_from` on are aligned as numbers."""
    head = "".join(
        f'<th scope="col"{_right(position, numbers_from)}>{escape(cell)}</th>' for position, cell in enumerate(header)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_right(position, numbers_from)}>{escape(cell)}</td>" for position, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="table-wrap" tabindex="0" role="region" aria-label="{escape(caption or header[0])}">'
        f'<table class="plain">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _right(position: int, numbers_from: int) -> str:
    return ' class="number"' if position >= numbers_from else ""


def details(title: str, body: str, *, name: str = "", opened: bool = False) -> str:
    """Draw a part that folds; `body` is HTML."""
    bold = f"<b>{escape(name)}</b> " if name else ""
    return (
        f'<details class="classes"{" open" if opened else ""}><summary>{bold}{escape(title)}</summary>{body}</details>'
    )


def counts(values: dict[str, int], most: int) -> str:
    """Draw counts as bars in their order, the first ones only."""
    largest = max(values.values())
    bars = "".join(
        f'<div class="prob"><span class="prob-label">{escape(label)}</span>'
        f'<span class="prob-track"><span style="width:{100 * count / largest:.1f}%"></span></span>'
        f'<span class="prob-value">{count:,}</span></div>'
        for label, count in list(values.items())[:most]
    )
    more = f'<div class="more">and {len(values) - most:,} more</div>' if len(values) > most else ""
    return f'<div class="probs">{bars}{more}</div>'


def empty(title: str, text: str) -> str:
    """Draw an empty state that says what to do."""
    return f'<div class="empty"><strong>{escape(title)}</strong><span>{escape(text)}</span></div>'


def bar(fraction: float, label: str) -> str:
    """Draw a progress bar that screen readers know as one."""
    percent = round(100 * min(1.0, max(0.0, fraction)))
    return (
        f'<div class="bar" role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><div style="width:{percent}%"></div></div>'
    )


def probabilities(values: dict[str, float], most: int = 8) -> str:
    """Draw class probabilities as bars, the most probable first."""
    order = sorted(values.items(), key=lambda item: -item[1])
    rows = "".join(
        f'<div class="prob{" top" if rank == 0 else ""}"><span class="prob-label">{escape(label)}</span>'
        f'<span class="prob-track"><span style="width:{100 * value:.1f}%"></span></span>'
        f'<span class="prob-value">{100 * value:.1f}%</span></div>'
        for rank, (label, value) in enumerate(order[:most])
    )
    more = f'<div class="more">and {len(order) - most} more classes</div>' if len(order) > most else ""
    return f'<div class="probs">{rows}{more}</div>'


def refusal(sentence: str) -> str:
    """Draw why something cannot be used; screen readers say it at once."""
    return f'<div class="notes refused" role="alert">{escape(sentence)}</div>'


def notes(sentences: Iterable[str], kind: str = "info") -> str:
    """Draw sentences as a quiet list."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes {kind}">{items}</ul>' if items else ""
