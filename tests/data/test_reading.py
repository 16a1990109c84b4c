from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from mtl.data.dialect import DELIMITERS
from mtl.data.reading import Table, is_missing, quoted, read_file, read_table, scan_file, stream_file
from mtl.errors import DataError, LimitError, UserError
from tests.data.strategies import BROKEN, ENCODINGS, EVERY, begins_like_another_file, rows, rows_of, written

ROWS = [["text", "label"], ["one, two\nthree", "a"], ["it's |;", "b"], ["", "a"], ['he said "no"', ""]]


def zipped(name: str) -> bytes:
    """Make a zip archive with one small file, as a workbook is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "text,topic\nhello,a\n")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------ what is refused, and how

HOSTILE = {
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "This is a PNG image, not a CSV file"),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "This is a JPEG image"),
    "gif": (b"GIF89a\x01\x00\x01\x00", "This is a GIF image"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "This is a PDF document"),
    "xlsx": (zipped("xl/workbook.xml"), "This is an Excel workbook, not a CSV file"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "This is an old Excel workbook"),
    "gzip": (gzip.compress(b"text,topic\nhello,a\n"), "This is a gzip archive"),
    "parquet": (b"PAR1\x15\x04\x15\x10", "This is a Parquet file"),
    "html": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "This is a web page, not a CSV file"),
    "html without a doctype": (b"<HTML><head>", "This is a web page"),
    "empty": (b"", "The file is empty"),
    "white space only": (b" \n\t\r\n  ", "The file is empty"),
    "byte order mark only": (b"\xef\xbb\xbf", "The file is empty"),
    "header only": (b"text,topic\n", "has a header but no rows"),
    "header and blank lines": (b"text,topic\n\n\r\n\n", "has a header but no rows"),
    "NUL": (b"text,topic\nhello,a\nwo\x00rld,b\n", "Line 3 holds a NUL character"),
    "invalid after a mark": (b"\xef\xbb\xbftext,topic\n\xff,a\n", "not UTF-8 text: line 2 holds the byte 0xff"),
    "truncated UTF-8": ("text,topic\nhello,é".encode()[:-1], "not UTF-8 text: line 2 holds the byte 0xc3"),
    "truncated UTF-16": ("text,topic\nhi,a\n".encode("utf-16")[:-1], "not UTF-16 text"),
    "random bytes": (bytes(range(128, 256)) * 4, "not UTF-8 text: line 1 holds the byte 0x80"),
    "unclosed quote": (b'text,topic\nhello,a\n"never closed,b\nmore,c\n', "quote opened in row 3 is never closed"),
    "unclosed quote in the header": (b'"text,topic\nhello,a\n', "quote opened in row 1 is never closed"),
    "text after a closing quote": (b'text,topic\nhello,a\n"so" he said,b\n', "Row 3 has text after a closing"),
    "too many cells": (b"text,topic\nhello,a\nhello, world,b\n", "Row 3 has 3 cells, but the header has 2"),
    "too few cells": (b"text,topic\nhello,a\nhello,a\nhello\n", "Row 4 has 1 cell, but the header has 2"),
}


@pytest.mark.parametrize(("data", "sentence"), HOSTILE.values(), ids=HOSTILE.keys())
def test_reading_says_in_one_sentence_what_is_wrong_and_where(data: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_table(data)


@pytest.mark.parametrize("encoding", ["no-such-codec", "base64", "utf\0"])
def test_reading_refuses_an_unknown_encoding(encoding: str) -> None:
    with pytest.raises(DataError, match="encoding|cannot be read as"):
        read_table(b"text,topic\nhello,a\n", encoding=encoding)


def test_reading_refuses_a_codec_that_is_not_for_files() -> None:
    with pytest.raises(DataError, match='cannot be read as "punycode"'):
        read_table(b"text,topic\nhello,a\n", encoding="punycode")


def test_reading_names_the_encoding_that_was_asked_for() -> None:
    with pytest.raises(DataError, match="not ASCII text: line 2 holds the byte 0xc3"):
        read_table("text,topic\né,a\n".encode(), encoding="ascii")


def test_reading_refuses_a_delimiter_that_is_none_of_the_four() -> None:
    with pytest.raises(DataError, match="comma, semicolon, tab, bar"):
        read_table(b"text,topic\nhello,a\n", delimiter="x")


@pytest.mark.parametrize(
    ("limits", "data", "sentence"),
    [
        ({"max_bytes": 20}, b"text,topic\nhello there,a\n", "The file has 0.0 MB"),
        ({"max_rows": 2}, b"text,topic\na,b\nc,d\ne,f\n", "more than 2 rows"),
        ({"max_columns": 3}, b"a,b,c,d\n1,2,3,4\n", "has 4 columns; at most 3"),
        ({"max_cell_characters": 5}, b"text,topic\nshort,a\nlonger,b\n", "Row 3 has a cell of 6 characters; at most 5"),
        ({"max_cell_characters": 200_000}, b"text,topic\n" + b"x" * 200_001 + b",a\n", "200,001 characters"),
    ],
    ids=["bytes", "rows", "columns", "characters", "a cell larger than the csv module's own limit"],
)
def test_reading_refuses_more_than_the_installation_accepts(
    limit: Callable[..., None], limits: dict[str, int], data: bytes, sentence: str
) -> None:
    limit(**limits)
    with pytest.raises(LimitError, match=re.escape(sentence)):
        read_table(data)


@pytest.mark.parametrize(
    ("limits", "data"),
    [
        ({"max_bytes": 25}, b"text,topic\nhello there,a\n"),
        ({"max_rows": 2}, b"text,topic\na,b\nc,d\n"),
        ({"max_columns": 4}, b"a,b,c,d\n1,2,3,4\n"),
        ({"max_cell_characters": 6}, b"text,topic\nlonger,b\n"),
    ],
    ids=["bytes", "rows", "columns", "characters"],
)
def test_reading_accepts_exactly_the_limit(limit: Callable[..., None], limits: dict[str, int], data: bytes) -> None:
    limit(**limits)
    assert len(read_table(data)) > 0


def test_reading_accepts_a_cell_larger_than_the_csv_modules_own_limit() -> None:
    sentence = "x" * 200_000
    assert read_table(written([["text", "topic"], [sentence, "a"]])).column("text") == [sentence]


# --------------------------------------------------------------------------------------------- what is read, and how


@pytest.mark.parametrize("cell", ["NA", "None", "null", "nan", "01", "true", "1.0", "1e5", " x ", "-", "=1+1", "𝄞 é"])
def test_reading_keeps_every_cell_as_typed(cell: str) -> None:
    table = read_table(written([["text", "label"], ["a text", cell], [cell, "b"]]))
    assert table.columns == {"text": ["a text", cell], "label": [cell, "b"]}


@pytest.mark.parametrize("cell", ["", " ", "\t", "\u00a0", "\n"])
def test_reading_only_an_empty_or_blank_cell_is_missing(cell: str) -> None:
    assert is_missing(cell)
    assert read_table(written([["text", "label"], ["a text", cell]])).column("label") == [cell]


@pytest.mark.parametrize("cell", ["NA", "None", "0", "false", "-", "\u200b"])
def test_reading_no_word_means_missing(cell: str) -> None:
    assert not is_missing(cell)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_reading_encodings_and_line_ends_give_the_same_table(encoding: str, line_end: str) -> None:
    lines = ["text,topic", "Grüße aus 東京,a", '"two, words",b']
    table = read_table(line_end.join(lines).encode(encoding))
    assert table.columns == {"text": ["Grüße aus 東京", "two, words"], "topic": ["a", "b"]}
    assert table.encoding == encoding


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-8"])
def test_reading_a_byte_order_mark_is_never_part_of_the_header(encoding: str) -> None:
    data = "\ufefftext,topic\nhello,a\n".encode(encoding)
    assert read_table(data).headers == ("text", "topic")
    assert read_table(data, encoding=encoding).headers == ("text", "topic")


def test_reading_an_encoding_can_be_named() -> None:
    table = read_table("text,topic\ncafé,a\n".encode("cp1252"), encoding="cp1252")
    assert (table.column("text"), table.encoding) == (["café"], "cp1252")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_reading_keeps_line_breaks_inside_a_quoted_cell(line_end: str) -> None:
    table = read_table(f'text,topic\n"one{line_end}two{line_end}{line_end}",a\n'.encode())
    assert table.column("text") == [f"one{line_end}two{line_end}{line_end}"]


def test_reading_unicode_line_separators_do_not_end_a_row() -> None:
    cell = "one\u2028two\x85three\x0bfour"
    assert read_table(written([["text", "topic"], [cell, "a"]])).column("text") == [cell]


def test_reading_doubled_quotes_are_one_quote_and_a_quote_inside_a_word_is_itself() -> None:
    table = read_table(b'text,topic\n"he said ""no""",a\n6" pipe,b\n')
    assert table.column("text") == ['he said "no"', '6" pipe']


