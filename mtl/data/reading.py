"""Read a CSV as its owner meant it: every cell is text, and no label is ever changed silently.

There is no NA parsing and no numeric coercion: `NA`, `None`, `01` and `true` stay as typed; only an empty (or
white-space) cell is a missing value. What had to be guessed (encoding, delimiter, quotes, header) is recorded in the
`Table`. Rows are numbered as a spreadsheet shows them: blank lines count, and a header is row 1.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from mtl.data.decoding import Source, settle_encoding
from mtl.data.dialect import (
    DELIMITERS,
    QUOTES,
    SAMPLE_CHARACTERS,
    Dialect,
    candidates,
    has_header,
    sample_records,
)
from mtl.data.rows import SEPARATOR_LINE, Rows, is_missing, name_columns, open_text
from mtl.errors import DataError, LimitError

__all__ = ["Layout", "Options", "Table", "is_missing", "quoted", "read_file", "read_table", "scan_file", "stream_file"]

_CHUNK = 4096


class Options(TypedDict, total=False):
    """What a person may fix instead of leaving it to be guessed (None: guessed).

    Attributes:
        encoding: A Python codec name; see `mtl.data.decoding.settle_encoding`.
        delimiter: `,` `;` tab or `|`; by default the one that makes the most even table.
        quote: `"`, `'` or, for no quoting, the empty text.
        header: Whether the first row names the columns.
    """

    encoding: str | None
    delimiter: str | None
    quote: str | None
    header: bool | None


@dataclass(frozen=True)
class Layout:
    """How a source is to be read: what was chosen or guessed, and what was found by reading it once.

    Attributes:
        encoding: A Python codec name.
        dialect: Delimiter and quotes.
        header: Whether the first row names the columns.
        headers: The column names; `column 1` … where there are none.
        rows: Data rows.
        notes: What a person should know of how the file was read.
    """

    encoding: str
    dialect: Dialect
    header: bool
    headers: tuple[str, ...]
    rows: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A rectangular table of text.

    Attributes:
        columns: Header -> cells, all of one length, exactly as typed.
        encoding: How the bytes were decoded.
        delimiter: What separates the cells.
        quote: What quotes a cell; empty if nothing does.
        header: Whether the file names its columns; otherwise they are called `column 1` and so on.
        notes: What a person should know of how the file was read.
        numbers: For each data row, its number in the file.
        files: Name of each file and the index of its first row, where the table was put together from several.
    """

    columns: dict[str, list[str]]
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    header: bool = True
    notes: tuple[str, ...] = field(default=())
    numbers: Sequence[int] = field(default=())
    files: tuple[tuple[str, int], ...] = field(default=())

    def __len__(self) -> int:
        """Count the data rows."""
        return len(next(iter(self.columns.values()), []))

    @property
    def headers(self) -> tuple[str, ...]:
        """The column names in the file's order."""
        return tuple(self.columns)

    def column(self, name: str) -> list[str]:
        """Return one column's cells.

        Raises:
            DataError: There is no such column.
        """
        if name not in self.columns:
            raise DataError(f'There is no column "{name}"; the file has {quoted(self.headers)}.')
        return self.columns[name]

    def number(self, index: int) -> int:
        """Return the number of a data row in its file, as a spreadsheet shows it."""
        return self.numbers[index] if self.numbers else index + (2 if self.header else 1)

    def file(self, index: int) -> str:
        """Return the name of the file a data row is from; empty if there is only one."""
        return next((name for name, first in reversed(self.files) if first <= index), "")

    def place(self, index: int) -> str:
        """Say where a data row is: its number, and its file if there are several."""
        file = self.file(index)
        return f"{self.number(index)} of {file}" if file else str(self.number(index))


