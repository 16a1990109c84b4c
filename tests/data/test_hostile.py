"""One table of files as they arrive, each with what comes of it: exact cells, exact labels, or one sentence."""

from __future__ import annotations

import gzip
import io
import pickle
import sqlite3
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from mtl.config import RunConfig
from mtl.config_text import from_dict
from mtl.data.preparing import divide, understand_table
from mtl.data.profile import profile
from mtl.data.reading import Table, read_table
from mtl.errors import DataError, LimitError, UserError

# ------------------------------------------------------------------------------------------------ what comes of a file


@dataclass(frozen=True)
class Cells:
    """It is read into exactly these columns."""

    columns: dict[str, list[str]]
    notes: tuple[str, ...] = ()  # words of each note


@dataclass(frozen=True)
class Labels:
    """A run could start: exactly these tasks with these counts, and these words among the problems."""

    counts: dict[str, dict[str, int]]
    problems: tuple[str, ...] = ()
    text: str = "text"


@dataclass(frozen=True)
class Refused:
    """It is not a table, and the sentence says why and where."""

    words: tuple[str, ...]
    error: type[UserError] = DataError


@dataclass(frozen=True)
class NoRun:
    """It is read, but there is nothing to train on, and the sentence says why."""

    words: tuple[str, ...]
    error: type[UserError] = DataError


@dataclass(frozen=True)
class Case:
    """A file and its outcome."""

    name: str
    data: bytes | str | Callable[[], bytes | str]
    outcome: Cells | Labels | Refused | NoRun
    limits: dict[str, int] = field(default_factory=dict)
    config: dict[str, dict[str, object]] = field(default_factory=dict)

    def content(self) -> bytes:
        """Return the bytes of the file."""
        data = self.data() if callable(self.data) else self.data
        return data.encode() if isinstance(data, str) else data


# ------------------------------------------------------------------------------------------------------------ builders

SHORT = "text,label\nhello there you,a\n"
MORE = [f"a sentence with the number {number} in it" for number in range(60)]
WORDS = MORE[:24]


def labelled(labels: list[str], name: str = "label", texts: list[str] | None = None) -> str:
    """Write sentences with these labels, each quoted."""
    rows = [
        f'"{text}","{label.replace(chr(34), chr(34) * 2)}"' for text, label in zip(texts or WORDS, labels, strict=False)
    ]
    return "\n".join([f"text,{name}", *rows]) + "\n"


def many(count: int, row: Callable[[int], str], header: str = "text,label") -> str:
    """Write numbered rows below a header."""
    return "\n".join([header, *(row(number) for number in range(count))]) + "\n"


def zipped(name: str) -> bytes:
    """Make a zip archive with one small file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, SHORT)
    return buffer.getvalue()


def database() -> bytes:
    """Make a SQLite database."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table texts (text, label)")
    return connection.serialize()


def tags(marks: list[str]) -> str:
    """Write texts of three words with tags and a label."""
    return many(24, lambda n: f"Anna met Bo,{marks[n % len(marks)]},{'ab'[n % 2]}", "text,tags,label")


SPAN = '[{""start"": %d, ""end"": %d, ""label"": ""PER""}]'
ODD_LABELS = ["NA", "None", "null", "nan", "N/A", "true", "True", "01", "1", "1.0", "1e0", "-", "#N/A", "inf"]
LONG = [f"{'ein wort; noch ein wort, und ' * 1_100}{number}" for number in range(6)]
ACCENTS = ["é", "e\u0301", "e", "а", "a", "א", "😀", "👍🏽", "\u200b", "\u202eb"]
MASKED = ["late"] * 5 + ["lost"] * 4 + [""] * 16
SIX = dict.fromkeys("ab", 12)