def test_reading_leaves_blank_lines_out() -> None:
    table = read_table(b"\n\ntext,topic\n\nhello,a\n\n\nbye,b\n\n")
    assert table.column("text") == ["hello", "bye"]


def test_reading_a_last_line_without_an_end_is_a_row() -> None:
    assert read_table(b"text,topic\nhello,a\nbye,b").column("topic") == ["a", "b"]


def test_reading_one_column_is_a_table() -> None:
    assert read_table(b"text\nhello\nbye\n").columns == {"text": ["hello", "bye"]}


@pytest.mark.parametrize(
    ("header", "names", "notes"),
    [
        ("text,topic,topic", ("text", "topic", "topic (2)"), ['repeats the name "topic"']),
        ("text,,", ("text", "column 2", "column 3"), ["Column 2 has no name", "Column 3 has no name"]),
        ('text," "', ("text", "column 2"), ['it is called "column 2"']),
        ("a,a,a,a", ("a", "a (2)", "a (3)", "a (4)"), ["Column 2", "Column 3", "Column 4"]),
        ("a,a,a (2)", ("a", "a (3)", "a (2)"), ['Column 2 repeats the name "a"; here it is called "a (3)"']),
        (",column 1", ("column 1 (2)", "column 1"), ['Column 1 has no name; here it is called "column 1 (2)"']),
        ("Text,text, text", ("Text", "text", " text"), []),
    ],
)
def test_reading_keeps_columns_apart_and_says_so(header: str, names: tuple[str, ...], notes: list[str]) -> None:
    width = len(names)
    table = read_table(f"{header}\n{','.join('abcd'[:width])}\n".encode())
    assert table.headers == names
    assert [table.columns[name] for name in names] == [[cell] for cell in "abcd"[:width]]
    assert len(table.notes) == len(notes)
    assert all(part in note for part, note in zip(notes, table.notes, strict=True))


