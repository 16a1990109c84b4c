"""The command line and the person's files: looked at, trained on, predicted."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mtl.data.reading import read_table
from mtl.runs.store import Run
from tests.conftest import Cli

# rows 2 to 41, then a blank line, an empty text, a bare row, an old text with another label, and a class of its own
ROWS = [f"the {word} number {n} was so {'good' if n % 3 else 'bad'};{label}" for n in range(20)
        for word, label in [("soup", "food"), ("rain", "weather")]]  # fmt: skip
MESSY = "\n".join(
    ["text;topic", *ROWS, "", " ;food", "snow at last;", "The soup, number 1, was so good!;weather", "é;NA"]
)


@pytest.fixture
def messy(workplace: Path) -> Path:
    """A file with one problem of each sort, in an encoding of old."""
    path = workplace / "messy.csv"
    path.write_bytes(MESSY.encode("cp1252"))
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def of_kind(values: dict[str, Any], kind: str) -> list[int]:
    (rows,) = [problem["rows"] for problem in values["problems"] if problem["kind"] == kind]
    return rows


# ------------------------------------------------------------------------------------------ inspect


def test_cli_inspect_says_what_is_understood_and_leaves_nothing(cli: Cli, messy: Path, workplace: Path) -> None:
    result = cli("inspect", "--data", messy.name)
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 1
    values = result.json
    assert (values["encoding"], values["delimiter"], values["header"], values["rows"]) == ("cp1252", ";", True, 44)
    assert {column["name"]: column["role"] for column in values["columns"]} == {"text": "text", "topic": "task"}
    assert values["columns"][1]["labels"] == {"weather": 21, "food": 21, "NA": 1}
    assert values["tasks"] == {"topic": ["NA", "food", "weather"]}
    assert (of_kind(values, "no text"), of_kind(values, "no label")) == ([43], [44])
    assert (of_kind(values, "duplicate"), of_kind(values, "contradiction")) == ([45], [4, 45])
    assert sum(values["split_rows"].values()) == 42
    assert values["leaks"] == 0
    for problem in values["problems"]:
        assert problem["problem"] in result.err.splitlines()
    assert [path.name for path in workplace.iterdir()] == [messy.name]


def test_cli_inspect_writes_the_problem_rows_safe_and_exact(cli: Cli, messy: Path, workplace: Path) -> None:
    messy.write_bytes(MESSY.replace("snow at last", "=1+1, at last").encode("cp1252"))
    result = cli("inspect", "--data", messy.name, "--problems", "odd rows.csv")
    assert result.code == 0, result.err
    exact = read_lines(workplace / "odd rows.jsonl")
    rows = {(row["row"], row["problem"]): (row["text"], row["topic"]) for row in exact}
    assert rows[("43", "no text")] == (" ", "food")
    assert rows[("44", "no label")] == ("=1+1, at last", "")
    assert rows[("45", "contradiction")] == rows[("45", "duplicate")]
    assert len(exact) == sum(len(problem["rows"]) for problem in result.json["problems"])
    safe = read_csv(workplace / "odd rows.csv")
    assert [row["row"] for row in safe] == [row["row"] for row in exact]
    assert {row["text"] for row in safe if row["problem"] == "no label"} == {"'=1+1, at last"}


def test_cli_inspect_takes_several_files_and_what_a_person_says_of_them(cli: Cli, messy: Path, workplace: Path) -> None:
    (workplace / "more.csv").write_bytes(MESSY.encode("cp1252"))
    settings = ["data.reading.encoding=latin-1", "data.task_columns=topic", "tasks.topic.merge={NA: food}"]
    result = cli("inspect", "--data", messy.name, "--data", "more.csv", *(p for s in settings for p in ("--set", s)))
    assert result.code == 0, result.err
    values = result.json
    assert (values["files"], values["rows"], values["encoding"]) == (["messy.csv", "more.csv"], 88, "latin-1")
    assert values["tasks"] == {"topic": ["food", "weather"]}
    assert values["leaks"] == 0
    assert len(of_kind(values, "duplicate")) == 1 + 43, "one in the first file, and every text of the second"


def test_cli_inspect_describes_a_file_that_cannot_be_trained_on(cli: Cli, workplace: Path) -> None:
    (workplace / "texts.csv").write_text("text\nthe rain was great\nthe soup was awful\n")
    result = cli("inspect", "--data", "texts.csv")
    assert result.code == 0, result.err
    assert "No column looks like labels" in result.json["refusal"]
    assert result.json["refusal"] in result.err
    assert result.json["rows"] == 2
    assert "split" not in result.json


def test_cli_inspect_looks_deeper_if_asked(cli: Cli, messy: Path, tiny: list[str], workplace: Path) -> None:
    result = cli("inspect", "--data", messy.name, *tiny[:2], "--checks", "--problems", "odd.csv")
    assert result.code == 0, result.err
    assert list(result.json["suspects"]) == ["topic"]
    kinds = {row["problem"] for row in read_lines(workplace / "odd.jsonl")}
    assert "near duplicate" in kinds, "the tiny encoder finds these texts alike"
    assert {"suspects", "split"} <= result.json.keys()


def test_cli_inspect_keeps_near_duplicates_together_if_asked(cli: Cli, messy: Path, tiny: list[str]) -> None:
    wanted = [*tiny[:2], "--set", "data.split.near_duplicates=0.999"]
    result = cli("inspect", "--data", messy.name, *wanted)
    assert result.code == 0, result.err
    assert result.json["leaks"] == 0
    assert result.json["split_rows"] != cli("inspect", "--data", messy.name).json["split_rows"]


# ------------------------------------------------------------------------------------------ train


def test_cli_train_takes_a_file_for_each_task(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv_bytes: bytes
) -> None:
    table = read_table(tiny_csv_bytes)
    folder = workplace / "my data"
    folder.mkdir()
    for task in ("topic", "mood"):
        rows = [row for row in zip(table.columns["text"], table.columns[task], strict=True) if row[1]]
        (folder / f"{task}.csv").write_text(f"text,{task}\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    files = ["my data/topic.csv", "my data/mood.csv"]
    result = cli("train", "--data", files[0], "--data", files[1], *tiny, "--set", "training.epochs=1")
    assert result.code == 0, result.err
    assert set(result.json["test"]) == {"topic", "mood"}
    run = Run(workplace / result.json["run"])
    assert run.config.data.files == tuple(files)
    kept, topics = run.table(), sum(map(bool, table.columns["topic"]))
    assert len(kept) == topics + sum(map(bool, table.columns["mood"])) > 60
    assert not any(kept.columns["mood"][:topics]), "labels of the other file are missing"
    assert not any(kept.columns["topic"][topics:])
    sides = [{kept.columns["text"][row] for row in rows} for rows in vars(run.split()).values()]
    assert len(set.union(*sides)) == sum(map(len, sides)) == 60, "a text of both files stays on one side"
    assert {row["row"].partition(" of ")[2] for row in read_lines(run.path / "predictions.jsonl")} == {
        "topic.csv",
        "mood.csv",
    }


def test_cli_train_takes_files_named_as_the_sides(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv_bytes: bytes
) -> None:
    header, *lines = tiny_csv_bytes.decode().splitlines()
    for name, part in {"my_train": lines[:40], "my_validation": lines[40:50], "my_test": lines[50:]}.items():
        (workplace / f"{name}.csv").write_text("\n".join([header, *part]) + "\n")
    names = ["my_test.csv", "my_train.csv", "my_validation.csv"]
    settings = [*tiny, "--set", "training.epochs=1"]
    result = cli("train", *(part for name in names for part in ("--data", name)), *settings)
    assert result.code == 0, result.err
    assert "40 training, 10 validation, 10 test rows" in result.err
    run = Run(workplace / result.json["run"])
    predicted = [row["row"] for row in read_lines(run.path / "predictions.jsonl")]
    assert predicted == [f"{number} of my_test.csv" for number in range(2, 12)]
    # the same in one file with a column that says it
    sides = ["train"] * 40 + ["dev"] * 10 + ["test"] * 10
    marked = [f"{line},{side}" for line, side in zip(lines, sides, strict=True)]
    (workplace / "one.csv").write_text("\n".join([f"{header},split", *marked]) + "\n")
    again = cli("train", "--data", "one.csv", *settings)
    assert again.code == 0, again.err
    assert "40 training, 10 validation, 10 test rows" in again.err
    assert "split" not in Run(workplace / again.json["run"]).config.tasks


def test_cli_train_keeps_groups_together_and_merges_labels(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv_bytes: bytes
) -> None:
    header, *lines = tiny_csv_bytes.decode().splitlines()
    (workplace / "by.csv").write_text(
        "\n".join([f"{header},author", *(f"{line},anna {n % 12}" for n, line in enumerate(lines))]) + "\n"
    )
    result = cli(
        "train",
        *("--data", "by.csv", *tiny, "--set", "training.epochs=1", "--set", "data.split.group_column=author"),
        *("--set", "tasks.topic.merge={sports: food}"),
    )
    assert result.code == 0, result.err
    run = Run(workplace / result.json["run"])
    assert {name: task.labels for name, task in run.config.tasks.items()} == {"topic": ("food", "weather")}
    authors = run.table().columns["author"]
    sides = [{authors[row] for row in rows} for rows in vars(run.split()).values()]
    assert all(sides)
    assert len(set.union(*sides)) == sum(map(len, sides)) == 12
    assert {row["topic_predicted"] for row in read_lines(run.path / "predictions.jsonl")} <= {"food", "weather"}
    assert "sports" in run.table().columns["topic"], "the data stay as they were"
    assert cli("evaluate", "--checkpoint", run.path, "--data", "by.csv").code == 0, "the merge holds there too"


def test_cli_train_looks_for_near_duplicates_where_the_split_wants_it(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv: Path
) -> None:
    wanted = [*tiny, "--set", "training.epochs=1", "--set", "data.split.near_duplicates=0.999"]
    result = cli("train", "--data", tiny_csv.name, *wanted)
    assert result.code == 0, result.err
    run = Run(workplace / result.json["run"])
    assert run.config.data.split.near_duplicates == 0.999
    # given back, it is the same run
    again = cli("train", "--config", run.path / "config.yaml")
    assert Run(workplace / again.json["run"]).split() == run.split()


def test_cli_preflight_prints_figures_and_leaves_nothing(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv: Path
) -> None:
    result = cli("preflight", "--data", tiny_csv.name, *tiny)
    assert result.code == 0, result.err
    assert [task["name"] for task in result.json["tasks"]] == ["topic", "mood"]
    assert not (workplace / "checkpoints").exists()
    assert {path.name for path in workplace.iterdir()} <= {tiny_csv.name, "cache"}
