"""What was understood of the data, as plain values and as a table of problem rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.combining import combine
from mtl.data.neighbours import Clash
from mtl.data.preparing import Understood, prepare, understand_table
from mtl.data.profile import profile
from mtl.data.reading import Table, read_table
from mtl.data.suspects import Suspect, SuspectLabels
from mtl.inference.checks import Checks, NearDuplicates
from mtl.reports import data as data_module
from mtl.reports.data import describe, problem_rows
from mtl.runs.files import write_twins

# rows 2 to 45: blanks between, a text that comes again with another label, an empty one, a label in two spellings
LINES = [f"the {word} number {n} was {'good' if n % 3 else 'bad'};{label}" for n in range(20) for word, label in
         [("soup", "food"), ("rain", "weather")]]  # fmt: skip
MESSY = "\n".join(
    ["text;topic", *LINES, "", "the soup number 1 was good;weather", " ;food", "snow at last;", "ice;Food"]
)
EMPTY, BARE, AGAIN, ALIKE = 44, 45, 43, 46


def understood(data: bytes | str, *settings: str) -> Understood:
    table = read_table(data.encode() if isinstance(data, str) else data)
    return understand_table(table, override(RunConfig(), list(settings)))


def described(data: bytes | str, *settings: str, split: bool = True) -> dict[str, Any]:
    """Describe some bytes, and check that the description is plain values."""
    config = override(RunConfig(), list(settings))
    table = read_table(data.encode() if isinstance(data, str) else data)
    found = understand_table(table, config)
    values = describe(found, profile(found), prepare(table, config) if split else None)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    return values


def rows_of(values: dict[str, Any], kind: str) -> list[int]:
    (rows,) = [problem["rows"] for problem in values["problems"] if problem["kind"] == kind]
    return rows


def test_data_description_says_how_the_file_was_read() -> None:
    values = described(MESSY.replace("soup", "Süppe").encode("cp1252"))
    assert (values["encoding"], values["delimiter"], values["quote"], values["header"]) == ("cp1252", ";", '"', True)
    assert (values["rows"], values["usable_rows"], values["files"]) == (44, 42, [])
    assert values["text_column"] == "text"
    assert {column["name"]: column["role"] for column in values["columns"]} == {"text": "text", "topic": "task"}
    assert values["columns"][1]["labels"] == {"weather": 21, "food": 21, "Food": 1}
    assert values["columns"][1]["missing"] == 1
    assert values["coverage"] == [{"tasks": ["topic"], "rows": 42}, {"tasks": [], "rows": 1}]


def test_data_description_names_rows_as_a_spreadsheet_does() -> None:
    values = described(MESSY)
    assert rows_of(values, "no text") == [EMPTY]
    assert rows_of(values, "no label") == [BARE]
    assert rows_of(values, "duplicate") == [AGAIN]
    assert rows_of(values, "contradiction") == [4, AGAIN]
    assert rows_of(values, "labels alike") == [ALIKE]
    assert values["merges"] == [{"task": "topic", "labels": ["food", "Food"], "into": "food"}]
    for problem in values["problems"]:
        assert all(str(row) in problem["problem"] for row in problem["rows"][:8]) or problem["kind"] == "labels alike"


def test_data_description_holds_the_split_and_its_leaks() -> None:
    values = described(MESSY)
    assert values["tasks"] == {"topic": ["Food", "food", "weather"]}
    assert values["leaks"] == 0
    assert sum(values["split_rows"].values()) == 42
    for side, rows in values["split_rows"].items():
        assert sum(entry[side] for entry in values["split"]) == rows
    assert any('"Food" — too few rows to divide' in note for note in values["split_notes"])


def test_data_description_without_a_task_has_no_split() -> None:
    values = described("text\n" + "the soup was number\n" * 3, split=False)
    assert not {"split", "split_rows", "split_notes", "leaks", "tasks"} & values.keys()
    assert values["usable_rows"] == 0


def test_data_description_of_merged_labels_and_joined_texts() -> None:
    data = "text,more,topic\n" + "".join(f"the soup {n},was good number {n},{'fFr'[n % 3]}ood\n" for n in range(30))
    values = described(data, "data.text_column=[text, more]", "tasks.topic.merge={Food: food}")
    assert values["text_column"] == "text + more"
    assert values["tasks"] == {"topic": ["food", "rood"]}
    assert values["columns"][2]["labels"] == {"food": 20, "rood": 10}
    assert values["merges"] == [], "what is merged is no problem any more"


def test_data_description_lists_only_so_many_rows_of_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "MOST_ROWS", 3)
    values = described(MESSY + "\n" + ";food\n" * 9)
    assert rows_of(values, "no text") == [EMPTY, 47, 48]
    assert [problem["problem"] for problem in values["problems"] if problem["kind"] == "no text"][0].startswith(
        "10 rows"
    )


# ------------------------------------------------------------------------------------------ problem rows


def test_data_problem_rows_come_with_their_cells_once_a_problem() -> None:
    found = understood(MESSY)
    header, rows = problem_rows(found, profile(found))
    assert header == ["row", "problem", "suggestion", "text", "topic"]
    assert [str(EMPTY), "no text", "", " ", "food"] in rows
    assert [row[1] for row in rows if row[0] == str(AGAIN)] == ["contradiction", "duplicate"]
    assert {row[1] for row in rows} == {"no text", "no label", "contradiction", "duplicate", "labels alike"}
    assert len(rows) == sum(len(problem.rows) for problem in profile(found).problems)


def test_data_problem_rows_of_several_files_name_the_file() -> None:
    tables = [(name, read_table(MESSY.encode())) for name in ("a.csv", "b.csv")]
    found = understand_table(combine(tables, separate_tasks=False), RunConfig())
    _, rows = problem_rows(found, profile(found))
    assert [row[0] for row in rows if row[1] == "no text"] == [f"{EMPTY} of a.csv", f"{EMPTY} of b.csv"]
    values = describe(found, profile(found), None)
    assert values["files"] == ["a.csv", "b.csv"]


def test_data_problem_rows_keep_columns_apart_that_are_called_as_ours(tmp_path: Path) -> None:
    columns = {"row": ["1", "=2"], "text": ["the soup was good", "the soup was good"], "problem": ["x", "x"]}
    found = understand_table(Table({**columns, "topic": ["a", "b"]}), RunConfig())
    header, rows = problem_rows(found, profile(found))
    assert header == ["row", "problem", "suggestion", "row (2)", "text", "problem (2)", "topic"]
    with write_twins(tmp_path / "problems.csv") as write:
        write(header, rows)
    exact = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    assert exact == [dict(zip(header, row, strict=True)) for row in rows]
    assert {row["row (2)"] for row in exact} == {"1", "=2"}
    assert '"\'=2"' in (tmp_path / "problems.csv").read_text()


# ------------------------------------------------------------------------------------------ the deeper look

CHECKS = Checks(
    NearDuplicates(((0, 2), (5, 7)), {0: (2, 0.97), 2: (0, 0.97), 5: (7, 0.951), 7: (5, 0.951)}),
    {"topic": (Clash((0, 2), 0.97),), "=mood": ()},
    {
        "topic": SuspectLabels((Suspect(3, "weather", "food", 0.02, 0.9),), 40, ()),
        "=mood": SuspectLabels((Suspect(3, "+", "-", 0.1, 0.875),), 40, ("3 classes have too few rows.",)),
    },
)


def test_data_description_of_a_deeper_look_comes_after_the_counts() -> None:
    found = understood(MESSY)
    counted = describe(found, profile(found), None)
    values = describe(found, profile(found), None, CHECKS)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["problems"][: len(counted["problems"])] == counted["problems"]
    deeper = [(problem["kind"], problem["rows"]) for problem in values["problems"][len(counted["problems"]) :]]
    assert deeper == [
        ("near duplicate", [2, 4, 7, 9]),
        ("near contradiction", [2, 4]),
        ("suspect label", [5]),
        ("suspect label", [5]),
        ("not checked", []),
    ]
    assert values["suspects"]["topic"] == [
        {"row": 5, "given": "weather", "suggested": "food", "given_confidence": 0.02, "suggested_confidence": 0.9}
    ]
    assert "suspects" not in counted


def test_data_problem_rows_of_a_deeper_look_come_with_a_suggestion() -> None:
    found = understood(MESSY)
    _, rows = problem_rows(found, profile(found), CHECKS)
    suggested = {(row[0], row[1]): row[2] for row in rows if row[2]}
    assert suggested == {
        ("2", "near duplicate"): "row 4 (0.97)",
        ("4", "near duplicate"): "row 2 (0.97)",
        ("7", "near duplicate"): "row 9 (0.95)",
        ("9", "near duplicate"): "row 7 (0.95)",
        ("5", "suspect label"): "topic: food (0.90); =mood: - (0.88)",
    }
