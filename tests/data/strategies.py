"""Tables and broken files for hypothesis, shared by the tests and `benchmarks/fuzz_reading.py`."""

from __future__ import annotations

import csv
import io
import re
from random import Random
from typing import Literal

import hypothesis.strategies as st
from hypothesis import settings

from mtl.config import RunConfig
from mtl.data.preparing import divide, understand_table
from mtl.data.profile import profile
from mtl.data.reading import Table, is_missing, read_table
from mtl.errors import UserError

EVERY = settings(max_examples=500, derandomize=True, deadline=None)

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
TRICKY = st.text(st.sampled_from("ab \t,;|\"'\r\n\\\u2028\ufeff=<{"), max_size=8)
CELLS = ANY_TEXT | TRICKY
NAMES = CELLS.filter(lambda name: not is_missing(name))


def written(rows: list[list[str]], delimiter: str = ",", quote: str = '"') -> bytes:
    """Write rows as the csv module does, with line ends that make it quote every line break."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quotechar=quote).writerows(rows)
    return buffer.getvalue().encode()


def rows_of(table: Table) -> list[list[str]]:
    """Return a table as rows, the header first."""
    return [list(table.headers), *map(list, zip(*table.columns.values(), strict=True))]


def begins_like_another_file(rows: list[list[str]]) -> bool:
    """Say whether the first cell is a byte order mark or the start of a web page, XML or JSON, unless it is quoted."""
    return bool(re.match(r"\ufeff|\s*(<[?!h]|[{\[])", rows[0][0], re.IGNORECASE))


@st.composite
def rows(draw: st.DrawFn, cells: st.SearchStrategy[str] = CELLS) -> list[list[str]]:
    """Draw a header of different names and at least one row below it."""
    names = cells.filter(lambda name: not is_missing(name))
    header = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    return [
        header,
        *draw(st.lists(st.lists(cells, min_size=len(header), max_size=len(header)), min_size=1, max_size=9)),
    ]


@st.composite
def labelled_tables(draw: st.DrawFn) -> Table:
    """Draw a table of texts, some alike, with labels, entities and sides, each with a few odd cells."""
    count, seed = draw(st.integers(1, 30)), draw(st.integers(0, 2**32))
    odd = draw(st.lists(CELLS, max_size=3))
    random = Random(seed)  # drawing every cell would be slow, and shrink no better

    def column(usual: list[str]) -> list[str]:
        return random.choices([*usual * 4, *odd], k=count)

    texts = ["", "one two three", "One, two THREE!", "see www.x.org @you", ":)", "Anna lives in Oslo", "東京 に 行く"]
    usual = {
        "topic": ["a", "b", "A", "a ", ""],
        "mood": ["good", "bad", "", "nan", "1"],
        "genres": ["x|y", "y", "z|x", ""],
        "tags": ["O O O", "B-PER O O O", "I-x O O", "", "O"],
        "spans": ["[]", '[{"start": 0, "end": 4, "label": "PER"}]', '[{"start": 3, "end": 1, "label": "P"}]', ""],
        "split": ["train", "test", "dev", ""],
        "author": ["u1", "u2", ""],
    }
    chosen = draw(st.lists(st.sampled_from(list(usual)), unique=True))
    return Table({"text": column(texts), **{name: column(usual[name]) for name in chosen}})


SENTENCES = ["the team won again, they said", "it's raining in Köln", 'he said "no" twice', "quiet; too quiet", "a b c"]
LABELLED = [[text, "abc"[number % 3], "xy"[number % 2]] for number, text in enumerate(SENTENCES * 5)]
FILES = [
    written([["text", "topic"], ["Grüße, he said", "a"], ['a "quote"\nand more', ""]]),
    written([["text", "topic", "topic"], ["one; two", "a", "b"], ["", "NA", "01"]], ";"),
    written([["text", "topic", "mood"], *LABELLED]),
    written(LABELLED, "\t"),
    written([["text", "topic", "split"], *([t, a, "train" if b == "x" else "test"] for t, a, b in LABELLED)], "|"),
    written([["text", "topic", "mood"], *LABELLED], ";", "'").replace(b"\r\n", b"\r"),
    written([["text", "label"], *([t, a] for t, a, _ in LABELLED)]).decode().encode("cp1252"),
    "Satz;Thema\r\nОчень хороший отель;а\r\nЕда была холодной;б\r\n".encode("cp1251"),
    "文,类\n酒店非常好，早餐也很好吃。,正\n菜是凉的，服务也很慢。,负\n".encode("gb18030"),
    "\ufefftext\ttopic\nhello\ta\n".encode("utf-16"),
    "text,topic\nhello,a\n".encode("utf-32"),
    b"\xef\xbb\xbftext|topic\r\nhello|a\r\n",
    b"sep=;\r\ntext;topic\r\nhello, you;a\r\n",
    b'text,entities\nAnna ran,"[{""start"": 0, ""end"": 4, ""label"": ""PER""}]"\nno,[]\n',
    b"text,tags,label\nAnna ran,B-PER O,a\nno one,O O,b\n",
]
MARKS = [b'"', b"'", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xe9", b",", b";", b"\t", b"|", b"\n\n", b'""', b"''"]
STARTS = [b"\xef\xbb\xbf", b"sep=;\n", b"<html", b"{", b"[[", b"PK\x03\x04", b"\x1f\x8b", b"=1+1", b"\xed\xa0\x80"]
NOISE = st.sampled_from([*MARKS, *STARTS, b"," * 20, b'"' * 20])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a good file with a few bytes cut out, put in, doubled or changed."""
    data = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + draw(st.sampled_from([1, 4, 40])))))
        data = data[:start] + draw(NOISE | st.binary(max_size=3) | st.just(data[start:end] * 2)) + data[end:]
    return data


PIECES = st.lists(NOISE | TRICKY.map(str.encode), max_size=12).map(b"".join)
BROKEN = st.one_of(mutated(), mutated(), mutated(), PIECES, st.binary(max_size=60))
ENCODINGS = st.sampled_from([*[None] * 12, "utf-8", "utf-16", "utf-7", "cp1252", "gb18030", "shift_jis", "ascii"])

Stage = Literal["refused", "not understood", "not divided", "divided"]


def stage_of(data: bytes, encoding: str | None = None) -> tuple[Stage, UserError | None]:
    """Take a file as far as it goes, and return where and with which error for people it stopped."""
    stage: Stage = "refused"
    try:
        table = read_table(data, encoding=encoding)
        stage = "not understood"
        understood = understand_table(table, RunConfig())
        profile(understood)
        stage = "not divided"
        divide(understood, RunConfig())
    except UserError as error:
        return stage, error
    return "divided", None
