"""Read a CSV as its owner meant it: every cell is text, and no label is ever changed silently.

There is no NA parsing and no numeric coercion: `NA`, `None`, `01` and `true` stay as typed; only an empty (or
white-space) cell is a missing value. What had to be guessed (encoding, delimiter) is recorded in the `Table`.
Rows are numbered as a spreadsheet shows them: the header is row 1, the first data row is row 2.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtl.errors import DataError, LimitError
from mtl.settings import settings

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
}
_SAMPLE_CHARACTERS = 65_536
_SAMPLE_RECORDS = 50


@dataclass(frozen=True)
class Table:
    """A rectangular table of text.

    Attributes:
        columns: Header -> cells, all of one length, exactly as typed.
        encoding: How the bytes were decoded.
        delimiter: What separates the cells.
        notes: What a person should know of how the file was read.
    """

    columns: dict[str, list[str]]
    encoding: str = "utf-8"
    delimiter: str = ","
    notes: tuple[str, ...] = field(default=())

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


def row_number(index: int) -> int:
    """Turn the index of a data row into the row a spreadsheet shows (the header is row 1)."""
    return index + 2


def quoted(names: Sequence[str], most: int = 12) -> str:
    """List names for a sentence: `"text", "topic" and 3 more`."""
    shown = ", ".join(f'"{name}"' for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def is_missing(cell: str) -> bool:
    """Say whether a cell holds no value: empty or white space only."""
    return not cell.strip()


def read_file(path: Path | str) -> Table:
    """Read a CSV file from disk; see `read_table`.

    Raises:
        DataError: The file cannot be read, or is not a table.
        LimitError: It is larger than this installation accepts.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > settings().max_bytes:
            raise _too_large(size)
        return read_table(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {str(error.strerror).lower()}.") from None


def read_table(data: bytes, *, encoding: str | None = None, delimiter: str | None = None) -> Table:
    """Read the bytes of a CSV with a header row.

    Args:
        data: The file's bytes.
        encoding: A Python codec name; by default UTF-8 (with or without BOM) or UTF-16 with BOM.
        delimiter: `,` `;` tab or `|`; by default the one that makes the most even table.

    Raises:
        DataError: Not text, not a table, or a row that does not fit the header.
        LimitError: More bytes, rows, columns or characters than this installation accepts.
    """
    if len(data) > settings().max_bytes:
        raise _too_large(len(data))
    text, encoding = _decode(data, encoding)
    if delimiter is None:
        delimiter = _guess_delimiter(text)
    elif delimiter not in DELIMITERS:
        raise DataError(f"The delimiter must be one of {', '.join(DELIMITERS.values())}.")
    records = _Records(text, delimiter)
    header, notes = _header(next(records))
    columns: dict[str, list[str]] = {name: [] for name in header}
    cells = list(columns.values())
    limits = settings()
    for index, record in enumerate(records):
        if index >= limits.max_rows:
            raise LimitError(f"The file has more than {limits.max_rows:,} rows, the most that is accepted here.")
        if len(record) != len(header):
            raise DataError(
                f"Row {row_number(index)} has {len(record)} cells, but the header has {len(header)}. "
                "Put text that holds the delimiter or a line break in double quotes."
            )
        for values, cell in zip(cells, record, strict=True):
            values.append(cell)
        if max(map(len, record)) > limits.max_cell_characters:
            raise LimitError(
                f"Row {row_number(index)} has a cell of {max(map(len, record)):,} characters; "
                f"at most {limits.max_cell_characters:,} are accepted here. Is a quote left open?"
            )
    if not cells[0]:
        raise DataError("The file has a header but no rows below it.")
    return Table(columns, encoding, delimiter, notes)


def _too_large(size: int) -> LimitError:
    limit = settings().max_bytes
    return LimitError(f"The file has {size / 1e6:,.0f} MB; at most {limit / 1e6:,.0f} MB are accepted here.")


def _decode(data: bytes, encoding: str | None) -> tuple[str, str]:
    for signature, kind in SIGNATURES.items():
        if data.startswith(signature):
            raise DataError(f"This is {kind}, not a CSV file. Export the table as CSV (UTF-8) and upload that.")
    if encoding is None:
        utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if utf_16 else "utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8"
    try:
        text = data.decode(encoding)
    except LookupError:
        raise DataError(f'"{encoding}" is not a known encoding; utf-8, utf-16, cp1252 and latin-1 are.') from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1  # the object is what was decoded: without the mark
        raise DataError(
            f"The file is not {encoding.removesuffix('-sig').upper()} text: line {line} holds the byte "
            f"0x{error.object[error.start]:02x}. Save it as CSV UTF-8."
        ) from None
    except ValueError:  # a codec that is not one for text files, such as punycode
        raise DataError(f'The file cannot be read as "{encoding}". Save it as CSV UTF-8.') from None
    text = text.removeprefix("\ufeff")  # utf-8 or utf-16-le asked for by name leaves the mark in
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"Line {line} holds a NUL character, so this is not a text file. Save it as CSV UTF-8.")
    if not text.strip():
        raise DataError("The file is empty. It needs a header row and at least one row of text below it.")
    if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
        raise DataError("This is a web page, not a CSV file. Download the table itself.")
    return text, encoding


class _Records:
    """The rows of a CSV text without its blank lines; a quote that is never closed is an error with its row."""

    def __init__(self, text: str, delimiter: str) -> None:
        csv.field_size_limit(2**31 - 1)  # our own limit names the row; the module's does not
        # universal newlines inside the reader: LF, CRLF and a bare CR all end a row, quoted ones stay as they are
        self._reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        self._count = 0

    def __iter__(self) -> _Records:
        return self

    def __next__(self) -> list[str]:
        while True:
            try:
                record = next(self._reader)
            except csv.Error as error:
                raise DataError(_quote_problem(str(error), self._count + 1)) from None
            if record:
                self._count += 1
                return record


def _quote_problem(message: str, row: int) -> str:
    if "end of data" in message:
        return f"A double quote opened in row {row} is never closed. Close it, or double it if it belongs to the text."
    return (
        f"Row {row} has text after a closing double quote. Double the quotes that belong to the text "
        '("" for "), or remove them.'
    )


def _guess_delimiter(text: str) -> str:
    """Choose the delimiter under which the first rows have the most cells, all rows alike.

    Only the first 64 kB are looked at, once for each of four candidates, so the cost does not grow with the file.
    """
    sample = text[:_SAMPLE_CHARACTERS]

    def evenness(delimiter: str) -> tuple[float, int]:
        widths: list[int] = []
        try:
            for record in _Records(sample, delimiter):
                widths.append(len(record))
                if len(widths) == _SAMPLE_RECORDS:
                    break
        except DataError:  # the sample may end inside a quoted cell
            pass
        if not widths or widths[0] == 1:
            return (0.0, 0)
        return (sum(width == widths[0] for width in widths) / len(widths), widths[0])

    return max(DELIMITERS, key=evenness)  # the first, a comma, where none divides the rows


def _header(record: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Keep the header names as they are, but make each of them present and unique."""
    limits = settings()
    if len(record) > limits.max_columns:
        raise LimitError(f"The file has {len(record):,} columns; at most {limits.max_columns:,} are accepted here.")
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
    return names, tuple(notes)
