from __future__ import annotations

import csv
import io
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mtl.data.reading import Table, read_table
from mtl.data.writing import EXACTLY, spreadsheet_cell, to_csv, write_json_lines, write_spreadsheet
from tests.data.strategies import ANY_TEXT, CELLS, EVERY, NAMES

# --------------------------------------------------------------------------------------------- exactly, for ourselves


@st.composite
def tables(draw: st.DrawFn) -> Table:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    count = draw(st.integers(1, 8))
    return Table({name: draw(st.lists(CELLS, min_size=count, max_size=count)) for name in names})


@given(tables())
@EVERY
def test_writing_and_reading_exactly_is_the_identity(table: Table) -> None:
    assert read_table(to_csv(table), **EXACTLY) == table


@pytest.mark.parametrize(
    "name", ["\ufefftext", "sep=;", "<html>", '{"text": 1}', "PAR1", "a\rb", "a\r\nb", " ", "\u2028", "'", '"', "=1+1"]
)
@pytest.mark.parametrize("cell", ["", "bare\rCR", "LF\n", "CRLF\r\n", "\ufeff", '""', "'", ",", "\x1a", "\x0b"])
def test_writing_any_header_and_cell_comes_back(name: str, cell: str) -> None:
    table = Table({f"{name}.": [cell, "x"], name: ["y", cell]} if name.strip() else {"text": [name, cell]})
    assert read_table(to_csv(table), **EXACTLY).columns == table.columns
    alone = Table({name if name.strip() else "text": [cell, "x"]})
    assert read_table(to_csv(alone), **EXACTLY).columns == alone.columns


# ------------------------------------------------------------------------------------------- safely, for spreadsheets

STARTS = ["=", "+", "-", "@", "|", "%", "\t", "\r", "\n", "＝", "＋", "－", "＠", "｜", "％"]
BEFORE = ["", " ", "  ", "\u00a0", "\ufeff", '"', "' ", " \t", "\u3000"]
AFTER = ["1+1", "cmd|' /C calc'!A0", 'HYPERLINK("http://example.org","x")', " no", "SUM(A1:A9)", "", "x", "1-2"]
DANGEROUS = [f"{before}{start}{after}" for before in BEFORE for start in STARTS for after in AFTER]
NUMBERS = ["-1", "+1", "-1.5", "-1,5", "+1e5", "-1E-5", "-0", "1", "0.25", "1e-9"]
PLAIN = ["", "text", "a=b", "1+1", "it's", "e-mail", "a@b.org", "50%", "x|y", "(no)", "'quoted'", "😀", "ß"]


def opens_as_formula(cell: str) -> bool:
    """Say whether a spreadsheet would take a cell, as it stands between its quotes in the file, for a formula.

    White space and byte order marks before it are skipped, and double quotes too; an apostrophe makes it text. A
    number with a sign is a number. Control characters can begin a cell of their own wherever they stand first.
    """
    try:
        float(cell.replace(",", "."))
        return False
    except ValueError:
        pass
    bare = cell.lstrip(' \u00a0\u3000\ufeff"')
    return bare[:1] in {*STARTS, "\0"} if bare else False


def test_writing_the_premise_holds_that_the_generated_cells_are_dangerous() -> None:
    assert len(DANGEROUS) >= 200
    risky = sum(map(opens_as_formula, DANGEROUS))
    assert risky > 0.7 * len(DANGEROUS)


def test_writing_no_cell_header_or_label_opens_as_a_formula() -> None:
    file = io.StringIO(newline="")
    write_spreadsheet(file, DANGEROUS, [DANGEROUS, list(reversed(DANGEROUS))])
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert [cell for row in rows for cell in row if opens_as_formula(cell)] == []
    assert [len(row) for row in rows] == [len(DANGEROUS)] * 3
    # what was put before a cell is an apostrophe and nothing else
    assert all(written in (f"'{cell}", cell) for written, cell in zip(rows[0], DANGEROUS, strict=True))


@given(ANY_TEXT | st.text(st.sampled_from("=+-@|%＝ \"'\t\r\n1a.,e\u00a0\ufeff"), max_size=8))
@EVERY
def test_writing_no_text_opens_as_a_formula(cell: str) -> None:
    safe = spreadsheet_cell(cell)
    assert not opens_as_formula(safe)
    assert safe in (cell, f"'{cell}")


@pytest.mark.parametrize("cell", [*NUMBERS, *PLAIN])
def test_writing_plain_numbers_and_texts_stay_as_they_are(cell: str) -> None:
    assert spreadsheet_cell(cell) == cell


@pytest.mark.parametrize(
    ("value", "cell"), [(None, ""), (1, "1"), (-0.5, "-0.5"), (True, "True"), (1e-7, "1e-07"), (-1e22, "-1e+22")]
)
def test_writing_values_become_text(value: Any, cell: str) -> None:
    assert spreadsheet_cell(value) == cell


@pytest.mark.parametrize("cell", ["-1+2", "+49 30 123456", "-1;=1", "-", "+", "-1e", "--1", "-1.5.2", "-1,000,000"])
def test_writing_what_only_begins_like_a_number_is_no_number(cell: str) -> None:
    assert spreadsheet_cell(cell) == f"'{cell}"


def test_writing_every_cell_is_quoted_so_that_no_other_delimiter_divides_it() -> None:
    file = io.StringIO(newline="")
    write_spreadsheet(file, ["text", 'a "b"'], [["x;=1", 1], ["two\nlines", None]])
    assert file.getvalue() == '"text","a ""b"""\n"x;=1","1"\n"two\nlines",""\n'


def test_writing_rows_go_on_below_without_a_header() -> None:
    file = io.StringIO(newline="")
    write_spreadsheet(file, None, [["=1"]])
    assert file.getvalue() == '"\'=1"\n'


# --------------------------------------------------------------------------------------------------- the exact twin

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CELLS


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.data())
@EVERY
def test_writing_json_lines_come_back_as_they_were(header: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(VALUES, min_size=len(header), max_size=len(header)), max_size=5))
    file = io.StringIO(newline="")
    write_json_lines(file, header, rows)
    lines = file.getvalue().split("\n")
    assert lines.pop() == ""
    assert [list(json.loads(line)) for line in lines] == [header] * len(rows)
    assert [list(json.loads(line).values()) for line in lines] == rows


def test_writing_json_lines_of_the_dangerous_cells_are_untouched() -> None:
    file = io.StringIO(newline="")
    write_json_lines(file, ["cell"], [[cell] for cell in DANGEROUS])
    assert [json.loads(line)["cell"] for line in file.getvalue().splitlines(keepends=False)] == DANGEROUS


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_writing_json_lines_have_no_value_that_json_lacks(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_lines(io.StringIO(), ["score"], [[value]])
