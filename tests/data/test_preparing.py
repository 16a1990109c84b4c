from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mtl.config import RunConfig
from mtl.config_text import from_dict
from mtl.data.preparing import (
    Prepared,
    check_labels,
    cut,
    divide,
    merge_labels,
    prepare,
    sort_labels,
    understand_table,
)
from mtl.data.profile import profile
from mtl.data.reading import Table
from mtl.data.splitting import SIDES, count_leaks, split_counts
from mtl.errors import ConfigError, DataError
from tests.data.strategies import EVERY, labelled_tables

ROWS = 100
TEXTS = [f"This is sentence number {number} of the table" for number in range(ROWS)]
TOPICS = ["sports", "business", "politics", ""] * 25
MOODS = ["good", "bad"] * 50


def table(**columns: list[str]) -> Table:
    """Make a table of sentences with a topic and a mood, unless other columns are given."""
    return Table({"text": TEXTS, **(columns or {"topic": TOPICS, "mood": MOODS})})


def prepared(values: dict[str, Any] | None = None, **columns: list[str]) -> Prepared:
    """Prepare the table with a configuration of plain values."""
    return prepare(table(**columns), from_dict(values))


def test_preparing_fills_in_everything_that_was_left_open() -> None:
    config = prepared().config
    assert config.data.text_column == ("text",)
    assert config.data.task_columns == ("topic", "mood")
    assert {name: task.labels for name, task in config.tasks.items()} == {
        "topic": ("business", "politics", "sports"),
        "mood": ("bad", "good"),
    }
    left_open = {"head_learning_rate", "epochs", "batch_size", "freeze", "warmup", "patience"}
    assert all(getattr(config.training, name) is not None for name in left_open)


def test_preparing_counts_the_epochs_from_the_training_rows() -> None:
    found = prepared({"training": {"batch_size": 10}})
    assert 60 < len(found.split.train) <= 70  # so 7 steps an epoch, and 22 epochs for the 150 steps of two tasks
    assert found.config.training.epochs == 22


def test_preparing_what_is_prepared_prepares_to_itself() -> None:
    first = prepared({"tasks": {"mood": {"labels": ["good", "bad"]}}, "training": {"preset": "classic"}})
    again = prepare(table(), first.config)
    assert (again.config, again.split) == (first.config, first.split)


def test_preparing_keeps_what_the_person_chose() -> None:
    config = prepared({"training": {"epochs": 7, "head_learning_rate": 0.5}, "encoder": {"pooling": "max"}}).config
    assert (config.training.epochs, config.training.head_learning_rate) == (7, 0.5)
    assert config.encoder.pooling == "max"


def test_preparing_listed_labels_keep_their_order_and_may_hold_one_that_no_row_has() -> None:
    found = prepared({"tasks": {"mood": {"labels": ["good", "mixed", "bad"]}}})
    assert found.config.tasks["mood"].labels == ("good", "mixed", "bad")


def test_preparing_a_label_that_is_not_listed_names_its_row() -> None:
    moods = [*MOODS[:20], "Good", *MOODS[21:]]
    with pytest.raises(DataError, match='Row 22: mood "Good" is not one of "good", "bad". Fix the cell'):
        prepared({"tasks": {"mood": {"labels": ["good", "bad"]}}}, mood=moods)


@pytest.mark.parametrize("label", ["Good", " good", "good ", "NA"])
def test_preparing_labels_are_compared_exactly(label: str) -> None:
    with pytest.raises(DataError, match="Row 2"):
        check_labels(table(mood=[label, *MOODS[1:]]), "mood", ["good", "bad"])


def test_preparing_an_empty_cell_is_never_an_unlisted_label() -> None:
    check_labels(table(mood=["", " ", *MOODS[2:]]), "mood", ["good", "bad"])


def test_preparing_configured_tasks_choose_the_columns_in_their_order() -> None:
    assert tuple(prepared({"tasks": {"mood": {}, "topic": {}}}).config.tasks) == ("mood", "topic")
    assert tuple(prepared({"tasks": {"mood": {"head": "mlp"}}}).config.tasks) == ("mood",)


