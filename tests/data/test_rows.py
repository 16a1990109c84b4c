from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mtl.data.dialect import Dialect
from mtl.data.reading import read_table
from mtl.data.rows import Rows, is_missing, name_columns
from mtl.errors import DataError, LimitError
from tests.data.strategies import EVERY


def numbers(data: str, **options: bool) -> list[tuple[int, str]]:
    """Return each data row's number and its first cell."""
    table = read_table(data.encode(), **options)
    return [(table.number(index), cell) for index, cell in enumerate(next(iter(table.columns.values())))]


# ------------------------------------------------------------------------------------------------- row numbers


def test_rows_are_numbered_from_below_the_header() -> None:
    assert numbers("text,label\none,a\ntwo,b\n") == [(2, "one"), (3, "two")]


def test_rows_without_a_header_are_numbered_from_one() -> None:
    assert numbers("one,a\ntwo,b\n", header=False) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_blank_lines_count_as_a_spreadsheet_counts_them(end: str) -> None:
    data = end.join(["", "text,label", "", "one,a", "", "", "two,b", "", ""])
    assert numbers(data) == [(4, "one"), (7, "two")]
    assert numbers(end.join(["", "one,a", "", "two,b"]), header=False) == [(2, "one"), (4, "two")]


def test_rows_a_line_break_inside_a_cell_is_no_new_row() -> None:
    assert numbers('text,label\n"one\n\nmore",a\ntwo,b\n') == [(2, "one\n\nmore"), (3, "two")]


@pytest.mark.parametrize("blank", ["", " ", "\t ", '""', '" "'])
def test_rows_with_nothing_but_a_blank_cell_are_passed_over_in_a_wider_table(blank: str) -> None:
    assert numbers(f"text,label\none,a\n{blank}\ntwo,b\n") == [(2, "one"), (4, "two")]


def test_rows_of_empty_cells_are_rows() -> None:
    assert numbers("text,label\none,a\n,\ntwo,b\n") == [(2, "one"), (3, ""), (4, "two")]


def test_rows_of_one_column_keep_their_blank_cells_but_no_empty_lines() -> None:
    assert numbers('text\none\n\n""\n \ntwo\n') == [(2, "one"), (4, ""), (5, " "), (6, "two")]


@given(st.lists(st.sampled_from(["", "one,a", '"two\nlines",b', " "]), min_size=1, max_size=30))
@EVERY
def test_rows_numbers_are_the_positions_of_the_records(records: list[str]) -> None:
    data = "text,label\n" + "".join(f"{record}\n" for record in [*records, "last,c"])
    expected = [number for number, record in enumerate([*records, "last,c"], start=2) if record.strip()]
    assert [number for number, _ in numbers(data)] == expected


# ---------------------------------------------------------------------------------------------- separator line


