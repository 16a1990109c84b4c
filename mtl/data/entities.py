"""Named entities of a column, read into character spans of the text and checked against it.

A cell holds one tag per word (`O B-PER I-PER`) or JSON spans (`[{"start": 0, "end": 4, "label": "PER"}]`). Offsets
count the characters of the text as it is; the end is excluded. What does not fit the text is said and never mended:
a span that is off by one teaches a wrong entity, and usually means that the rest of the file is off too.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from sys import intern
from typing import Any, Literal

from mtl.errors import DataError

Form = Literal["tags", "spans"]

_CONTINUE = frozenset("IEL")  # these go on with an open entity of their type, and begin one where none is open
_PREFIXES = frozenset("BIELSU")
_OPEN = frozenset("BI")  # after these an entity may go on; E, L (its last word) and S, U (its only word) close it
_TAGS = re.compile(r"(?:O|[BIELSU]-\S++)(?: ++(?:O|[BIELSU]-\S++))*+")  # possessive: nothing to go back on
_LOOK_AT = 100
_MOST = 0.95  # of the cells, so that a misspelt one is reported with its row
# How Unicode names the characters of scripts whose words no blank separates, and of Hangul, whose particles are written
# onto the name: a span may begin and end between any two of them.
_UNSPACED = re.compile(
    r"(CJK|IDEOGRAPHIC|HIRAGANA|KATAKANA|HALFWIDTH|BOPOMOFO|YI|HANGUL|THAI|LAO|KHMER|MYANMAR|TIBETAN|(NEW )?TAI)\b"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # JSON can escape what no file could hold
_SHOWN = 40


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """One entity: its first character, the character after its last, and its type as typed."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class EntityColumn:
    """What a column of entities holds.

    Attributes:
        spans: One per row, by position; None for a row that is not annotated, or could not be read.
        problems: (index of the row, what is wrong with it) for the rows that could not be read.
        types: Entity type -> how many spans, the most frequent first.
        converted: How many entities began with I- (as in IOB1), E- or L- and were read as if with B-.
    """

    spans: tuple[tuple[Span, ...] | None, ...]
    problems: tuple[tuple[int, str], ...]
    types: dict[str, int]
    converted: int


def entity_form(sample: Sequence[str]) -> Form | None:
    """Say how these cells, none of them empty, write entities; None unless nearly all look as if they did."""
    tagged = [cell for cell in sample if _TAGS.fullmatch(cell.strip())]
    if any("-" in cell for cell in tagged) and len(tagged) >= _MOST * len(sample):
        return "tags"
    listed = [cell for cell in sample if cell.lstrip().startswith("[")]
    if len(listed) < _MOST * len(sample):
        return None
    filled = [cell for cell in listed if cell.strip() != "[]"][:_LOOK_AT]
    counts = [_count_spans(cell) for cell in filled]
    read = [count for count in counts if count is not None]
    return "spans" if any(read) and len(read) >= _MOST * len(counts) else None


def _count_spans(cell: str) -> int | None:
    """Count the spans of a cell; None if it is no list of spans."""
    try:
        spans = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    named = all(isinstance(span, dict) and {"start", "end", "label"} <= span.keys() for span in spans)
    return len(spans) if named else None


def read_entities(text: str, cell: str) -> tuple[Span, ...] | None:
    """Read the entities of one text, sorted by position; None if the cell is empty: not annotated.

    Raises:
        DataError: The cell is neither form, or does not fit the text; the message is the part of a sentence that
            follows "Row 17: ", which the caller knows.
    """
    return _read(text, cell)[0]


def read_entity_column(texts: Sequence[str], cells: Sequence[str]) -> EntityColumn:
    """Read the cells of a column against the texts of the same rows, each in either form."""
    spans: list[tuple[Span, ...] | None] = []
    problems: list[tuple[int, str]] = []
    converted = 0
    for row, (text, cell) in enumerate(zip(texts, cells, strict=True)):
        try:
            found, changed = _read(text, cell)
        except DataError as error:
            found, changed = None, 0
            problems.append((row, str(error)))
        spans.append(found)
        converted += changed
    types = Counter(span.label for row_spans in spans for span in row_spans or ())
    return EntityColumn(tuple(spans), tuple(problems), dict(types.most_common()), converted)


def spans_or_none(texts: Sequence[str], cells: Sequence[str]) -> list[tuple[Span, ...] | None]:
    """Return the entities of each text; None where it is not annotated, or its cell cannot be read."""
    return list(read_entity_column(texts, cells).spans)


def _read(text: str, cell: str) -> tuple[tuple[Span, ...] | None, int]:
    """Read one cell into its spans and how many of them began with I-, E- or L-."""
    cell = cell.strip()
    if not cell:
        return None, 0
    return (_read_spans(text, cell), 0) if cell[0] == "[" else _read_tags(text, cell)


def _read_tags(text: str, cell: str) -> tuple[tuple[Span, ...], int]:
    tags, words = cell.split(), text.split()
    if len(words) != len(tags) == text.count(" ") + 1:  # some writers take each blank for a border: words may be empty
        words = text.split(" ")
    if len(words) != len(tags):
        for tag in tags:  # what is no tag explains more than how many there are
            if tag != "O":
                _split_tag(tag)
        raise DataError(f"has {_count(len(tags), 'tag')} for {_count(len(words), 'word')}")
    return ((), 0) if tags.count("O") == len(tags) else _join(text, words, tags)


