"""Tables as CSV: exactly, for our own reading, and safely, for a person's spreadsheet.

A spreadsheet runs a cell that begins like a formula, whoever wrote it. What leaves the app for one therefore has `'`
before such cells, headers and labels too, and a JSON-lines twin in which every text is as it was (OWASP, "CSV
Injection"; ASVS 1.2.10).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import IO, Any

from mtl.data.reading import Options, Table

# how `to_csv` writes, for whoever reads it again: nothing is left to guess
EXACTLY: Options = {"encoding": "utf-8", "delimiter": ",", "quote": '"', "header": True}
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")
# = + - @ and their full-width twins begin a formula, | and % a command; control characters move what follows into a
# cell of its own. Spreadsheets skip blanks and quotes before them.
_FORMULA = re.compile(r"[\s'\"\u00a0\ufeff]*[=+\-@|%＝＋－＠｜％\x00\t\r\n]|[\t\r\n\x00]")


def to_csv(table: Table) -> bytes:
    """Write a table so that reading it with `EXACTLY` gives the same headers and cells."""
    text = io.StringIO(newline="")
    # every cell quoted: the writer leaves a bare CR bare, and a bare first cell may look like a mark or a web page
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(table.headers)
    writer.writerows(zip(*table.columns.values(), strict=True))
    return text.getvalue().encode()


def spreadsheet_cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula; a plain number stays one, None is empty.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("-1"), spreadsheet_cell("- no")
    ("'=1+1", '-1', "'- no")
    """
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def write_spreadsheet(file: IO[str], header: Sequence[str] | None, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows for a person's spreadsheet: every cell quoted, none a formula. No header: the rows go on below."""
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    if header is not None:
        writer.writerow(map(spreadsheet_cell, header))
    writer.writerows([spreadsheet_cell(cell) for cell in row] for row in rows)


def write_json_lines(file: IO[str], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows exactly: one JSON object a line, its keys in the order of the header."""
    for row in rows:
        file.write(json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False, allow_nan=False) + "\n")
