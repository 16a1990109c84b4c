"""Tables that leave the app: CSV for a person's spreadsheet, and its exact twin."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mtl.errors import DataError
from mtl.runs.files import distinct_names, write_csv, write_twins


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when what was written is to reach it."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)


EVERY = settings(derandomize=True, deadline=None)
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", '"=1', "＝1", "|calc", "%0A", "\n=1", "'=1"]
HEADER = ["text", "=label", "score"]


def read_cells(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def read_lines(path: Path) -> list[list[tuple[str, Any]]]:
    return [json.loads(line, object_pairs_hook=list) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_files_csv_quotes_every_cell_and_none_is_a_formula(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["a", '=b "c"'], [["x,y", "two\nlines"], [1, None], [-0.5, "=1+1"]])
    expected = b'"a","\'=b ""c"""\n"x,y","two\nlines"\n"1",""\n"-0.5","\'=1+1"\n'
    assert (tmp_path / "t.csv").read_bytes() == expected


def test_files_csv_takes_rows_as_they_come_and_is_nothing_if_they_fail(tmp_path: Path) -> None:
    def rows() -> Iterator[list[str]]:
        yield ["first"]
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        write_csv(tmp_path / "t.csv", ["a"], rows())
    assert names(tmp_path) == []


def test_files_twins_hold_the_same_rows_safe_and_exact(tmp_path: Path) -> None:
    rows = [[text, text, number] for number, text in enumerate(FORMULAS)] + [
        ["Größe 情感 🎈", None, None],
        ["", "NA", 0.25],
    ]
    with write_twins(tmp_path / "t.csv") as write:
        for start in range(0, len(rows), 4):
            write(HEADER, rows[start : start + 4])
    exact = read_lines(tmp_path / "t.jsonl")
    assert exact == [list(zip(HEADER, row, strict=True)) for row in rows], "types, None and the order of the keys too"
    header, *cells = read_cells(tmp_path / "t.csv")
    assert header == ["text", "'=label", "score"]
    assert len(cells) == len(rows)
    for row, written in zip(rows, cells, strict=True):
        for value, cell in zip(row, written, strict=True):
            text = "" if value is None else str(value)
            assert cell == (f"'{text}" if text in FORMULAS else text)
    assert names(tmp_path) == ["t.csv", "t.jsonl"]


@EVERY
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        )
    )
)
def test_files_twins_give_any_value_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("twins") / "t.csv"
    with write_twins(path) as write:
        write(["a", "b"], rows)
    assert [
        tuple(json.loads(line).values()) for line in path.with_suffix(".jsonl").read_bytes().split(b"\n")[:-1]
    ] == rows
    for (text, number), (cell, numeral) in zip(rows, read_cells(path)[1:], strict=True):
        assert cell in (text, f"'{text}")
        assert numeral == ("" if number is None else str(number)), "a plain number stays one"


def test_files_twins_without_a_row_are_a_header_and_nothing(tmp_path: Path) -> None:
    with write_twins(tmp_path / "t.csv") as write:
        write(["a", "b"], [])
    assert (tmp_path / "t.csv").read_text() == '"a","b"\n'
    assert (tmp_path / "t.jsonl").read_text() == ""


def test_files_twin_alone_where_the_name_says_so(tmp_path: Path) -> None:
    with write_twins(tmp_path / "t.jsonl") as write:
        write(["a"], [["=1"]])
    assert names(tmp_path) == ["t.jsonl"]
    assert (tmp_path / "t.jsonl").read_text() == '{"a": "=1"}\n'


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
@pytest.mark.parametrize("old", [False, True])
def test_files_twins_of_an_error_in_the_middle_leave_what_was_there(tmp_path: Path, name: str, old: bool) -> None:
    before = {"t.csv": "old", "t.jsonl": "old too"} if old else {}
    for file, content in before.items():
        (tmp_path / file).write_text(content)

    def fail() -> None:
        with write_twins(tmp_path / name) as write:
            write(["a"], [["x"]])
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def by_csv(path: Path) -> None:
    write_csv(path, ["a"], [["x"]])


def by_twins(path: Path) -> None:
    with write_twins(path) as write:
        write(["a"], [["x"]])


def not_even_begun(path: Path) -> None:
    with write_twins(path):
        pytest.fail("the work began")


@pytest.mark.parametrize("way", [by_csv, by_twins, not_even_begun])
@pytest.mark.parametrize("name", ["nowhere/t.csv", "file/t.csv", "folder.csv"])
def test_files_table_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, way: Callable[[Path], None], name: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=rf"{name} cannot be written: (no such file|not a directory|it is a folder)"):
        way(tmp_path / name)
    assert names(tmp_path) == ["file", "folder.csv"]
    assert names(tmp_path / "folder.csv") == []


@pytest.mark.parametrize("way", [by_csv, by_twins])
@pytest.mark.usefixtures("full_disk")
def test_files_table_on_a_full_disk_is_one_clear_error(tmp_path: Path, way: Callable[[Path], None]) -> None:
    with pytest.raises(DataError, match="cannot be written: no space left on device"):
        way(tmp_path / "t.csv")
    assert names(tmp_path) == []


@pytest.mark.parametrize("source", ["t.csv", "t.jsonl", "sub/../t.csv"])
def test_files_twins_are_not_written_over_a_source(tmp_path: Path, source: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / source).write_text("mine")
    with (
        pytest.raises(DataError, match="would take the place of"),
        write_twins(tmp_path / "t.csv", sources=[tmp_path / "other.csv", tmp_path / source]),
    ):
        pytest.fail("the work began")
    assert (tmp_path / source).read_text() == "mine"
    with write_twins(tmp_path / "u.csv", sources=[tmp_path / source]) as write:
        write(["a"], [["x"]])


def test_files_distinct_names_change_only_what_was_there_before() -> None:
    assert distinct_names(["a", "b", "a", "a", "a (2)"]) == ["a", "b", "a (2)", "a (3)", "a (2) (2)"]


@EVERY
@given(st.lists(st.sampled_from(["a", "b", "a (2)", "a (2) (2)"]), max_size=8))
def test_files_distinct_names_are_distinct(given_names: list[str]) -> None:
    found = distinct_names(given_names)
    assert len(set(found)) == len(found) == len(given_names)
    assert all(new.startswith(old) for new, old in zip(found, given_names, strict=True))
    assert all(new == old for i, (new, old) in enumerate(zip(found, given_names, strict=True)) if old not in found[:i])