CASES = [
    # ------------------------------------------------------------------------------------------- not text at all
    Case("NUL in a cell", b"text,label\none,a\ntw\0o,b\n", Refused(("Line 3 holds a NUL",))),
    Case("NUL alone", b"\0" * 1_000, Refused(("Line 1 holds a NUL",))),
    Case("NUL in UTF-16", "text,label\none,\0a\n".encode("utf-16"), Refused(("Line 2 holds a NUL",))),
    Case("gzip", gzip.compress(SHORT.encode()), Refused(("a gzip archive", "Unpack it"))),
    Case("zip", zipped("table.csv"), Refused(("a zip archive", "Unpack it"))),
    Case("xlsx", zipped("xl/workbook.xml"), Refused(("an Excel workbook", "save the table as CSV"))),
    Case("xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504, Refused(("an old Excel workbook",))),
    Case("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Refused(("a PNG image", "Upload the table itself"))),
    Case("jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF\0", Refused(("a JPEG image",))),
    Case("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", Refused(("a PDF document",))),
    Case("parquet", b"PAR1\x15\x04\x15\x10", Refused(("a Parquet file", "Write it out as CSV"))),
    Case("pickle", pickle.dumps({"text": ["one"]}), Refused(("a Python pickle",))),
    Case("sqlite", database, Refused(("a SQLite database",))),
    Case("random bytes", bytes(range(128, 256)) * 40, Refused(("not UTF-8 text", "line 1", "0x80"))),
    # ------------------------------------------------------------------------------------ text, but not a table
    Case("empty", b"", Refused(("The file is empty",))),
    Case("byte order mark alone", b"\xef\xbb\xbf", Refused(("The file is empty",))),
    Case("UTF-16 mark alone", b"\xff\xfe", Refused(("The file is empty",))),
    Case("white space alone", b" \t\r\n \n", Refused(("The file is empty",))),
    Case("header alone", "text,label\n", Refused(("a header but no rows",))),
    Case("header and blank lines", "text,label\r\n\r\n \r\n", Refused(("a header but no rows",))),
    Case("HTML", "<!DOCTYPE html>\n<html><body>Sign in</body></html>", Refused(("a web page",))),
    Case("XML", '<?xml version="1.0"?>\n<rows><row/></rows>', Refused(("an XML document",))),
    Case("JSON", '[{"text": "one", "label": "a"}]', Refused(("JSON", "CSV (UTF-8)"))),
    Case("JSON lines", '{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n', Refused(("JSON",))),
    Case("notes", "Dear all,\nplease find below\nthe list, as agreed, of names\n", Refused(("Row 2 has 1 cell",))),
    # ------------------------------------------------------------------------------------------------- encodings
    Case(
        "UTF-16 LE",
        b"\xff\xfe" + labelled(["é", "東"] * 12).encode("utf-16-le"),
        Labels({"label": {"é": 12, "東": 12}}),
    ),
    Case(
        "UTF-16 BE",
        b"\xfe\xff" + labelled(["é", "東"] * 12).encode("utf-16-be"),
        Labels({"label": {"é": 12, "東": 12}}),
    ),
    Case("UTF-16 without a mark", labelled(["é", "ü"] * 12).encode("utf-16-le"), Labels({"label": {"é": 12, "ü": 12}})),
    Case("UTF-32", labelled(["é", "ü"] * 12).encode("utf-32"), Labels({"label": {"é": 12, "ü": 12}})),
    Case("UTF-8 with a mark", labelled(["é", "ü"] * 12).encode("utf-8-sig"), Labels({"label": {"é": 12, "ü": 12}})),
    Case("UTF-16 cut short", SHORT.encode("utf-16")[:-1], Refused(("not UTF-16 text",))),
    Case("UTF-8 cut short", "text,label\none,é".encode()[:-1], Refused(("line 2", "0xc3"))),
    Case("UTF-8 with a cp1252 cell", "text,label\nÜber,ä\n".encode() + b"caf\xe9,b\n", Refused(("line 3", "0xe9"))),
    Case(
        "cp1252",
        labelled(["müde", "fröhlich"] * 12).encode("cp1252"),
        Labels({"label": {"müde": 12, "fröhlich": 12}}, ("read as cp1252 (Western European)",)),
    ),
    Case(
        "cp1251",
        labelled(["хорошо", "плохо"] * 12).encode("cp1251"),
        Labels({"label": {"хорошо": 12, "плохо": 12}}, ("read as cp1251 (Cyrillic)",)),
    ),
    Case(
        "Shift JIS",
        labelled(["良い", "悪い"] * 12, texts=["料理は冷たくて、サービスは遅かった。"] + WORDS[1:]).encode("cp932"),
        Labels({"label": {"良い": 12, "悪い": 12}}, ("read as cp932 (Japanese",)),
    ),
    # -------------------------------------------------------------------------------------------------- line ends
    Case("CR only", labelled(["a", "b"] * 12).replace("\n", "\r"), Labels({"label": SIX})),
    Case("CRLF", labelled(["a", "b"] * 12).replace("\n", "\r\n"), Labels({"label": SIX})),
    Case("no line end at the end", SHORT + "bye,b", Cells({"text": ["hello there you", "bye"], "label": ["a", "b"]})),
    Case("mixed line ends", "text,label\r\none,a\ntwo,b\r", Cells({"text": ["one", "two"], "label": ["a", "b"]})),
    Case(
        "CRLF in cells",
        'text,label\r\n"one\r\nmore",a\r\n"two\n\nmore",b\r\n',
        Cells({"text": ["one\r\nmore", "two\n\nmore"], "label": ["a", "b"]}),
    ),
    Case("bare CR in a quoted cell", 'text,label\n"one\rmore",a\n', Cells({"text": ["one\rmore"], "label": ["a"]})),
    Case("bare CR in a bare cell", "text,label\none,a\ntwo\rmore,b\n", Refused(("Row 3 has 1 cell",))),
    Case(
        "other separators in a cell",
        "text,label\none\u2028two\u2029three\x85four\x0bfive\x0csix\x1c,a\n",
        Cells({"text": ["one\u2028two\u2029three\x85four\x0bfive\x0csix\x1c"], "label": ["a"]}),
    ),
    Case("DOS end of file", "text,label\none,a\n\x1a", Refused(("Row 3 has 1 cell",))),
    # ------------------------------------------------------------------------------------------------ far too much
    Case(
        "20 MB field",
        lambda: b"text,label\none,a\n" + b"x" * 20_000_000 + b",b\n",
        Refused(("Row 3", "more than 16,777,216 characters"), LimitError),
    ),
    Case(
        "5 MB quoted field",
        lambda: b'text,label\n"' + b"x\n" * 2_500_000 + b'",b\n',
        Refused(("Row 2", "5,000,000"), LimitError),
    ),
    Case(
        "100,000 columns",
        lambda: ",".join(map(str, range(100_000))) + "\n",
        Refused(("100,000 columns", "at most 1,000"), LimitError),
    ),
    Case("100,000 commas", lambda: ("," * 100_000 + "\n") * 2, Refused(("100,001 columns",), LimitError)),
    Case(
        "100,000 labels",
        lambda: many(100_000, lambda n: f"the text {n},label {n}"),
        NoRun(("No column looks like labels",)),
    ),
    Case(
        "100,000 chosen labels",
        lambda: many(100_000, lambda n: f"the text {n},label {n}"),
        NoRun(('Column "label" has 100,000 different labels', "at most 1,000"), LimitError),
        config={"data": {"task_columns": ["label"]}},
    ),
    Case(
        "unclosed quote of 5 MB",
        lambda: 'text,label\none,a\n"' + "some words, and more\n" * 250_000,
        Refused(("opened in row 3 is never closed",)),
    ),
    Case(
        "unclosed quote at the end",
        lambda: "text,label\n" + "some words,a\n" * 100_000 + '"open,b\n',
        Refused(("row 100002",)),
    ),
    Case("a million quotes", lambda: '"' * 1_000_000, Refused(("a header but no rows",))),
    Case("a million apostrophes", lambda: "'" * 1_000_000 + "\n" + "'" * 999, Cells({"'" * 1_000_000: ["'" * 999]})),
    Case("two million blanks", lambda: " " * 2_000_000, Refused(("The file is empty",))),
    Case("half a million blank lines", lambda: "\n" * 500_000 + labelled(["a", "b"] * 12), Labels({"label": SIX})),
    Case(
        "more rows than accepted",
        lambda: many(20_000, lambda n: f"the text {n},{n % 3}"),
        Refused(("more than 1,000 rows",), LimitError),
        limits={"max_rows": 1_000},
    ),
    Case(
        "more bytes than accepted",
        lambda: many(20_000, lambda n: f"the text {n},{n % 3}"),
        Refused(("MB; at most 0.1 MB",), LimitError),
        limits={"max_bytes": 100_000},
    ),
    Case(
        "33 tasks",
        many(
            24,
            lambda n: ",".join([WORDS[n], *["ab"[n % 2]] * 33]),
            ",".join(["text", *(f"task {n}" for n in range(33))]),
        ),
        Labels({f"task {number}": SIX for number in range(32)}),
    ),
    Case(
        "33 chosen tasks",
        many(
            24, lambda n: ",".join([WORDS[n], *["ab"[n % 2]] * 33]), ",".join(["text", *(f"t{n}" for n in range(33))])
        ),
        NoRun(("33 tasks are too many", "at most 32"), LimitError),
        config={"data": {"task_columns": [f"t{number}" for number in range(33)]}},
    ),
    # ------------------------------------------------------------------------------------------- rows and columns
    Case("a short row", "text,label\none,a\ntwo\n", Refused(("Row 3 has 1 cell", "the header has 2"))),
    Case("a long row", "text,label\none,a\n\ntwo,b,c\n", Refused(("Row 4 has 3 cells", "in double quotes"))),
    Case("a comma that is not quoted", "text,label\none,a\nwell, two,b\n", Refused(("Row 3 has 3 cells",))),
    Case(
        "trailing delimiters below",
        "text,label\none,a,\ntwo,b,,\n",
        Cells({"text": ["one", "two"], "label": ["a", "b"]}, ("2 rows end in empty",)),
    ),
    Case(
        "trailing delimiters everywhere",
        "text,label,\none,a,\n",
        Cells({"text": ["one"], "label": ["a"], "column 3": [""]}, ("has no name",)),
    ),
    Case(
        "duplicate headers",
        "text,text,text\none,two,three\n",
        Cells({"text": ["one"], "text (2)": ["two"], "text (3)": ["three"]}, ("Column 2 repeats", "Column 3 repeats")),
    ),
    Case(
        "empty headers",
        ",label, \none,a,b\n",
        Cells({"column 1": ["one"], "label": ["a"], "column 3": ["b"]}, ("Column 1 has no", "Column 3 has no")),
    ),
    Case(
        "stray white space",
        " text ,label\n one , a \ntwo,a\n",
        Cells({" text ": [" one ", "two"], "label": [" a ", "a"]}),
    ),
    Case(
        "no header",
        "\n".join(f"{text};{'ab'[n % 2]}" for n, text in enumerate(WORDS)),
        Labels({"column 2": SIX}, ("does not look like a header",), "column 1"),
    ),
    Case(
        "a header that looks like data",
        many(24, lambda n: f"{WORDS[n]},{'yes no'.split()[n % 2]}", "text,yes"),
        Labels({"yes": {"yes": 12, "no": 12}}),
    ),
    Case(
        "data that looks like a header",
        many(23, lambda n: f"{WORDS[n]},{'label other'.split()[n % 2]}", f"{WORDS[23]},label"),
        Labels({"column 2": {"label": 13, "other": 11}}, text="column 1"),
    ),
    Case("one column", "text\n" + "\n".join(WORDS), NoRun(("No column looks like labels", '"text"'))),
    Case("separator line", 'sep=;\r\ntext;label\r\n"one, two";a\r\n', Cells({"text": ["one, two"], "label": ["a"]})),
    Case(
        "decimal commas",
        "text;score\ngut;1,5\nschlecht;0,5\n",
        Cells({"text": ["gut", "schlecht"], "score": ["1,5", "0,5"]}),
    ),
    # ----------------------------------------------------------------------------------------------------- quotes
    Case(
        "mixed quoting",
        'text,label\n"one",a\ntwo,"b"\n"say ""so""","a, b"\n',
        Cells({"text": ["one", "two", 'say "so"'], "label": ["a", "b", "a, b"]}),
    ),
    Case(
        "quotes inside words",
        'text,label\n6" pipe,a\nsay "no",b\n',
        Cells({"text": ['6" pipe', 'say "no"'], "label": ["a", "b"]}),
    ),
    Case(
        "text after a closing quote",
        'text,label\none,a\n"so" he said,b\n',
        Refused(("Row 3 has text after a closing double quote",)),
    ),
    Case(
        "backslashes before quotes",
        'text,label\n"say \\"no\\" now",a\n',
        Refused(("Row 2 has text after a closing double quote",)),
    ),
    Case(
        "tabs with stray quotes",
        'text\tlabel\n"so\ta\n"no" she said\tb\n',
        Cells({"text": ['"so', '"no" she said'], "label": ["a", "b"]}, ("Quotes are read as part",)),
    ),
    Case(
        "quotes after blanks",
        'text, label\none, "a, b"\n',
        Cells({"text": ["one"], "label": ["a, b"]}, ("Blanks after a delimiter",)),
    ),
    Case(
        "apostrophes",
        "text,label\n'tis one,a\n'twas the boys',b\n'no',a\n",
        Cells({"text": ["'tis one", "'twas the boys'", "'no'"], "label": ["a", "b", "a"]}),
    ),
    Case(
        "single quotes",
        "'text';'label'\n'it''s; so';'a'\n",
        Cells({"text": ["it's; so"], "label": ["a"]}, ("single quotes",)),
    ),
    Case(
        "long cells in single quotes",
        lambda: "\n".join(f"'{text}';'{'Lob Kritik'.split()[n % 2]}'" for n, text in enumerate(LONG)),
        Cells({"column 1": LONG, "column 2": ["Lob", "Kritik"] * 3}, ("does not look like a header", "single quotes")),
    ),
    # ----------------------------------------------------------------------------------------------------- labels
    Case(
        "words that others take for missing",
        labelled(ODD_LABELS * 4, texts=MORE),
        Labels({"label": dict.fromkeys(ODD_LABELS, 4)}),
    ),
    Case("nan as a label", labelled(["nan", "1.0"] * 12), Labels({"label": {"nan": 12, "1.0": 12}})),
    Case(
        "labels with blanks and capitals",
        labelled(["yes", "Yes", " yes", "yes "] * 6),
        Labels({"label": dict.fromkeys(["yes", "Yes", " yes", "yes "], 6)}, ("differ only in case or spaces",)),
    ),
    Case("labels that look alike", labelled(ACCENTS * 4, texts=MORE), Labels({"label": dict.fromkeys(ACCENTS, 4)})),
    Case(
        "labels with line breaks and quotes",
        labelled(['a\n"b"', "c,d;e"] * 12),
        Labels({"label": {'a\n"b"': 12, "c,d;e": 12}}),
    ),
    Case(
        "64 % empty labels",
        many(25, lambda n: f"the text {n} of it,{MASKED[n]},{'ab'[n % 2]}", "text,reason,mood"),
        Labels({"reason": {"late": 5, "lost": 4}, "mood": {"a": 13, "b": 12}}),
    ),
    Case(
        "white space labels are missing",
        labelled(["a", "b", " ", "\t", "\u00a0", "\n"] * 4),
        Labels({"label": {"a": 4, "b": 4}}, ("16 rows without any label",)),
    ),
    Case(
        "formulas",
        labelled(["=1+1", "@x", "+a", '=HYPERLINK("x")'] * 6),
        Labels({"label": dict.fromkeys(["=1+1", "@x", "+a", '=HYPERLINK("x")'], 6)}),
    ),
    Case(
        "ids that a spreadsheet mangled",
        many(24, lambda n: f"1.23E+17,{WORDS[n]},{'ab'[n % 2]}", "id,text,label"),
        Labels({"label": SIX}),
    ),
    Case("one class", labelled(["a"] * 24), NoRun(("No column looks like labels", '"text", "label"'))),
    Case(
        "one chosen class",
        labelled(["a"] * 24),
        NoRun(('"label" has 1 class', "at least two")),
        config={"data": {"task_columns": ["label"]}},
    ),
    Case(
        "one row per class",
        labelled(["a", "b", "c"]),
        NoRun(("No column looks like labels",)),
        limits={"max_labels": 2},
    ),
    Case(
        "one row per chosen class",
        labelled([f"class {n}" for n in range(24)]),
        Labels({"label": {f"class {n}": 1 for n in range(24)}}, ("fewer than 10 rows",)),
        config={"data": {"task_columns": ["label"]}},
    ),
    Case("one row", SHORT, NoRun(("No column looks like labels",))),
    Case("a very long label", labelled(["a", "b" * 201] * 12), NoRun(("No column looks like labels",))),
    Case(
        "a very long chosen label",
        labelled(["a", "b" * 201] * 12),
        NoRun(('"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…" in column "label" has 201 characters',), LimitError),
        config={"data": {"task_columns": ["label"]}},
    ),
    Case(
        "several labels in a cell",
        labelled(["a|b", "b|c", "c|a", "a"] * 6),
        NoRun(("several labels in a cell", '"a|b"', "keep one label")),
    ),
    Case("identifiers alone", many(24, lambda n: f"{WORDS[n]},user-{n}"), NoRun(("No column looks like labels",))),
    Case(
        "dates alone", many(24, lambda n: f"{WORDS[n]},2024-01-{n % 4 + 1:02}"), NoRun(("No column looks like labels",))
    ),
    Case(
        "links alone",
        many(24, lambda n: f"{WORDS[n]},https://example.org/{n % 4}"),
        NoRun(("No column looks like labels",)),
    ),
    # ---------------------------------------------------------------------------------------------------- entities
    Case(
        "IOB1 tags",
        tags(["I-PER O I-PER", "O O O"]),
        Labels({"label": SIX, "tags": {"PER": 24}}, ("entities begin with I-",)),
    ),
    Case(
        "misaligned tags",
        tags(["B-PER O B-PER"] * 23 + ["B-PER O"]),
        Labels({"label": SIX, "tags": {"PER": 46}}, ("1 row not used, first row 25: has 2 tags for 3 words",)),
    ),
    Case(
        "misaligned spans",
        many(24, lambda n: f'Anna met Bo,"{SPAN % ((0, 4) if n else (0, 3))}",{"ab"[n % 2]}', "text,spans,label"),
        Labels({"label": SIX, "spans": {"PER": 23}}, ("1 row not used, first row 2: the span 0-3 is misaligned",)),
    ),
    Case(
        "entities alone",
        many(24, lambda n: f'Anna met Bo,"{SPAN % (0, 4)}"', "text,spans"),
        Labels({"spans": {"PER": 24}}),
    ),
    # ------------------------------------------------------------------------------------------------------- texts
    Case(
        "no text column",
        many(24, lambda n: f"{n},{'ab'[n % 2]}", "id,label"),
        NoRun(("No column looks like sentences", '"id", "label"')),
    ),
    Case(
        "a text column that is not there",
        SHORT,
        NoRun(('There is no column "review"',)),
        config={"data": {"text_column": "review"}},
    ),
    Case("all texts empty", many(24, lambda n: f",{'ab'[n % 2]}"), NoRun(("No column looks like sentences",))),
    Case(
        "all texts empty, chosen",
        many(24, lambda n: f" ,{'ab'[n % 2]}"),
        NoRun(("No row has both a text and a label",)),
        config={"data": {"text_column": "text"}},
    ),
    Case(
        "all texts equal",
        many(24, lambda n: f"the same words again,{'ab'[n % 2]}"),
        Labels({"label": SIX}, ("24 rows with the same text but different labels", "23 rows repeating")),
    ),
    Case(
        "contradictions",
        labelled(["a", "b"] * 12, texts=[WORDS[n // 2] for n in range(24)]),
        Labels({"label": SIX}, ("24 rows with the same text but different labels",)),
    ),
    Case(
        "right to left, joined and invisible letters",
        'text,label\n"שלום، مرحبا \u200f\u202e",a\n"👩‍👩‍👧 e\u0301\ufeff",b\n',
        Cells({"text": ["שלום، مرحبا \u200f\u202e", "👩‍👩‍👧 e\u0301\ufeff"], "label": ["a", "b"]}),
    ),
    Case(
        "a text as long as a book",
        lambda: labelled(["a", "b"] * 12, texts=["word " * 100_000, *WORDS[1:]]),
        Labels({"label": SIX}),
    ),
]


def test_hostile_there_are_enough_of_them_and_each_has_its_name() -> None:
    assert len(CASES) >= 70
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_hostile_file_has_its_outcome(case: Case, limit: Callable[..., None]) -> None:
    limit(**case.limits)
    data, outcome = case.content(), case.outcome
    if isinstance(outcome, Refused):
        with pytest.raises(outcome.error) as caught:
            read_table(data)
        said(caught.value, outcome.words)
        return
    table = read_table(data)
    match outcome:
        case Cells():
            assert table.columns == outcome.columns
            assert len(table.notes) == len(outcome.notes)
            assert all(any(words in note for note in table.notes) for words in outcome.notes)
        case Labels():
            trains(table, from_dict(case.config), outcome)
        case NoRun():
            with pytest.raises(outcome.error) as caught:
                divide(understand_table(table, from_dict(case.config)), from_dict(case.config))
            said(caught.value, outcome.words)


def said(error: UserError, words: tuple[str, ...]) -> None:
    """Check that an error is one sentence with these words, short whatever the file holds."""
    assert all(word in str(error) for word in words), str(error)
    assert str(error).endswith((".", "?"))
    assert len(str(error)) < 500


def trains(table: Table, config: RunConfig, outcome: Labels) -> None:
    """Check that a run could start with exactly these labels, and that no row is lost or on two sides."""
    understood = understand_table(table, config)
    assert understood.columns.text == (outcome.text,)
    counts = {task: understood.columns[task].counts for task in understood.labels}
    assert counts | {task: column.types for task, column in understood.entities.items()} == outcome.counts
    profiled = profile(understood)
    sentences = " ".join(problem.sentence for problem in profiled.problems)
    assert all(words in sentences for words in outcome.problems), sentences
    division = divide(understood, config)
    split = division.split
    assert division.leaks == 0
    assert len({*split.train, *split.validation, *split.test}) == profiled.usable


BIG = [case for case in CASES if case.name in ("20 MB field", "100,000 columns", "more rows than accepted")]


@pytest.mark.parametrize("case", BIG, ids=[case.name for case in BIG])
def test_hostile_a_refusal_takes_no_more_than_a_few_times_the_files_memory(
    case: Case, limit: Callable[..., None]
) -> None:
    limit(**case.limits)
    data = case.content()
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            read_table(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(data) + 10_000_000