def _join(text: str, words: list[str], tags: list[str]) -> tuple[tuple[Span, ...], int]:
    """Join tagged words, by one rule for IOB1 (arXiv:cmp-lg/9505040), IOB2, BIOES and BILOU (ACL W09-1119)."""
    runs: list[tuple[int, int, str]] = []
    converted, open_label, end = 0, "", 0
    for word, tag in zip(words, tags, strict=True):
        start = text.find(word, end)  # only white space lies between
        end = start + len(word)
        prefix, label = _split_tag(tag) if tag != "O" else ("", "")
        if prefix in _CONTINUE and label == open_label:
            runs[-1] = (runs[-1][0], end, label)
        elif label:
            converted += prefix in _CONTINUE
            runs.append((start, end, label))
        open_label = label if prefix in _OPEN else ""
    return tuple([_trimmed(text, *run) for run in runs]), converted


def _split_tag(tag: str) -> tuple[str, str]:
    prefix, _, label = tag.partition("-")
    if prefix not in _PREFIXES or not label:
        raise DataError(f"has {_shown(tag)}, which is no tag (O, B-TYPE or I-TYPE for each word) and no list of spans")
    return prefix, label


def _trimmed(text: str, start: int, end: int, label: str) -> Span:
    """Make the span of an entity's words, without the white space that splitting at blanks may leave on them."""
    inner = text[start:end].strip()
    if not inner:
        raise DataError(f"has an entity of type {_shown(label)} where the text has only white space")
    start = text.index(inner, start)
    return Span(start, start + len(inner), _checked(label))


def _read_spans(text: str, cell: str) -> tuple[Span, ...]:
    spans = [_span(text, item, number) for number, item in enumerate(_parse(cell), start=1)]
    spans.sort(key=lambda span: span.start)
    for before, after in pairwise(spans):
        if before.end > after.start:
            raise DataError(f"the spans {before.start}-{before.end} and {after.start}-{after.end} overlap")
    return tuple(spans)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):  # readers of JSON disagree on which one counts
        raise DataError("has a JSON object with the same name twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)  # json.loads with a hook would make one for every cell


def _parse(cell: str) -> list[Any]:
    try:
        return list(_DECODER.decode(cell))
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error.msg.lower()} at character {error.pos + 1} of the cell") from None
    except ValueError:  # Python's guard against numbers of thousands of digits
        raise DataError("has a number of too many digits") from None
    except RecursionError:
        raise DataError("has brackets nested too deeply") from None


def _span(text: str, item: Any, number: int) -> Span:
    """Check one JSON span, the number-th of its cell, against the text."""
    if not isinstance(item, dict):
        raise DataError(f'span {number} is {_shown(item)}; {{"start": 0, "end": 4, "label": "PER"}} is expected')
    start, end, label = _offset(item, "start", number), _offset(item, "end", number), item.get("label")
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"span {number} has no label")
    misfit = _misfit(text, start, end, item)
    if misfit:
        raise DataError(f"the span {_shown(start)}-{_shown(end)} {misfit}")
    return Span(start, end, _checked(label))


def _misfit(text: str, start: int, end: int, item: dict[str, Any]) -> str:
    """Say why a span cannot be at this place of the text; nothing is cut out of it for a span that can."""
    if end <= start:
        return f"ends {'before' if end < start else 'where'} it begins"
    if end > len(text):
        return f"ends after the text's {_count(len(text), 'character')}"
    for said in (item.get("text"), item.get("word")):
        same = isinstance(said, str) and len(said) == end - start and text.startswith(said, start)
        if not same and said is not None:
            return f"is misaligned: it is {_shown(text[start:end])} in the text, but {_shown(said)} in the cell"
    if text[start].isspace() or text[end - 1].isspace():
        return f"is misaligned: {_shown(text[start:end])} begins or ends with white space"
    for at in (start, end):
        if 0 < at < len(text) and in_word(text[at - 1]) and in_word(text[at]):
            return f"is misaligned: {_shown(text[start:end])} {'begins' if at == start else 'ends'} inside a word"
    return ""


def _offset(item: dict[str, Any], name: str, number: int) -> int:
    value = item.get(name)
    if type(value) is not int or value < 0:  # not bool, which is an int to Python, nor 3.0
        raise DataError(f"span {number} has {_shown(value)} as its {name}; a whole number from 0 is expected")
    return value


@lru_cache(maxsize=4096)
def in_word(character: str) -> bool:
    """Say whether a character is a letter, a digit or an accent on one, of a script that separates its words."""
    known = character.isalpha() or character.isdecimal() or unicodedata.category(character).startswith("M")
    return known and not _UNSPACED.match(unicodedata.name(character, ""))


def _checked(label: str) -> str:
    if not label.isprintable() and _CONTROL.search(label):
        raise DataError(f"has the label {_shown(label)} with a control character")
    return intern(label)  # one string per type instead of one per span


def _shown(value: Any) -> str:
    """Show a JSON value in a sentence, whatever its size, depth or characters."""
    if isinstance(value, list | dict):
        return f"a JSON {'list' if isinstance(value, list) else 'object'}"
    text = value if isinstance(value, str) else json.dumps(value)
    short = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_SHOWN])
    short += "…" if len(text) > _SHOWN else ""
    return f'"{short}"' if isinstance(value, str) else short


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