@pytest.mark.parametrize(("delimiter", "word"), DELIMITERS.items())
def test_reading_finds_the_delimiter(delimiter: str, word: str) -> None:
    rivals = "".join(other for other in DELIMITERS if other != delimiter)
    rows = [["text", "topic", "mood"], [f"well{rivals} said", "a", ""], ["", "b", f"good{rivals[0]} fine"]]
    table = read_table(written(rows, delimiter))
    assert table.delimiter == delimiter
    assert [list(table.headers), *zip(*table.columns.values(), strict=True)] == [rows[0], *map(tuple, rows[1:])]


def test_reading_finds_the_delimiter_although_its_sample_ends_inside_a_quoted_cell() -> None:
    rows = [["text", "topic"], *([f"a; b | c, {'word ' * 3_000}\n{number}", "x"] for number in range(10))]
    assert read_table(written(rows, ";")).column("text") == [text for text, _ in rows[1:]]


def test_reading_decimal_commas_do_not_hide_the_semicolon() -> None:
    table = read_table(b"text;score\ngood;1,5\nbad;0,5\n")
    assert table.columns == {"text": ["good", "bad"], "score": ["1,5", "0,5"]}


def test_reading_a_named_delimiter_is_obeyed() -> None:
    assert read_table(b"a,b;c\n1,2;3\n", delimiter=";").columns == {"a,b": ["1,2"], "c": ["3"]}


