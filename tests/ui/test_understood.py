"""What the Data section draws and what it makes of its corrections, without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl.config import RunConfig
from mtl.config_text import from_dict
from mtl.data.preparing import prepare, understand_table
from mtl.data.profile import profile
from mtl.data.reading import Table
from mtl.data.suspects import Suspect, SuspectLabels
from mtl.errors import DataError
from mtl.inference.checks import Checks, NearDuplicates
from mtl.ui.train.checks import checks_html
from mtl.ui.train.data import GUESS, NO_GROUP, NO_SPLIT, READING, DataSection, data_values
from mtl.ui.train.preflight import preflight_html
from mtl.ui.train.understood import split_html, summary_html
from mtl.ui.uploads import prepared_data, read_data, understood_data

CORRECTIONS = (
    "data.split.column",
    "data.split.group_column",
    "data.separate_tasks",
    *(f"data.reading.{name}" for name in READING),
)
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def section() -> DataSection:
    """Make a section of keys: without a page, its widgets are only what values are looked up by."""
    corrections: dict[str, Any] = {path: object() for path in CORRECTIONS}
    widgets: list[Any] = [object() for _ in range(4)]
    return DataSection(*widgets[:3], corrections, widgets[3])


def values(section: DataSection, **changes: Any) -> dict[Any, Any]:
    """Fill the section's widgets with their beginnings, and some of them otherwise."""
    assert section.merges is not None
    filled: dict[Any, Any] = {component: GUESS for component in section.corrections.values()}
    filled[section.corrections["data.split.column"]] = changes.pop("split", NO_SPLIT)
    filled[section.corrections["data.split.group_column"]] = changes.pop("group", NO_GROUP)
    filled |= {section.files: [["x", "x"]], section.merges: changes.pop("merges", [])}
    filled |= {
        section.text_column: changes.pop("text", ["text"]),
        section.task_columns: changes.pop("tasks", ["topic"]),
    }
    return filled | {section.corrections[f"data.reading.{name}"]: value for name, value in changes.items()}


def test_data_section_left_alone_says_only_what_it_shows(section: DataSection) -> None:
    config = from_dict(data_values(section, values(section)))
    assert config.data.reading == RunConfig().data.reading
    assert (config.data.text_column, config.data.task_columns) == (("text",), ("topic",))
    assert (config.data.split.column, config.data.split.group_column) == ("", None)


def test_data_section_corrections_reach_the_configuration(section: DataSection) -> None:
    merges = [json.dumps(["topic", {"Sport": "sport"}]), json.dumps(["another", {"a": "b"}])]
    corrected = values(
        section, encoding="cp1251", delimiter="tab", quote="none", header="false", split="part", group="author",
        text=["title", "body"], merges=merges,
    )  # fmt: skip
    config = from_dict(data_values(section, corrected))
    reading = config.data.reading
    assert (reading.encoding, reading.delimiter, reading.quote, reading.header) == ("cp1251", "\t", "", False)
    assert (config.data.split.column, config.data.split.group_column) == ("part", "author")
    assert config.data.text_column == ("title", "body")
    assert {name: task.merge for name, task in config.tasks.items()} == {"topic": {"Sport": "sport"}}


def table(label: str = "b") -> Table:
    texts = [f"a sentence about the number {number}" for number in range(60)]
    return Table({"text": [*texts, HOSTILE], "topic": (["a", label] * 31)[:61], HOSTILE: (["x", ""] * 31)[:61]})


def test_summary_and_split_escape_what_a_file_holds() -> None:
    understood = understand_table(table(label=HOSTILE), RunConfig())
    prepared = prepare(table(label=HOSTILE), from_dict({"data": {"task_columns": ["topic"]}}))
    drawn = summary_html(understood, profile(understood), [["path", HOSTILE]]) + split_html(prepared)
    assert "<img" not in drawn
    assert "&lt;img" in drawn


def test_split_html_says_that_nothing_leaks() -> None:
    drawn = split_html(prepare(table(), from_dict({"data": {"task_columns": ["topic"]}})))
    assert "0 leaks" in drawn
    assert ">61<" not in drawn.replace("&", ""), "the sides are counted, not the file"


def test_checks_html_shows_the_suspects_and_the_closest_pairs_and_escapes_them() -> None:
    understood = understand_table(table(), from_dict({"data": {"task_columns": ["topic"]}}))
    suspect = Suspect(60, "a", HOSTILE, 0.1, 0.9)
    found = Checks(
        NearDuplicates(((1, 60),), {1: (60, 0.987), 60: (1, 0.987)}),
        {"topic": ()},
        {"topic": SuspectLabels((suspect,), 61, ("left out",))},
    )
    drawn = checks_html(understood, found)
    assert "<img" not in drawn
    assert "row 62" in drawn
    assert "left out" in drawn
    assert drawn.count("0.987") == 1, "a pair is one finding, not two"


def test_preflight_html_warns_that_times_are_longer_while_another_run_goes_on() -> None:
    task = {"name": HOSTILE, "first_loss": 1.1, "guessing_loss": float(np.log(3)), "rows_per_epoch": 5}
    found = {
        "seconds": {"run": 100.0, "step": 0.5},
        "memory": {"peak_bytes": 2**30},
        "longest_batch": {"rows": 32, "tokens": 80},
        "numerics": {"precision": "float32", "device": "cpu"},
        "weighting_seconds": {"pcgrad": 0.83, "fixed": 0.5},
        **{"steps": 10, "trainable": 10, "parameters": 20, "tasks": [task], "warnings": []},
    }
    assert "Another run" in preflight_html(found, busy=True)
    assert "Another run" not in preflight_html(found, busy=False)
    assert "<img" not in preflight_html(found, busy=False)


def test_uploads_are_parsed_and_divided_once_for_the_same_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,topic\n" + "".join(f"a sentence number {n},{'ab'[n % 2]}\n" for n in range(50)))
    files = [[str(file), "a.csv"]]
    config = RunConfig()
    assert understood_data(files, config) is understood_data(files, config)
    rates = from_dict({"tasks": {"topic": {"loss_weight": 2}}})
    first = prepared_data(files, rates)
    again = prepared_data(files, from_dict({"tasks": {"topic": {"loss_weight": 3}}}))
    assert first.division is again.division
    assert again.config.tasks["topic"].loss_weight == 3
    other = prepared_data(files, from_dict({"data": {"split": {"seed": 5}}, "tasks": {"topic": {}}}))
    assert other.understood is first.understood, "the split's seed does not change the table"
    assert other.split != first.split


def test_uploads_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Upload a CSV file first"):
        read_data([], RunConfig().data)
    with pytest.raises(DataError, match="is gone"):
        read_data([[str(tmp_path / "none.csv"), "none.csv"]], RunConfig().data)
