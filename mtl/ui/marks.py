"""Texts with their entities marked: a colour for each type, and its name beside every entity."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtl.ui import html

COLOURS = 8  # classes mark-0 … in style.css
MOST_TYPES = 24

Entities = Sequence[Mapping[str, Any]]


def colours(types: Iterable[str]) -> dict[str, int]:
    """Give every entity type a colour of its own as long as there are any; a type has the same one nearly everywhere.

    >>> colours(["PER", "LOC"])["LOC"] == colours(["LOC"])["LOC"]
    True
    """
    found: dict[str, int] = {}
    for kind in sorted(types):
        wanted = zlib.crc32(kind.encode()) % COLOURS
        taken = set(found.values()) if len(found) < COLOURS else set()
        found[kind] = next(n % COLOURS for n in range(wanted, wanted + COLOURS) if n % COLOURS not in taken)
    return found


def marked(
    text: str, entities: Entities, palette: Mapping[str, int], *, unread: int | None = None, sure: bool = False
) -> str:
    """Draw a text with its entities marked.

    Args:
        text: As typed.
        entities: Each with `start`, `end`, `label`, `confidence`; sorted, none overlaps another.
        palette: Entity type -> its colour.
        unread: From which character on the encoder did not read the text; None: it read all of it.
        sure: Whether each says how sure the head is.
    """
    pieces: list[str] = []
    at = 0
    for entity in entities:
        start, end, label = entity["start"], entity["end"], entity["label"]
        share = f"{100 * entity['confidence']:.0f}%"
        pieces.append(html.escape(text[at:start]))
        pieces.append(
            f'<mark class="mark-{palette[label]}" title="{share} sure">{html.escape(text[start:end])}'
            f"<b>{html.escape(label)}{f' {share}' if sure else ''}</b></mark>"
        )
        at = end
    cut = len(text) if unread is None else max(at, unread)
    rest = f'<span class="unread">{html.escape(text[cut:])}</span>' if cut < len(text) else ""
    return f"{''.join(pieces)}{html.escape(text[at:cut])}{rest}"


def legend(counts: Mapping[str, int], palette: Mapping[str, int]) -> str:
    """Draw the entity types with how many of each there are, those that are there first."""
    order = sorted(counts, key=lambda kind: counts[kind] == 0)
    shown = "".join(
        f'<li{"" if counts[kind] else " class=absent"}><mark class="mark-{palette[kind]}">{html.escape(kind)}</mark> '
        f"{counts[kind]:,}</li>"
        for kind in order[:MOST_TYPES]
    )
    more = f'<li class="more">and {len(order) - MOST_TYPES} more types</li>' if len(order) > MOST_TYPES else ""
    return f'<ul class="legend" aria-label="Entity types and how many there are">{shown}{more}</ul>'
