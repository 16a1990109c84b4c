"""Texts with their entities marked."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from mtl.ui.marks import COLOURS, MOST_TYPES, colours, legend, marked

HOSTILE = "<img src=x onerror=alert(1)>"
STYLE = Path(__file__).parents[2] / "assets" / "style.css"


class Seen(HTMLParser):
    """What a person sees of some HTML: its text, without the names of types; its marks; its tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.marks, self.names, self.tags = "", [""], [""], [""]
        self._open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an opened element."""
        self._open.append(tag)
        self.tags.append(tag)
        {"mark": self.marks, "b": self.names}.get(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        """Note a closed element."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a piece of text."""
        if "b" in self._open:
            self.names[-1] += data
            return
        self.text += data
        if "mark" in self._open:
            self.marks[-1] += data


@st.composite
def marked_texts(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]], int | None]:
    """Draw a text, entities in it, and where it was cut."""
    text = draw(st.text("ab <>&\"'\n京🎈", max_size=30))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if a < b]
    found = [
        {
            "start": a,
            "end": b,
            "label": draw(st.sampled_from(["PER", "<b>", "A&B"])),
            "confidence": draw(st.floats(0, 1)),
        }
        for a, b in spans
    ]
    return text, found, draw(st.none() | st.integers(0, len(text)))


@given(case=marked_texts(), sure=st.booleans())
@settings(max_examples=200, derandomize=True, deadline=None)
def test_marks_keep_every_character_and_mark_exactly_the_entities(case: Any, sure: bool) -> None:
    text, found, unread = case
    seen = Seen(marked(text, found, colours(["PER", "<b>", "A&B"]), unread=unread, sure=sure))
    assert seen.text == text
    assert seen.marks[1:] == [text[one["start"] : one["end"]] for one in found]
    assert [name.split(" ")[0] for name in seen.names[1:]] == [one["label"] for one in found]
    assert set(seen.tags) <= {"", "mark", "b", "span"}


def test_marks_have_a_colour_for_each_type_that_other_types_seldom_change() -> None:
    many = [f"type {number}" for number in range(COLOURS)]
    assert sorted(colours(many).values()) == list(range(COLOURS)), "all different as long as there are any"
    assert set(colours([*many, "one more"]).values()) == set(range(COLOURS))
    assert colours(["PER", "LOC", "ORG"]) == colours(["ORG", "PER", "LOC"])
    usual = colours(["PER", "LOC", "ORG", "MISC"])
    assert {kind: usual[kind] for kind in ["LOC", "ORG", "PER"]} == colours(["LOC", "ORG", "PER"])
    style = STYLE.read_text(encoding="utf-8")
    assert [n for n in range(20) if f".mark-{n} " in style] == list(range(COLOURS))


def test_legend_counts_each_type_and_escapes_it() -> None:
    shown = legend({"PER": 0, HOSTILE: 1200}, colours(["PER", HOSTILE]))
    assert "<img" not in shown
    assert "1,200" in shown
    assert shown.index("onerror") < shown.index("PER"), "those that are there come first"
    many = {f"t{number}": 1 for number in range(MOST_TYPES + 3)}
    assert "and 3 more types" in legend(many, colours(many))
