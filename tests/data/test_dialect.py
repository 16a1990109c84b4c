from __future__ import annotations

import csv
import io
import re
import time
from itertools import product
from typing import Literal

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mtl.data.dialect import DELIMITERS, SAMPLE_CHARACTERS, Dialect, candidates, has_header, sample_records
from mtl.data.reading import Table, read_table
from mtl.errors import DataError
from tests.data.strategies import EVERY, rows_of

ROWS = [
    ["text", "topic", "mood"],
    ["rain, wind; and | snow\tin the morning", "weather", "bad"],
    ["a goal\nin the last minute", "sports", "good"],
    ['he said "go" and it\'s gone', "sports", ""],
    ["'tis a draw", "sports", "it's ok"],
    ["", "weather", "bad"],
]


def written(
    rows: list[list[str]], delimiter: str, quote: str, line_end: str, quoting: Literal[0, 1] = csv.QUOTE_MINIMAL
) -> bytes:
    """Write rows with these marks; every line break is quoted, whatever the line ends are."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quotechar=quote, lineterminator="\r\n", quoting=quoting).writerows(rows)
    return buffer.getvalue().replace("\r\n", line_end).encode()


# ------------------------------------------------------------------------------------------ delimiters and quotes


@pytest.mark.parametrize(
    ("delimiter", "quote", "line_end", "quoting"),
    list(product(DELIMITERS, ['"', "'"], ["\n", "\r\n", "\r"], [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
)
def test_dialect_every_way_of_writing_a_table_gives_the_same_cells(
    delimiter: str, quote: str, line_end: str, quoting: Literal[0, 1]
) -> None:
    table = read_table(written(ROWS, delimiter, quote, line_end, quoting))
    assert rows_of(table) == ROWS
    assert (table.delimiter, table.quote, table.header) == (delimiter, quote, True)


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_dialect_a_table_without_quotes_is_divided_by_the_delimiter_alone(delimiter: str, line_end: str) -> None:
    rows = [["text", "label"], ["it's fine", "a"], ["so so", "b"], ["'tis bad", "a"]]
    data = line_end.join(delimiter.join(row) for row in rows).encode()
    table = read_table(data)
    assert rows_of(table) == rows
    assert (table.delimiter, table.quote) == (delimiter, '"')


TEXT = st.text(st.sampled_from("ab ,;|\t'\"\n.é"), min_size=1, max_size=10).filter(str.strip)


@given(
    st.lists(TEXT, min_size=3, max_size=20),
    st.sampled_from(list(DELIMITERS)),
    st.sampled_from(['"', "'"]),
    st.sampled_from(["\n", "\r\n"]),
)
@EVERY
def test_dialect_a_quoted_table_of_any_texts_is_read_exactly(
    texts: list[str], delimiter: str, quote: str, line_end: str
) -> None:
    """With every cell quoted there is one way only to read it, whatever the texts hold."""
    rows = [["text", "label"], *([text, "ab"[number % 2]] for number, text in enumerate(texts))]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quotechar=quote, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows(rows)
    table = read_table(buffer.getvalue().encode(), header=True)
    assert rows_of(table) == rows


# ------------------------------------------------------------------- `'`: quotes only where every field says so


def cells(data: str) -> list[list[str]]:
    """Read the cells of a comma-separated table with the header text, label."""
    return [list(row) for row in zip(*read_table(f"text,label\n{data}".encode()).columns.values(), strict=True)]


@pytest.mark.parametrize(
    "data",
    [
        "'tis the season,a\nit was 'great',b\n",
        "'tis,a\n'twas,b\n",
        "'tis the season',a\n'twas the night,b\n",
        "rock 'n' roll,a\nboys' toys,b\n",
        "'90s music,a\nthe '80s',b\n",
        "',a\n'',b\n''',a\n",
        "say 'no',a\nsay 'yes',b\n",
        "'no' he said,a\n'yes' she said,b\n",
        "'really',a\nplain,b\n'yes',a\n",
        "it's,'a'\nit is,b\n",
        "'cause I said so,a\nit was the boys',b\nso what,a\n",
        "'em all,a\nnothin',b\n",
    ],
)
def test_dialect_apostrophes_are_never_eaten(data: str) -> None:
    assert cells(data) == [line.rsplit(",", 1) for line in data.splitlines()]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("'tis, or so',a\nplain,b\n", [["tis, or so", "a"], ["plain", "b"]]),
        ("'one','a'\n'two','b'\n", [["one", "a"], ["two", "b"]]),
        ("'it''s one','a'\n'two','b'\n", [["it's one", "a"], ["two", "b"]]),
        ("'one\nmore',a\ntwo,b\n", [["one\nmore", "a"], ["two", "b"]]),
        ("one,a\n'it''s two',b\nthree,c\n", [["one", "a"], ["it's two", "b"], ["three", "c"]]),
        ("'one',a\n'two',b\n'three, four',c\n", [["one", "a"], ["two", "b"], ["three, four", "c"]]),
        ("'','a'\n'two','b'\n", [["", "a"], ["two", "b"]]),
    ],
)
def test_dialect_single_quotes_are_taken_off_where_every_field_that_begins_with_one_ends_with_one(
    data: str, expected: list[list[str]]
) -> None:
    assert cells(data) == expected


WORDS = st.text(st.sampled_from("ab' "), min_size=1, max_size=6).filter(lambda word: word.strip("' "))


@given(st.lists(WORDS, min_size=1, max_size=12))
@EVERY
def test_dialect_no_apostrophe_is_lost_unless_all_fields_are_quoted(texts: list[str]) -> None:
    found = [text for text, _ in cells("".join(f"{text},x\n" for text in texts))]
    if all(re.fullmatch("'([^']|'')*'", text) for text in texts):
        assert found == [text[1:-1].replace("''", "'") for text in texts]
    elif not all(text.endswith("'") and len(text) > 1 for text in texts if text.startswith("'")):
        assert found == texts
    else:
        assert found == texts or any("'" in text[1:-1] for text in texts if text.startswith("'"))


def test_dialect_double_quotes_hide_single_ones() -> None:
    assert cells('"\'tis, he said",a\n"she said, \'no\'",b\n') == [["'tis, he said", "a"], ["she said, 'no'", "b"]]


def test_dialect_a_chosen_quote_is_obeyed() -> None:
    data = b"text,label\n'one',a\n\"two\",b\n"
    assert read_table(data, quote="'").column("text") == ["one", '"two"']
    assert read_table(data, quote='"').column("text") == ["'one'", "two"]
    assert read_table(data, quote="").column("text") == ["'one'", '"two"']


def test_dialect_an_unknown_quote_is_refused() -> None:
    with pytest.raises(DataError, match="The quote must be a double quote, a single quote, or empty for none"):
        read_table(b"text,label\none,a\n", quote="`")


# ----------------------------------------------------------------------------------------- other ways of writing


def test_dialect_tabs_without_quoting_keep_stray_quotes() -> None:
    data = b'text\tlabel\n"so what\ta\nhe said "hi"\tb\n"really" she said\ta\n6" of snow\tb\n'
    table = read_table(data)
    assert table.column("text") == ['"so what', 'he said "hi"', '"really" she said', '6" of snow']
    assert table.notes == ("Quotes are read as part of the text, since they do not enclose cells.",)


def test_dialect_quotes_after_a_delimiter_and_a_blank_enclose_cells() -> None:
    table = read_table(b'text, label\nhello, "x, y"\n"bye, bye", z\n')
    assert table.columns == {"text": ["hello", "bye, bye"], "label": ["x, y", "z"]}
    assert "Blanks after a delimiter are taken as layout" in table.notes[0]


def test_dialect_a_column_of_texts_may_hold_any_mark() -> None:
    lines = ['"Be yourself" - somebody', "one, two", "a; b", "it's 'so'"]
    data = "text\n" + "\n".join(lines[:1] + lines[2:]) + "\n"
    assert read_table(data.encode()).columns == {"text": lines[:1] + lines[2:]}
    assert read_table(b'text\n"one, two"\n"a ""b"""\n').column("text") == ["one, two", 'a "b"']


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_dialect_the_wider_even_table_wins(delimiter: str) -> None:
    other = "," if delimiter == ";" else ";"
    lines = [f"a{other}b{delimiter}c{delimiter}d"] * 4
    table = read_table("\n".join(lines).encode(), header=True)
    assert table.delimiter == delimiter
    assert len(table.headers) == 3