def test_reading_a_file_equals_reading_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "some table.csv"
    path.write_bytes(b"text,topic\r\nhello,a\r\n")
    assert read_file(path) == read_file(str(path)) == read_table(path.read_bytes())


def test_reading_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv cannot be read: no such file"):
        read_file(tmp_path / "missing.csv")


def test_reading_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path)


def test_reading_a_large_file_is_refused_unread(
    tmp_path: Path, limit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"text,topic\nhello,a\n" * 100)
    limit(max_bytes=1_000)
    monkeypatch.delattr(Path, "read_bytes")
    with pytest.raises(LimitError, match="MB"):
        read_file(path)


def test_reading_a_table_without_numbers_counts_from_below_its_header() -> None:
    cells = {"text": ["one", "two"]}
    assert [Table(cells).number(index) for index in (0, 1)] == [2, 3]
    assert [Table(cells, header=False).number(index) for index in (0, 1)] == [1, 2]
    assert Table(cells, numbers=(4, 9)).place(1) == "9"


@pytest.mark.parametrize("index", [0, 2, 4])
def test_reading_a_scanned_file_streams_the_rows_that_reading_gives(tmp_path: Path, index: int) -> None:
    path = tmp_path / "table.csv"
    data = (written(ROWS), written(ROWS[1:]), written(ROWS, ";"), b"sep=|\n" + written(ROWS, "|"), b"a\n\nb\n")
    path.write_bytes(data[index])
    layout = scan_file(path)
    table = read_file(path)
    assert (layout.headers, layout.rows, layout.notes) == (table.headers, len(table), table.notes)
    assert list(stream_file(path, layout)) == rows_of(table)[1:]


def test_reading_scanning_finds_what_reading_would(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"text,label\none,a\ntwo\n")
    with pytest.raises(DataError, match="Row 3 has 1 cell"):
        scan_file(path)


def test_reading_a_missing_column_is_named_with_those_there_are() -> None:
    table = read_table(b"text,topic\nhello,a\n")
    with pytest.raises(DataError, match='no column "label"; the file has "text", "topic"'):
        table.column("label")


def test_reading_a_long_list_of_names_is_cut() -> None:
    assert quoted(["a", "b"]) == '"a", "b"'
    assert quoted([str(number) for number in range(5)], most=2) == '"0", "1" and 3 more'


# ------------------------------------------------------------------------------------------------------- properties


@given(delimiter=st.sampled_from(list(DELIMITERS)), rows=rows())
@EVERY
def test_reading_gives_back_what_a_csv_writer_wrote(delimiter: str, rows: list[list[str]]) -> None:
    assume(not begins_like_another_file(rows))
    table = read_table(written(rows, delimiter), delimiter=delimiter, quote='"', header=True)
    assert rows_of(table) == rows
    assert len(table) == len(rows) - 1
    assert table.notes == ()


@given(delimiter=st.sampled_from(list(DELIMITERS)), rows=rows(st.text(st.sampled_from("ab01 .\"'\r\né"), max_size=8)))
@EVERY
def test_reading_finds_the_delimiter_of_any_table_without_rivals(delimiter: str, rows: list[list[str]]) -> None:
    table = read_table(written(rows, delimiter), quote='"', header=True)
    assert rows_of(table) == rows


@given(data=BROKEN, encoding=ENCODINGS)
@EVERY
def test_reading_any_bytes_give_a_table_or_an_error_for_people(data: bytes, encoding: str | None) -> None:
    try:
        table = read_table(data, encoding=encoding)
    except UserError as error:
        assert type(error) in (DataError, LimitError)
        assert str(error).endswith((".", "?"))
        assert "\0" not in str(error)
        return
    assert len(table) > 0
    assert {len(cells) for cells in table.columns.values()} == {len(table)}
    assert all(name.strip() for name in table.headers)
    assert [table.number(index) for index in range(len(table))] == sorted({table.number(i) for i in range(len(table))})
