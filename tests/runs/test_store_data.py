"""A run's own copy of its data: every cell as it was, every row by the number it had in the person's file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.combining import combine
from mtl.data.preparing import cut
from mtl.data.reading import Options, Table, read_table
from mtl.runs.store import Run, RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "checkpoints")


def written(delimiter: str = ",", quote: str = '"', *, header: bool = True, note: str = "Nr.") -> str:
    """Write 24 rows of a text, a label that looks like something else, and a cell with blanks around it."""
    rows = [
        [f"die Suppe{delimiter if quote else ''} {note} {n}, war{quote * 2} groß", "NA" if n % 2 else "01", " nein "]
        for n in range(24)
    ]
    rows[7] = [rows[7][0], "", "  "]
    lines = [delimiter.join(f"{quote}{cell}{quote}" for cell in row) for row in rows]
    return "\n".join([delimiter.join(["text", "label", "other"])] * header + lines) + "\n"


SOURCES: dict[str, tuple[bytes, Options]] = {
    "UTF-8": (written().encode(), {}),
    "UTF-8 with a mark": (written().encode("utf-8-sig"), {}),
    "UTF-16": (written().encode("utf-16"), {}),
    "cp1252": (written().encode("cp1252"), {}),
    "chosen encoding": (written().encode("cp850"), {"encoding": "cp850"}),
    "CRLF": (written().replace("\n", "\r\n").encode(), {}),
    "bare CR": (written().replace("\n", "\r").encode(), {}),
    "semicolons and single quotes": (written(";", "'").encode(), {}),
    "bars": (written("|").encode(), {}),
    "tabs without quotes": (written("\t", "", note='a "b').encode(), {"quote": ""}),
    "no header": (written(header=False).encode(), {}),
    "blank lines": (written().replace(" 5,", " 5,\n\n").replace('nein "\n', 'nein "\n\n\n', 3).encode(), {}),
    "a line end in a cell": (written(note="\n").encode(), {}),
    "a bare CR in a cell": (written().replace("nein ", "nein\r").encode(), {}),
    "nothing but quotes": (written(note='"" ""').encode(), {}),
    "a formula": (written(note="=1+1").replace('"01"', '"=01"').encode(), {}),
    "a mark within the header": (b"\xef\xbb\xbf" + written().replace("text", '"\ufefftext"', 1).encode(), {}),
    "a header like JSON": (written().replace("text", '"[[1]]"', 1).encode(), {}),
}


def places(table: Table) -> list[str]:
    return [table.place(index) for index in range(len(table))]


@pytest.mark.parametrize("name", SOURCES)
def test_store_run_reads_its_data_back_as_they_were(store: RunStore, raw_config: RunConfig, name: str) -> None:
    data, options = SOURCES[name]
    table = read_table(data, **options)
    assert set(table.columns["label" if table.header else "column 2"]) == {
        "01" if name != "a formula" else "=01",
        "NA",
        "",
    }
    again = Run(store.create(raw_config, table).path).table()
    assert list(again.columns.items()) == list(table.columns.items())
    assert places(again) == places(table)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(
    cells=st.lists(st.tuples(CELL, CELL), min_size=12, max_size=12),
    names=st.lists(CELL, min_size=2, max_size=2, unique=True),
)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_store_run_reads_any_cells_back(
    raw_config: RunConfig, tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], names: list[str]
) -> None:
    labels = ["01", "NA"] * 6
    odd = {f"{name}{n}": [row[n] for row in cells] for n, name in enumerate(names)}
    table = Table({**odd, "text": [f"the soup was {n}" for n in range(12)], "label": labels}, numbers=range(3, 27, 2))
    config = override(raw_config, ["data.text_column=text", "data.task_columns=label"])
    again = RunStore(tmp_path_factory.mktemp("any")).create(config, table).table()
    assert list(again.columns.items()) == list(table.columns.items())
    assert places(again) == places(table)


def test_store_run_of_several_files_knows_each_row_by_its_file(store: RunStore, raw_config: RunConfig) -> None:
    one = read_table(written().encode("utf-16"))
    other = read_table(written(";", "'", header=False).replace("\n", "\n\n", 1).encode())
    table = combine([("one.csv", one), ("more/other.csv", other), ("one.csv", one)])
    run = store.create(raw_config, table, files=["one.csv", "more/other.csv", "again/one.csv"])
    again = run.table()
    assert list(again.columns.items()) == list(table.columns.items())
    assert again.files == table.files
    assert (again.place(0), again.place(24), again.place(25), again.place(48)) == (
        "2 of one.csv",
        "1 of more/other.csv",
        "3 of more/other.csv",
        "2 of one (2).csv",
    )
    assert places(again) == places(table)
    assert run.config.data.files == ("one.csv", "more/other.csv", "again/one.csv")


def test_store_keeps_the_files_of_the_configuration_where_no_others_are_named(
    store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes
) -> None:
    config = override(raw_config, ["data.files=[a.csv, b.csv]"])
    assert store.create(config, read_table(tiny_csv_bytes)).config.data.files == ("a.csv", "b.csv")
    assert store.create(config, read_table(tiny_csv_bytes), files=["c.csv"]).config.data.files == ("c.csv",)


def test_store_run_keeps_labels_as_typed_and_trains_on_the_merged_ones(
    store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes
) -> None:
    table = read_table(tiny_csv_bytes)
    run = store.create(override(raw_config, ["tasks.topic.merge={sports: food}"]), table)
    assert run.table().columns == table.columns
    assert run.config.tasks["topic"].labels == ("food", "weather")
    splits = cut(run.table(), run.config, run.split())
    assert set(splits.train.cells["topic"]) == {"food", "weather"}


def test_store_keeps_near_duplicates_on_one_side(store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes) -> None:
    table = read_table(tiny_csv_bytes)
    near = [list(range(start, start + 6)) for start in range(0, 60, 6)]
    config = override(raw_config, ["data.split.near_duplicates=0.95"])
    run = store.create(config, table, near=near)
    assert run.config.data.split.near_duplicates == 0.95
    sides = [set(rows) for rows in asdict(run.split()).values()]
    assert sum(map(len, sides)) == 60
    assert all(sides)
    assert all(sum(bool(side & set(group)) for side in sides) == 1 for group in near)
    assert not all(
        sum(bool(set(rows) & set(group)) for rows in asdict(store.create(raw_config, table).split()).values()) == 1
        for group in near
    ), "otherwise nothing was shown"


def test_store_reads_a_run_from_before_rows_were_numbered(
    store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes
) -> None:
    run = store.create(raw_config, read_table(tiny_csv_bytes))
    split = json.loads((run.path / "split.json").read_text())
    assert set(split) == {"train", "validation", "test"}, "what can be counted is not written"
    assert places(run.table()) == [str(number) for number in range(2, 62)]