def test_dialect_decimal_commas_lose_against_as_many_semicolons() -> None:
    table = read_table(b"gut;1,5;2,5\nschlecht;0,5;3,5\n", header=False)
    assert table.columns == {"column 1": ["gut", "schlecht"], "column 2": ["1,5", "0,5"], "column 3": ["2,5", "3,5"]}


def test_dialect_a_sample_that_ends_inside_a_cell_is_no_reason_to_doubt() -> None:
    long = "wort; und, " * (SAMPLE_CHARACTERS // 20)
    table = read_table(f"text;label\n'{long}';a\n'{long}';b\n'kurz';a\n".encode())
    assert (table.delimiter, table.quote) == (";", "'")
    assert table.column("text") == [long, long, "kurz"]


def test_dialect_a_cell_may_be_larger_than_the_csv_modules_own_limit() -> None:
    before = csv.field_size_limit(131_072)
    try:
        long = "word; " * 30_000
        assert len(sample_records(f"text\tlabel\n{long}\ta\nb\tb\n", Dialect("\t"))) == 3
    finally:
        csv.field_size_limit(max(before, csv.field_size_limit()))


@pytest.mark.parametrize(
    "pattern", ["'", "''", "'a", "'a,", "a'b,", '"', '""', '",', "\n", "\r\n", ";|,\t", "a b ", "'a'\n", '"a" b\n']
)
def test_dialect_is_guessed_in_time_that_grows_with_the_sample_alone(pattern: str) -> None:
    def seconds(size: int) -> float:
        sample = (pattern * size)[:size]
        start = time.process_time()
        for dialect in candidates(sample):
            has_header(sample_records(sample, dialect))
        return time.process_time() - start

    seconds(1_000)
    assert seconds(160_000) < 12 * seconds(40_000) + 0.05  # four times the size; a square would be 16 times


def test_dialect_options_of_no_quote_are_those_of_the_csv_module() -> None:
    assert list(csv.reader(["\"a\"\t'b'"], **Dialect("\t", "").options())) == [['"a"', "'b'"]]


# --------------------------------------------------------------------------------------------------------- header

SHORT = ["I love it", "I hate it", "It is fine", "Not again", "So good", "Too loud", "Nice staff"]
LONG = [f"{text} and I would say so again" for text in SHORT]
MOOD = ["good", "bad", "good", "bad", "good", "bad", "good"]


def table_of(*columns: list[str], header: str = "", delimiter: str = ",") -> str:
    """Write columns below a header line."""
    lines = [delimiter.join(row) for row in zip(*columns, strict=True)]
    return "\n".join([*([header] if header else []), *lines]) + "\n"


NUMBERS = [str(number) for number in range(7)]
DATES = [f"2024-01-{number + 1:02}" for number in range(7)]
WITH_HEADER = {
    "usual names": table_of(SHORT, MOOD, header="text,label"),
    "German, semicolons": table_of(SHORT, MOOD, NUMBERS, header="Kommentar;Stimmung;Note", delimiter=";"),
    "French": table_of(SHORT, NUMBERS, header="avis,note"),
    "Chinese": table_of(["酒店非常好", "菜是凉的", "服务很慢"] * 5, ["正面", "负面", "负面"] * 5, header="评论,情感"),
    "capitals": table_of(NUMBERS, SHORT, MOOD, header="ID,TEXT,CATEGORY"),
    "a number in it": table_of(MOOD, SHORT, header="v1,v2"),
    "underscores": table_of(NUMBERS, MOOD, SHORT, header="tweet_id,airline_sentiment,tweet_text"),
    "numbers below, tabs": table_of(SHORT, NUMBERS, header="sentence\tpolarity", delimiter="\t"),
    "a date column": table_of(DATES, MOOD, SHORT, header="date,user,message"),
    "several 0/1 columns": table_of(SHORT, ["0", "1"] * 3 + ["0"], ["1"] * 7, header="comment_text,toxic,obscene"),
    "whole questions": table_of(
        MOOD * 2, LONG * 2, header="Which of these do you like best?,Please explain why in your own words"
    ),
    "an unnamed index": table_of(NUMBERS, SHORT, MOOD, header=",text,label"),
    "all quoted": table_of([f'"{text}"' for text in SHORT], [f'"{n}"' for n in NUMBERS], header='"review","rating"'),
    "spans": table_of(SHORT, ['"[{""start"": 0, ""end"": 1, ""label"": ""X""}]"'] * 7, header="text,entities"),
    "one column": table_of(SHORT, header="comments"),
    "one row": "text,topic\nthe team won the game,sports\n",
    "unusual names, many rows": table_of(["north", "south", "east"] * 6, (SHORT * 3)[:18], header="zone,remark"),
    "a name that is a label elsewhere": table_of(["yes", "no"] * 3 + ["no"], SHORT, header="positive,text"),
    "two rows, nothing known": "alpha,beta\ngamma,delta\n",
}
WITHOUT_HEADER = {
    "sentences and labels": table_of(LONG, ["pos", "neg", "pos", "neg", "pos", "neg", "pos"]),
    "labels first, semicolons": table_of(MOOD, LONG, delimiter=";"),
    "labels of our own": table_of(LONG, ["delay", "dirt", "delay", "delay", "dirt", "delay", "dirt"]),
    "tabs and 0/1": table_of(SHORT, ["0", "1", "0", "0", "1", "1", "0"], delimiter="\t"),
    "spam": table_of(["ham", "spam", "ham", "ham", "spam", "ham", "ham"], SHORT, delimiter="\t"),
    "polarity, id, date, user": table_of(
        ["4", "0", "2", "4", "0", "2", "4"],
        NUMBERS,
        [f"Mon May 11 03:1{n}:40 UTC 2009" for n in range(7)],
        [f"user{n}" for n in range(7)],
        SHORT,
    ),
    "dates": table_of(DATES, SHORT, ["anna", "ben", "anna", "cora", "ben", "anna", "cora"]),
    "numbers on both sides": table_of(NUMBERS, SHORT, ["5", "4", "1", "2", "3", "1", "5"]),
    "true and false": table_of(SHORT, ["true", "false", "true", "true", "false", "true", "false"]),
    "links": table_of([f"https://example.org/{n}" for n in range(7)], SHORT, ["bird", "cat"] * 3 + ["cat"]),
    "texts alone": table_of(LONG),
    "one label": table_of(LONG, ["spam"] * 7),
    "sorted by class": table_of([f"{text} {n}" for n in (1, 2) for text in LONG], ["first"] * 7 + ["second"] * 7),
    "fastText": table_of(["__label__1", "__label__2"] * 3 + ["__label__2"], LONG),
    "Chinese": table_of(["酒店非常好", "菜是凉的", "服务很慢"] * 3, ["正面", "负面", "负面"] * 3),
    "news": table_of(["3", "3", "4", "2", "1", "3", "4"], LONG, [f"{text} today" for text in LONG]),
    "a label with a space": table_of(LONG, ["not ok", "ok", "not ok", "ok", "not ok", "ok", "ok"]),
}


@pytest.mark.parametrize("data", WITH_HEADER.values(), ids=WITH_HEADER.keys())
def test_dialect_a_header_is_recognised(data: str) -> None:
    table = read_table(data.encode())
    assert table.header
    assert rows_of(table)[0][-1] == next(csv.reader([data.split("\n")[0]], delimiter=table.delimiter))[-1]


@pytest.mark.parametrize("data", WITHOUT_HEADER.values(), ids=WITHOUT_HEADER.keys())
def test_dialect_a_first_row_of_data_is_not_taken_for_a_header(data: str) -> None:
    table = read_table(data.encode())
    assert not table.header
    assert table.headers == tuple(f"column {number + 1}" for number in range(len(table.headers)))
    assert len(table) == data.count("\n")
    assert any("does not look like a header" in note for note in table.notes)


@pytest.mark.parametrize(("data", "header"), [(WITH_HEADER["spans"], False), (WITHOUT_HEADER["spam"], True)])
def test_dialect_the_guess_of_a_header_can_be_overruled(data: str, header: bool) -> None:
    table = read_table(data.encode(), header=header)
    assert table.header is header
    assert len(table) == data.count("\n") - header


def test_dialect_no_rows_below_say_nothing() -> None:
    assert has_header([]) and has_header([["a", "b"]])


@given(st.lists(st.lists(st.text(max_size=4), max_size=4), max_size=10))
@EVERY
def test_dialect_any_rows_have_a_header_or_none(rows: list[list[str]]) -> None:
    assert has_header(rows) in (True, False)


def guessed(table: Table) -> tuple[str, str]:
    return table.delimiter, table.quote


@given(st.text(st.sampled_from("ab,;|\t'\"\r\n "), max_size=60))
@EVERY
def test_dialect_candidates_share_a_delimiter_and_none_comes_twice(sample: str) -> None:
    found = candidates(sample)
    assert len(found) == len(set(found)) > 0
    assert len({dialect.delimiter for dialect in found}) == 1