@pytest.mark.parametrize(
    ("line", "delimiter"), [("sep=;\n", ";"), ("SEP=|\r\n", "|"), ("sep=\t\n", "\t"), ("sep=,\n", ",")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rows_a_separator_line_names_the_delimiter_and_is_no_row(line: str, delimiter: str, encoding: str) -> None:
    rows = [["text", "label"], ["a, b; c", "x"], ["d", "y"]]
    data = line + "".join(delimiter.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    table = read_table(data.encode(encoding))
    assert table.delimiter == delimiter
    assert table.columns == {"text": ["a, b; c", "d"], "label": ["x", "y"]}
    assert [table.number(index) for index in (0, 1)] == [2, 3]


def test_rows_a_chosen_delimiter_is_stronger_than_the_separator_line() -> None:
    assert read_table(b"sep=;\ntext,label\nx;y,b\n", delimiter=",").columns == {"text": ["x;y"], "label": ["b"]}


@pytest.mark.parametrize("data", [b"sep=;\n", b"sep=;\n\n", b"sep=;\r\n \r\n"])
def test_rows_a_separator_line_alone_is_no_table(data: bytes) -> None:
    with pytest.raises(DataError, match="no rows below it"):
        read_table(data)


def test_rows_a_header_that_only_begins_like_a_separator_line_is_a_header() -> None:
    assert read_table(b"sep=;x,label\na,b\n", delimiter=",").headers == ("sep=;x", "label")


# ------------------------------------------------------------------------------------------------------- widths


def test_rows_empty_cells_beyond_the_last_column_are_left_out_and_counted() -> None:
    table = read_table(b"text,label\none,a,\ntwo,b\nthree,c,, \n")
    assert table.columns == {"text": ["one", "two", "three"], "label": ["a", "b", "c"]}
    assert table.notes == ("2 rows end in empty cells beyond the last column; those are left out.",)
    assert read_table(b"text,label\none,a,\ntwo,b\n").notes[0].startswith("1 row ends in empty cells")


def test_rows_a_trailing_delimiter_everywhere_is_a_column_without_a_name() -> None:
    table = read_table(b"text,label,\none,a,\ntwo,b,\n")
    assert table.headers == ("text", "label", "column 3")
    assert table.column("column 3") == ["", ""]


@pytest.mark.parametrize(
    ("row", "cells"), [("one", "1 cell"), ("one,a,b", "3 cells"), ("one,a,,b", "4 cells"), ("one,a, x ", "3 cells")]
)
@pytest.mark.parametrize("blank", ["", "\n\n"])
def test_rows_of_another_width_are_refused_with_their_number(row: str, cells: str, blank: str) -> None:
    data = f"text,label\nzero,b\n{blank}{row}\ntwo,b\n"
    with pytest.raises(DataError, match=rf"^Row {3 + len(blank)} has {cells}, but the header has 2\. Put text that"):
        read_table(data.encode())


def test_rows_without_a_header_are_compared_with_the_first_row() -> None:
    with pytest.raises(DataError, match="Row 2 has 1 cell, but the first row has 2"):
        read_table(b"one,a\ntwo\n", header=False)


def test_rows_advice_names_the_quotes_of_the_file() -> None:
    with pytest.raises(DataError, match="Put text that holds the delimiter or a line break in single quotes"):
        read_table(b"'text';'label'\n'one';'a'\n'two';'b'\n'three, four'\n")


# --------------------------------------------------------------------------------------------- broken quotes


@pytest.mark.parametrize("quote", ['"', "'"])
def test_rows_an_open_quote_is_refused_with_the_row_it_opens_in(quote: str) -> None:
    data = f"text,label\none,a\n\n{quote}two,b\nthree,c\nfour,d\n"
    name = {'"': "double", "'": "single"}[quote]
    with pytest.raises(DataError, match=f"A {name} quote opened in row 4 is never closed. Close it, or double it"):
        read_table(data.encode(), quote=quote)


def test_rows_text_after_a_closing_quote_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"Row 3 has text after a closing double quote. .* \(\"\" for \"\)"):
        read_table(b'text,label\none,a\n"two" or three,b\n')


# ------------------------------------------------------------------------------------------------------- limits


def test_rows_stop_reading_at_the_limit(limit: Callable[..., None]) -> None:
    limit(max_rows=10)
    with Rows(b"text,label\n" + b"one,a\n" * 1_000_000, "utf-8", Dialect(), header=True) as rows:
        next(rows)
        with pytest.raises(LimitError, match="The file has more than 10 rows, the most that is accepted here"):
            rows.take(4096, [])
        assert rows.number == 12  # the header, ten rows and the one too many


def test_rows_a_long_cell_is_refused_with_its_row(limit: Callable[..., None]) -> None:
    limit(max_cell_characters=10)
    with pytest.raises(LimitError, match="Row 4 has a cell of 11 characters; at most 10 .* Is a quote left open?"):
        read_table(b"text,label\none,a\n\n12345678901,b\n")


# -------------------------------------------------------------------------------------------------------- names

CELLS = st.sampled_from(["", " ", "a", "b", "a (2)", "column 1", "column 2", "column 2 (2)", " a"])


@given(st.lists(CELLS, min_size=1, max_size=8))
@EVERY
def test_rows_names_are_present_and_unique_and_kept_where_they_can_be(cells: list[str]) -> None:
    names, notes = name_columns(cells, named=True)
    assert len(set(names)) == len(names) == len(cells)
    assert not any(map(is_missing, names))
    changed = [(cell, name) for cell, name in zip(cells, names, strict=True) if cell != name]
    assert len(notes) == len(changed)
    assert all(is_missing(cell) or cells.count(cell) > 1 for cell, _ in changed)
    assert {cell for cell in cells if not is_missing(cell)} <= set(names)


def test_rows_without_a_header_are_named_by_their_columns_without_notes() -> None:
    assert name_columns(["", "", ""], named=False) == (["column 1", "column 2", "column 3"], ())


def test_rows_the_first_row_counts_towards_the_limit_where_there_is_no_header(limit: Callable[..., None]) -> None:
    limit(max_rows=2)
    assert len(read_table(b"one,a\ntwo,b\n", header=False)) == 2
    with pytest.raises(LimitError, match="more than 2 rows"):
        read_table(b"one,a\ntwo,b\nthree,c\n", header=False)
