"""The rows of a CSV, one after the other, each checked as it comes: what is wrong is said with its row."""

from __future__ import annotations

import csv
import io
import re

from mtl.data.decoding import Source, open_source
from mtl.data.dialect import Dialect
from mtl.errors import DataError, LimitError
from mtl.settings import settings

_LONGEST = 1 << 24  # characters at which even a cell that is to be refused is read no further
SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)  # what Excel writes above some tables


def is_missing(cell: str) -> bool:
    """Say whether a cell holds no value: empty or white space only."""
    return not cell.strip()


def open_text(source: Source, encoding: str) -> io.TextIOWrapper:
    """Open a source as text, without its byte order mark and with its line ends as they are."""
    text = io.TextIOWrapper(open_source(source), encoding=encoding, newline="")
    mark = text.read(1)
    if mark != "\ufeff":  # utf-8 or utf-16-le asked for by name leaves the mark in
        text.seek(0)
    return text


class Rows:
    """The rows of a source without its blank lines, each checked as it comes.

    Attributes:
        number: Of the latest row, as a spreadsheet counts.
        width: Cells of every row, from the first one on.
    """

    def __init__(self, source: Source, encoding: str, dialect: Dialect, *, header: bool) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST, settings().max_cell_characters))
        self._text = open_text(source, encoding)
        self._skip_separator_line()
        # universal newlines inside the reader: LF, CRLF and a bare CR all end a row, quoted ones stay as they are
        self._reader = csv.reader(self._text, **dialect.options())
        self._quote, self._first = dialect.quote, "header" if header else "first row"
        self._limits = settings()
        self._trimmed = 0
        self.number = 0
        self.width = 0

    def _skip_separator_line(self) -> None:
        start = self._text.tell()
        if not SEPARATOR_LINE.match(self._text.read(8)):
            self._text.seek(start)
            return
        self._text.seek(start)
        self._text.readline()

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def __iter__(self) -> Rows:
        return self

    def __next__(self) -> list[str]:
        while True:
            try:
                record = next(self._reader)
            except csv.Error as error:
                if "field larger" in str(error):
                    raise self._too_long(f"more than {csv.field_size_limit():,}", self.number + 1) from None
                raise DataError(_quote_problem(str(error), self.number + 1, self._quote)) from None
            self.number += 1
            if not record or (self.width > 1 and len(record) == 1 and is_missing(record[0])):
                continue  # a blank line
            if len(record) != self.width:
                record = self._fitted(record)
            if max(map(len, record)) > self._limits.max_cell_characters:
                raise self._too_long(f"{max(map(len, record)):,}", self.number)
            return record

    def _too_long(self, characters: str, row: int) -> LimitError:
        return LimitError(
            f"Row {row} has a cell of {characters} characters; "
            f"at most {self._limits.max_cell_characters:,} are accepted here. Is a quote left open?"
        )

    def _fitted(self, record: list[str]) -> list[str]:
        """Take the first row's width; later, drop empty cells beyond it and refuse every other difference."""
        if not self.width:
            if len(record) > self._limits.max_columns:
                raise LimitError(
                    f"The file has {len(record):,} columns; at most {self._limits.max_columns:,} are accepted here."
                )
            self.width = len(record)
            return record
        if len(record) > self.width and all(map(is_missing, record[self.width :])):
            self._trimmed += 1
            return record[: self.width]
        quote = {'"': "double quotes", "'": "single quotes"}.get(self._quote, "quotes")
        raise DataError(
            f"Row {self.number} has {_cells(len(record))}, but the {self._first} has {self.width}. "
            f"Put text that holds the delimiter or a line break in {quote}."
        )

    def take(self, most: int, numbers: list[int]) -> list[list[str]]:
        """Return the next rows and add their numbers.

        Raises:
            LimitError: There are more rows than this installation accepts.
        """
        records: list[list[str]] = []
        for record in self:
            records.append(record)
            numbers.append(self.number)
            if len(numbers) > self._limits.max_rows:
                raise LimitError(
                    f"The file has more than {self._limits.max_rows:,} rows, the most that is accepted here."
                )
            if len(records) == most:
                break
        return records

    def notes(self) -> tuple[str, ...]:
        """Say what was passed over."""
        if not self._trimmed:
            return ()
        rows = "1 row ends" if self._trimmed == 1 else f"{self._trimmed:,} rows end"
        return (f"{rows} in empty cells beyond the last column; those are left out.",)


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _quote_problem(message: str, row: int, quote: str) -> str:
    name = "single" if quote == "'" else "double"
    if "end of data" in message:
        return f"A {name} quote opened in row {row} is never closed. Close it, or double it if it belongs to the text."
    return (
        f"Row {row} has text after a closing {name} quote. Double the quotes that belong to the text "
        f"({quote}{quote} for {quote}), or remove them."
    )


def name_columns(record: list[str], *, named: bool) -> tuple[list[str], tuple[str, ...]]:
    """Keep the header names as they are, but make each of them present and unique."""
    names: list[str] = []
    notes: list[str] = []
    taken: set[str] = set(record)
    seen: set[str] = set()
    for position, cell in enumerate(record, start=1):
        name = cell
        if is_missing(cell) or cell in seen:
            stem = f"column {position}" if is_missing(cell) else cell
            name, number = stem, 2
            while name in taken or name in seen:
                name, number = f"{stem} ({number})", number + 1
            what = "has no name" if is_missing(cell) else f'repeats the name "{cell}"'
            notes.append(f'Column {position} {what}; here it is called "{name}".')
        seen.add(name)
        names.append(name)
    return names, tuple(notes) if named else ()
