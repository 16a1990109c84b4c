"""How a text is divided into rows and cells: delimiter, quotes, and whether the first row is a header.

Everything is decided on the beginning of the text, in time that grows with its length alone: each of four
delimiters is tried with each way of quoting that the text itself supports.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
QUOTES = {'"': "double", "'": "single", "": "none"}
_RAREST_FIRST = ("\t", ";", "|", ",")  # in text: of equally even tables the one that chance makes least
SAMPLE_CHARACTERS = 262_144
SAMPLE_RECORDS = 200
# Headers that people give to the columns this app is about.
USUAL_HEADERS = frozenset(
    """text texts sentence sentences content message review tweet body comment utterance description title headline
    query question answer sentence1 sentence2 label labels class category topic sentiment polarity emotion intent
    domain score rating stars target tag tags ner entities spans language lang id index idx no date time timestamp
    user username author source url link split set fold airline reason""".split()
)
# Values that stand in label columns and never above them.
USUAL_LABELS = frozenset("positive negative neutral pos neg neu ham spam true false yes no".split())
_ENOUGH_ROWS, _FEW_ROWS = 20, 5
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?", re.IGNORECASE)
_DATE_OR_LINK = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|\d{1,2}:\d{2}.*|(mon|tue|wed|thu|fri|sat|sun)\w*,? .*\d:\d\d.*"
    r"|\w+://\S+|\S+@\S+\.\w+",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class Dialect:
    """What separates cells, what quotes them (nothing: ""), and whether blanks before a cell are layout."""

    delimiter: str = ","
    quote: str = '"'
    skip_blanks: bool = False

    def options(self) -> dict[str, Any]:
        """Return the options of `csv.reader`; strict, so that a broken quote is an error and not a guess."""
        quoting = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        return {"delimiter": self.delimiter, "skipinitialspace": self.skip_blanks, "strict": True, **quoting}


def candidates(sample: str, *, delimiter: str | None = None, quote: str | None = None) -> list[Dialect]:
    """List the dialects that the beginning of a text may be in, the likeliest first.

    They all have the delimiter of the likeliest one: the others are what to try when the rest of the text does not
    bear it out. What the person chose is kept.
    """
    separators = [delimiter] if delimiter else list(_RAREST_FIRST)
    ways = [dialect for separator in separators for dialect in _ways(sample, separator, quote)]
    scored = [(_evenness(sample, way), way) for way in ways]
    if not any(score[0] for score, _ in scored):  # nothing divides the rows: they are texts, which may hold any mark
        marks = ['"', *([""] if sample.count('"') % 2 == 0 else [])] if quote is None else [quote]
        return [Dialect(delimiter or ",", mark) for mark in marks]
    # the sort is stable: of equals the first
    found = sorted(scored, key=lambda item: item[0], reverse=True)
    best = found[0][1]
    return [dialect for _, dialect in found if dialect.delimiter == best.delimiter]


def _ways(sample: str, delimiter: str, quote: str | None) -> Iterator[Dialect]:
    """Offer the ways of quoting that this text supports."""
    if quote is not None:
        yield Dialect(delimiter, quote)
        return
    possible, proven = _encloses(sample, delimiter, "'")
    if proven:
        yield Dialect(delimiter, "'")
    yield Dialect(delimiter, '"')
    if possible and not proven:
        yield Dialect(delimiter, "'")
    if re.search(rf'{re.escape(delimiter)} +"', sample):
        yield Dialect(delimiter, '"', skip_blanks=True)
    if delimiter == "\t":  # tabs hardly occur in text, so such files are often written without any quoting
        yield Dialect(delimiter, "")


def _encloses(sample: str, delimiter: str, quote: str) -> tuple[bool, bool]:
    """Say whether a mark that may also be an apostrophe can enclose cells here, and whether it is sure to.

    It can where every cell that begins with one ends with one, and each of those either needs the quotes, since it
    holds a delimiter, a line end or the mark itself, or stands in a column that is quoted throughout. Such a column is
    a proof, and so is a doubled mark within a line: `'tis a goal` and the `players'` of a later row may enclose what
    lies between them by chance.
    """
    cell = re.compile(
        rf"{quote}((?:[^{quote}]|{quote}{quote})*){quote}(?=[{re.escape(delimiter)}\r\n]|\Z)|[^{re.escape(delimiter)}\r\n]*"
    )
    special = re.compile(rf"[{re.escape(delimiter)}\r\n{quote}]")
    position, column, first_row = 0, 0, True
    bare: set[int] = set()
    needless: set[int] = set()
    quoted, doubled = 0, False
    while position <= len(sample):
        match = cell.match(sample, position)
        if match is None:  # pragma: no cover  # the second branch matches everything
            return False, False
        inner = match.group(1)
        if inner is not None:
            quoted += 1
            if not special.search(inner):
                needless.add(column)
            doubled = doubled or (2 * quote in inner and not re.search(r"[\r\n]", inner))
        elif match.group().startswith(quote):
            if len(sample) < SAMPLE_CHARACTERS or sample.count(quote, match.start()) % 2 == 0:
                return False, False
            break  # the sample ends inside this cell
        elif match.group().strip() and not first_row:  # a header may be bare above quoted cells
            bare.add(column)
        position = match.end()
        if position < len(sample) and sample[position] == delimiter:
            column += 1
        else:
            column, first_row = 0, False
        position += 1
    possible = quoted > 0 and not needless & bare
    return possible, possible and (bool(needless) or doubled)


def _evenness(sample: str, dialect: Dialect) -> tuple[float, bool, int, int]:
    """Score a dialect: how many of the rows are as wide as the first, how wide that is, and how many rows there are.

    Before the width counts whether the mark is ever written without a blank after it, as prose never does. The number
    of rows counts where all else is equal: quotes that are none swallow line ends. A few rows prove nothing.
    """
    widths, error = _widths(sample, dialect)
    if not widths or widths[0] == 1:
        return (0.0, False, 0, 0)
    even = sum(width == widths[0] for width in widths)
    mark = dialect.delimiter
    tight = sample.count(mark) > sample.count(f"{mark} ")
    share = even / (2 * len(widths) if error else len(widths))
    return (share, tight, widths[0], even if even >= _ENOUGH_ROWS else 0)


def _records(sample: str, dialect: Dialect) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(sample)))  # the sample may be one cell
    return csv.reader(io.StringIO(sample, newline=""), **dialect.options())


def _widths(sample: str, dialect: Dialect) -> tuple[list[int], bool]:
    """Return the widths of the rows that are whole, and whether a broken quote ended them."""
    cut = len(sample) >= SAMPLE_CHARACTERS
    widths: list[int] = []
    try:
        for record in _records(sample, dialect):
            if record:
                widths.append(len(record))
    except csv.Error as error:
        return widths, not (cut and "end of data" in str(error))
    return (widths[:-1] if cut and len(widths) > 1 else widths), False


def sample_records(sample: str, dialect: Dialect) -> list[list[str]]:
    """Return the first rows of a text that is cut off somewhere, without its blank lines."""
    records: list[list[str]] = []
    with suppress(csv.Error):  # the sample may end within quotes; the rows before are whole
        for record in _records(sample, dialect):
            if record:
                records.append(record)
            if len(records) > SAMPLE_RECORDS:
                break
    return records[:-1] if len(sample) >= SAMPLE_CHARACTERS and len(records) > 2 else records


def has_header(records: Sequence[Sequence[str]]) -> bool:
    """Guess whether the first row names the columns; in doubt it does.

    Each column is asked: a name that people give to columns, or one above numbers, speaks for a header; a number, a
    date, a sentence above sentences, or a value that comes again further down the column speaks against it.
    """
    if len(records) < 2:
        return True
    first = records[0]
    votes = 0.0
    for position, cell in enumerate(first):
        below = [record[position] for record in records[1:] if len(record) > position and record[position].strip()]
        votes += _vote(cell.strip(), below)
    return votes >= 0


def _vote(cell: str, below: list[str]) -> float:
    """Vote for a header with a positive number, against it with a negative one; a few rows prove nothing against it."""
    if not cell or not below:
        return 0.0
    stem = _stem(cell)
    # user1 above user2 is data
    if (cell.lower() in USUAL_HEADERS or stem in USUAL_HEADERS) and all(_stem(value) != stem for value in below):
        return 3.0
    numeric = sum(bool(_NUMBER.fullmatch(value.strip())) for value in below) > 0.9 * len(below)
    if numeric and not _NUMBER.fullmatch(cell):
        return 1.0
    if len(below) < _FEW_ROWS:
        return 0.0
    return _vote_against(cell, [value.strip() for value in below], numeric)


def _stem(cell: str) -> str:
    return cell.strip().lower().rstrip("s0123456789_")


def _vote_against(cell: str, below: list[str], numeric: bool) -> float:
    if _NUMBER.fullmatch(cell):
        return -1.0 if numeric else 0.0
    if _DATE_OR_LINK.fullmatch(cell) or {cell.lower(), *(value.lower() for value in below)} <= USUAL_LABELS:
        return -2.0
    different = len(set(below))
    if cell in below and different <= len(below) / 2:
        return -2.0
    words = sum(len(value.split()) for value in below) / len(below)
    if len(cell.split()) >= 4 and words >= 3 and len(cell.split()) > words / 4:
        return -1.0
    # a few labels, and this is not one of them
    return 1.0 if len(below) >= 8 and different <= len(below) / 4 else 0.0