def test_preparing_named_task_columns_win_and_keep_their_settings() -> None:
    found = prepared({"data": {"task_columns": ["mood", "topic"]}, "tasks": {"topic": {"loss_weight": 2}}})
    assert tuple(found.config.tasks) == ("mood", "topic")
    assert found.config.tasks["topic"].loss_weight == 2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data": {"text_column": "review"}}, 'no column "review"'),
        ({"data": {"task_columns": ["label"]}}, 'no column "label"'),
        ({"tasks": {"label": {}}}, 'no column "label"'),
        ({"data": {"task_columns": ["mood"]}, "tasks": {"topic": {}}}, '"topic" is not one of the task columns "mood"'),
        ({"data": {"task_columns": []}}, "No column looks like labels"),
    ],
)
def test_preparing_refuses_columns_that_do_not_fit_the_file(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        prepared(values)


def test_preparing_refuses_a_table_without_labels() -> None:
    with pytest.raises(DataError, match='No column looks like labels.*the file has "text", "id"'):
        prepared(id=[f"user-{row}" for row in range(ROWS)])


def test_preparing_refuses_a_task_of_which_one_class_alone_can_be_learnt() -> None:
    sides = ["train"] * 50 + ["test"] * 50
    moods = ["good"] * 50 + ["bad"] * 50
    with pytest.raises(DataError, match='Too few rows: the training rows hold 1 class of "mood"; at least two'):
        prepared(mood=moods, split=sides)


def test_preparing_a_test_fraction_of_zero_leaves_no_test_rows() -> None:
    found = prepared({"data": {"split": {"train": 0.8, "validation": 0.2, "test": 0}}})
    assert found.split.test == ()
    assert (len(found.split.train), len(found.split.validation)) == (80, 20)


def test_preparing_the_splits_seed_decides_the_rows_and_the_runs_seed_does_not() -> None:
    usual = prepared()
    assert prepared({"training": {"seed": 5}}).split == usual.split
    assert prepared({"data": {"split": {"seed": 5}}}).split != usual.split


def test_preparing_cut_gives_the_rows_of_the_split() -> None:
    found = prepared()
    splits = cut(table(), found.config, found.split)
    for side in SIDES:
        examples, rows = getattr(splits, side), getattr(found.split, side)
        assert examples.rows == rows
        assert examples.texts == tuple(TEXTS[row] for row in rows)
        assert examples.cells["topic"] == tuple(TOPICS[row] for row in rows)
        assert tuple(examples.cells) == ("topic", "mood")


def test_preparing_counts_of_the_sides_add_up_to_the_column() -> None:
    found = prepared()
    counts = split_counts({"topic": TOPICS, "mood": MOODS}, found.split)
    assert [(row["task"], row["label"]) for row in counts] == [
        ("topic", "sports"),
        ("topic", "business"),
        ("topic", "politics"),
        ("mood", "good"),
        ("mood", "bad"),
    ]
    columns = {"topic": TOPICS, "mood": MOODS}
    for row in counts:
        total = columns[str(row["task"])].count(str(row["label"]))
        assert sum(int(str(row[side])) for side in SIDES) == total
        assert int(str(row["train"])) > int(str(row["test"])) > 0


def test_preparing_leaves_the_persons_configuration_as_it_was() -> None:
    config = RunConfig()
    prepare(table(), config)
    assert config == RunConfig()


# ---------------------------------------------------------------------------- joined texts, merges, groups, sides


def test_preparing_joined_texts_are_what_is_learnt_from() -> None:
    titles = [f"title {row}" if row % 3 else "" for row in range(ROWS)]
    found = prepared({"data": {"text_column": ["title", "text"]}}, title=titles, mood=MOODS)
    assert found.config.data.text_column == ("title", "text")
    joined = [f"{title} {text}".strip() for title, text in zip(titles, TEXTS, strict=True)]
    assert found.understood.texts == joined
    splits = cut(found.understood.table, found.config, found.split)
    assert splits.test.texts == tuple(joined[row] for row in found.split.test)


def test_preparing_merged_labels_are_one_class_everywhere() -> None:
    moods = ["good", "Good", "bad", " bad"] * 25
    values = {"tasks": {"mood": {"merge": {"Good": "good", " bad": "bad"}}}}
    found = prepared(values, mood=moods)
    assert found.config.tasks["mood"].labels == ("bad", "good")
    assert found.columns["mood"].counts == {"good": 50, "bad": 50}
    splits = cut(table(mood=moods), found.config, found.split)  # from the table as it was read
    assert set(splits.train.cells["mood"]) == {"good", "bad"}
    assert profile(found.understood).merges == ()


def test_preparing_a_merge_leaves_other_columns_and_the_table_as_they_were() -> None:
    one = table()
    merged = merge_labels(one, from_dict({"tasks": {"mood": {"merge": {"good": "fine"}}, "absent": {}}}).tasks)
    assert merged.columns["topic"] == TOPICS
    assert merged.columns["mood"] == ["fine", "bad"] * 50
    assert one.columns["mood"] == MOODS


def test_preparing_a_group_is_never_divided() -> None:
    authors = [f"author {row % 17}" if row % 5 else "" for row in range(ROWS)]
    found = prepared({"data": {"split": {"group_column": "author"}}}, mood=MOODS, author=authors)
    assert found.columns["author"].role == "group"
    for author in set(authors) - {""}:
        rows = {row for row, name in enumerate(authors) if name == author}
        assert sum(bool(rows & set(getattr(found.split, side))) for side in SIDES) == 1
    assert found.division.leaks == 0


def test_preparing_near_duplicates_stay_together_once_they_were_looked_for() -> None:
    config = from_dict({"data": {"split": {"near_duplicates": 0.95}}})
    with pytest.raises(ConfigError, match="near_duplicates: the near duplicates were not looked for yet"):
        prepare(table(), config)
    near = [range(0, 40), range(60, 63)]
    found = prepare(table(), config, near)
    for rows in near:
        assert sum(bool(set(rows) & set(getattr(found.split, side))) for side in SIDES) == 1
    assert found.division.groups[39] == 0
    assert found.division.leaks == 0


def test_preparing_a_ready_made_split_is_kept_and_said() -> None:
    sides = (["train"] * 6 + ["dev"] * 2 + ["test"] * 2) * 10
    found = prepared(mood=MOODS, split=sides)
    for side, name in zip(SIDES, ("train", "dev", "test"), strict=True):
        assert getattr(found.split, side) == tuple(row for row in range(ROWS) if sides[row] == name)
    assert found.division.notes[0].startswith('The sides are those of the column "split"')
    assert prepared({"data": {"split": {"column": ""}}}, mood=MOODS, split=sides).split != found.split


def test_preparing_rows_that_leak_from_a_ready_made_split_are_left_out_and_counted() -> None:
    sides = (["train"] * 6 + ["dev"] * 2 + ["test"] * 2) * 10
    one = table(mood=MOODS, split=sides)
    one.columns["text"] = [TEXTS[8] if row in (0, 6, 8) else text for row, text in enumerate(TEXTS)]
    found = prepare(one, RunConfig())
    assert 8 in found.split.test
    assert not {0, 6} & {*found.split.train, *found.split.validation, *found.split.test}
    assert "2 training or validation rows repeat a text of a later side: left out." in found.division.notes
    assert found.division.leaks == 0


def test_preparing_classes_on_one_side_only_are_said() -> None:
    moods = ["only", "only", *MOODS[2:]]
    notes = prepared(mood=moods).division.notes
    assert '"mood": "only" — too few rows to divide, so they are in training only.' in notes
    sides = ["test"] * 2 + ["train"] * 49 + ["dev"] * 49
    notes = prepared(mood=moods, split=sides).division.notes
    assert '"mood": "only" — no row in training, so they cannot be learnt.' in notes


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"genre": ["a|b", "b|c", "c|a", "a"] * 25}, 'Column "genre" holds several labels in a cell, such as "a|b"'),
        ({"id": [str(n) for n in range(100)]}, "No column looks like labels"),
    ],
)
def test_preparing_says_why_there_is_no_task(columns: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        prepared(**columns)


def test_preparing_entities_are_read_against_the_texts() -> None:
    tags = ["O O O O B-NUM O O O" if row % 2 else "O O" for row in range(ROWS)]
    found = prepared(mood=MOODS, tags=tags)
    column = found.understood.entities["tags"]
    assert column.types == {"NUM": 50}
    assert [row for row, _ in column.problems] == list(range(0, ROWS, 2))


@given(labelled_tables())
@EVERY
def test_preparing_any_table_is_divided_without_leaks_or_refused(found: Table) -> None:
    values: dict[str, Any] = {"data": {"text_column": "text"}}
    if "author" in found.columns:
        values["data"]["split"] = {"group_column": "author"}
    config = from_dict(values)
    understood = understand_table(found, config)
    profile(understood)
    try:
        division = divide(understood, config)
    except DataError as error:
        assert str(error).endswith((".", "?"))
        return
    assert count_leaks(division.groups, division.split) == division.leaks == 0
    rows = [row for side in SIDES for row in getattr(division.split, side)]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["1.5", "-2", "1e1"], ["-2", "1.5", "1e1"]),
        (["1.0", "1", "01"], ["01", "1", "1.0"]),
        (["b", "a", "10", "9"], ["10", "9", "a", "b"]),
        (["nan", "2", "1"], ["1", "2", "nan"]),
        (["b", "B", "a"], ["B", "a", "b"]),
    ],
)
def test_preparing_labels_are_sorted_as_numbers_if_they_all_are(labels: list[str], order: list[str]) -> None:
    assert sort_labels(labels) == order


NUMBERS = st.sampled_from(["nan", "NaN", "inf", "1", "01", "2", "-1", "1e3", "1.0"])


@given(st.lists(NUMBERS, unique=True) | st.lists(NUMBERS | st.text(), unique=True))
@EVERY
def test_preparing_the_order_of_labels_does_not_depend_on_the_order_of_rows(labels: Sequence[str]) -> None:
    expected = sort_labels(labels)
    assert sort_labels(list(reversed(labels))) == sort_labels(sorted(labels)) == expected
    assert sorted(expected) == sorted(labels)