def quoted(names: Sequence[str], most: int = 12) -> str:
    """List names for a sentence: `"text", "topic" and 3 more`."""
    shown = ", ".join(f'"{name}"' for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def read_file(path: Path | str, **options: Unpack[Options]) -> Table:
    """Read a CSV file from disk; see `read_table`.

    Raises:
        DataError: The file cannot be read, or is not a table.
        LimitError: It is larger than this installation accepts.
    """
    return _read(Path(path), options)


def read_table(data: bytes, **options: Unpack[Options]) -> Table:
    """Read the bytes of a CSV. What is not given is guessed, and the guess is in the result.

    Raises:
        DataError: Not text, not a table, or a row that does not fit the others.
        LimitError: More bytes, rows, columns or characters than this installation accepts.
    """
    return _read(data, options)


def scan_file(path: Path | str, **options: Unpack[Options]) -> Layout:
    """Read a file once, keeping nothing: find its layout and everything that is wrong with it.

    Raises:
        DataError: As `read_file`.
        LimitError: As `read_file`.
    """
    return _settled(Path(path), options)[0]


def stream_file(path: Path | str, layout: Layout) -> Generator[list[str]]:
    """Yield the data rows of a scanned file, one by one: memory does not grow with the file."""
    with Rows(Path(path), layout.encoding, layout.dialect, header=layout.header) as rows:
        for number, record in enumerate(rows):
            if number or not layout.header:
                yield record


def _read(source: Source, options: Options) -> Table:
    kept = _Kept()
    layout, numbers = _settled(source, options, kept)
    return Table(
        dict(zip(layout.headers, kept.columns, strict=True)),
        encoding=layout.encoding,
        delimiter=layout.dialect.delimiter,
        quote=layout.dialect.quote,
        header=layout.header,
        notes=layout.notes,
        numbers=numbers,
    )


class _Kept:
    """The cells by column, filled in chunks, since a loop in C over many rows is what makes reading fast."""

    def __init__(self) -> None:
        self.columns: list[list[str]] = []

    def restart(self, width: int) -> None:
        """Forget what another dialect gave."""
        self.columns = [[] for _ in range(width)]

    def add(self, records: list[list[str]]) -> None:
        """Keep some rows, all as wide as the table."""
        for column, cells in zip(self.columns, zip(*records, strict=True), strict=True):
            column.extend(cells)


def _settled(source: Source, options: Options, kept: _Kept | None = None) -> tuple[Layout, Sequence[int]]:
    """Find the first likely dialect that the whole source bears out, and the numbers of its rows."""
    delimiter, quote = options.get("delimiter"), options.get("quote")
    if delimiter is not None and delimiter not in DELIMITERS:
        raise DataError(f"The delimiter must be one of {', '.join(DELIMITERS.values())}.")
    if quote is not None and quote not in QUOTES:
        raise DataError("The quote must be a double quote, a single quote, or empty for none.")
    try:
        encoding, notes = settle_encoding(source, options.get("encoding"))
        with open_text(source, encoding) as text:
            sample = text.read(SAMPLE_CHARACTERS)
    except OSError as error:
        raise DataError(f"{source!s} cannot be read: {str(error.strerror).lower()}.") from None
    named = SEPARATOR_LINE.match(sample)
    if named:
        sample, delimiter = sample[named.end() :], delimiter or named.group(1)
    problems: list[DataError | LimitError] = []
    for dialect in candidates(sample, delimiter=delimiter, quote=quote):
        header = options.get("header")
        if header is None:
            header = has_header(sample_records(sample, dialect))
        try:
            return _tried(source, encoding, dialect, header, notes, kept)
        except (DataError, LimitError) as error:
            problems.append(error)
    raise problems[0]


def _tried(
    source: Source, encoding: str, dialect: Dialect, header: bool, notes: tuple[str, ...], kept: _Kept | None
) -> tuple[Layout, Sequence[int]]:
    """Read the whole source in one dialect.

    Raises:
        DataError: A row does not fit, or a quote is broken.
        LimitError: A limit is passed.
    """
    numbers: list[int] = []
    with Rows(source, encoding, dialect, header=header) as rows:
        first = next(rows, [])  # empty: only a separator line
        names, header_notes = name_columns(first if header else [""] * len(first), named=header)
        if not header and first:
            numbers.append(rows.number)
        chunk = rows.take(_CHUNK, numbers)
        if numbers and not header:
            chunk.insert(0, first)
        if kept:
            kept.restart(len(names))
        while chunk:
            if kept:
                kept.add(chunk)
            chunk = rows.take(_CHUNK, numbers)
        notes += header_notes + rows.notes()
    if not numbers:
        raise DataError("The file has a header but no rows below it.")
    start = 2 if header else 1
    plain = numbers[0] == start and numbers[-1] == start + len(numbers) - 1
    layout = Layout(encoding, dialect, header, tuple(names), len(numbers), notes + _dialect_notes(dialect, header))
    return layout, () if plain else numbers


def _dialect_notes(dialect: Dialect, header: bool) -> tuple[str, ...]:
    notes = []
    if not header:
        notes.append("The first row does not look like a header, so the columns are called column 1, column 2, …")
    if dialect.quote == "'":
        notes.append("Cells are quoted with single quotes.")
    if not dialect.quote:
        notes.append("Quotes are read as part of the text, since they do not enclose cells.")
    if dialect.skip_blanks:
        notes.append("Blanks after a delimiter are taken as layout, since quotes follow them.")
    return tuple(notes)
