from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from mtl.data.columns import SIDE_WORDS, find_text_column, join_texts, side_of, understand
from mtl.data.guessing import TEXT_NAMES, several_labels
from mtl.data.reading import Table, is_missing
from mtl.errors import DataError, LimitError
from tests.data.strategies import EVERY, labelled_tables

SENTENCES = [f"This is sentence number {number} of the table" for number in range(60)]
SPANS = '[{"start": 0, "end": 4, "label": "PER"}]'


def table(**columns: list[str]) -> Table:
    """Make a table of sentences with further columns."""
    return Table({"text": SENTENCES, **columns})


# ---------------------------------------------------------------------------------------------- the text column


def test_columns_the_longest_text_is_the_text_column() -> None:
    found = find_text_column(Table({"id": list("abc"), "headline": ["one two three"] * 2 + ["x y"], "kind": ["a"] * 3}))
    assert found == "headline"


@pytest.mark.parametrize("name", [*TEXT_NAMES, "Text", " REVIEW "])
def test_columns_a_usual_name_wins_over_a_longer_column(name: str) -> None:
    columns = {"notes": [f"{number} some longer remark of the person" for number in range(3)], name: ["a b", "c", "d"]}
    assert find_text_column(Table(columns)) == name


def test_columns_repeated_long_values_are_less_of_a_text_than_different_short_ones() -> None:
    columns = {"category": ["a fairly long name of a category"] * 20, "words": [f"word {n} here" for n in range(20)]}
    assert find_text_column(Table(columns)) == "words"


def test_columns_the_text_column_can_be_named() -> None:
    assert find_text_column(table(topic=["a", "b"] * 30), "topic") == "topic"


def test_columns_a_named_text_column_must_exist() -> None:
    with pytest.raises(DataError, match='no column "review"; the file has "text"'):
        find_text_column(table(), "review")


@pytest.mark.parametrize(
    "cells",
    [
        ["a", "b"],
        ["", ""],
        ["1.5", "2"],
        ["2024-01-01", "2024-01-02"],
        ["12:30 x", "x"],
        [SPANS, "[]"],
        ["O B-PER I-PER", "O O O"],
    ],
    ids=["one word", "empty", "numbers", "dates", "almost a word", "spans", "tags"],
)
def test_columns_without_sentences_the_person_is_asked(cells: list[str]) -> None:
    with pytest.raises(DataError, match="No column looks like sentences. Name the text column; the file has"):
        find_text_column(Table({"first": cells, "second": ["x", "y"]}))


# -------------------------------------------------------------------------------------------- roles of the others


def test_columns_the_usual_table_is_understood() -> None:
    found = understand(
        table(
            id=[str(number) for number in range(60)],
            topic=["sports", "business", ""] * 20,
            entities=[SPANS, "[]"] * 30,
            source=["web"] * 60,
        )
    )
    assert (found.text, found.tasks) == (("text",), ("topic", "entities"))
    assert {column.name: column.role for column in found.all} == {
        "text": "text",
        "id": "ignored",
        "topic": "task",
        "entities": "entities",
        "source": "ignored",
    }
    assert found["topic"].counts == {"sports": 20, "business": 20}
    assert found["topic"].missing == 20


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["same"] * 60, "the same value in every row"),
        ([""] * 60, "empty"),
        ([f"2024-01-{day % 28 + 1:02}" for day in range(60)], "dates or times"),
        ([f"https://example.org/{number % 7}" for number in range(60)], "links"),
        ([f"user-{number}" for number in range(60)], "an identifier"),
        (["one two three four five six", "six five four three two one"] * 30, "free text"),
        ([f"{number % 25}.5" for number in range(100)][:60], "numbers"),
        ([f"label {number % 30}" for number in range(60)], "30 different values in 60 rows"),
        (["x" * 201, "y"] * 30, "too long for labels"),
    ],
    ids=["constant", "empty", "dates", "links", "identifiers", "text", "numbers", "too many values", "long"],
)
def test_columns_what_cannot_be_a_task_is_ignored_with_a_reason(cells: list[str], reason: str) -> None:
    found = understand(table(other=cells))
    assert found["other"].role == "ignored"
    assert reason in found["other"].reason
    assert found.tasks == ()


@pytest.mark.parametrize(
    "labels",
    [
        ["1", "2", "3", "4", "5"],
        ["0", "1"],
        ["true", "false"],
        ["NA", "None"],
        ["very good", "not so good"],
        ["a", "b"],
    ],
)
def test_columns_a_few_repeated_values_are_a_task(labels: list[str]) -> None:
    cells = [labels[row % len(labels)] for row in range(60)]
    found = understand(table(label=cells))
    assert found.tasks == ("label",)
    assert sum(found["label"].counts.values()) == 60


def test_columns_labels_that_differ_in_case_or_space_are_different_labels() -> None:
    found = understand(table(label=["Yes", "yes", " yes", "yes "] * 15))
    assert found["label"].counts == {"Yes": 15, "yes": 15, " yes": 15, "yes ": 15}


def test_columns_counts_begin_with_the_most_frequent_and_leave_blanks_out() -> None:
    found = understand(table(label=["b"] * 10 + ["a"] * 30 + [""] * 15 + [" "] * 5))
    assert list(found["label"].counts.items()) == [("a", 30), ("b", 10)]
    assert found["label"].missing == 20


def test_columns_labels_far_below_empty_cells_are_found() -> None:
    columns = {"text": SENTENCES * 50, "label": [""] * 2_940 + ["a", "b"] * 30}
    assert understand(Table(columns)).tasks == ("label",)


def test_columns_a_table_of_texts_alone_has_no_tasks() -> None:
    found = understand(table())
    assert (found.text, found.tasks) == (("text",), ())


def test_columns_keep_the_order_of_the_file() -> None:
    found = understand(Table({"mood": ["x", "y"] * 30, "text": SENTENCES, "topic": ["a", "b"] * 30}))
    assert [column.name for column in found.all] == ["mood", "text", "topic"]
    assert found.tasks == ("mood", "topic")


# -------------------------------------------------------------------------------------------- the person's choice


def test_columns_chosen_tasks_keep_the_persons_order_and_the_rest_is_left() -> None:
    cells = ["a", "b"] * 30
    found = understand(
        table(one=cells, two=cells, three=cells, spans=[SPANS, "[]"] * 30), task_columns=["three", "one"]
    )
    assert found.tasks == ("three", "one")
    assert (found["two"].role, found["two"].reason) == ("ignored", "not chosen")
    assert (found["spans"].role, found["spans"].reason) == ("entities", "not chosen")


def test_columns_a_chosen_column_is_a_task_although_it_does_not_look_like_one() -> None:
    ids = [f"user-{number}" for number in range(60)]
    assert understand(table(user=ids)).tasks == ()
    found = understand(table(user=ids), task_columns=["user"])
    assert (found.tasks, len(found["user"].counts)) == (("user",), 60)


def test_columns_choosing_the_text_frees_the_guessed_one() -> None:
    found = understand(table(title=["short title", "other title"] * 30), text_column="title")
    assert found.text == ("title",)
    assert found["text"].role == "ignored"


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (["label"], 'no column "label"'),
        (["text"], '"text" is the text column'),
        (["same"], 'Column "same" has 1 class; a task needs at least two'),
        (["empty"], 'Column "empty" has 0 class'),
    ],
)
def test_columns_a_choice_that_cannot_work_is_refused(chosen: list[str], sentence: str) -> None:
    columns = table(same=["a"] * 60, empty=[""] * 60)
    with pytest.raises(DataError, match=sentence):
        understand(columns, task_columns=chosen)


def test_columns_too_many_labels_are_refused_when_chosen_and_ignored_when_guessed(limit: Callable[..., None]) -> None:
    columns = table(label=[str(row % 5) + "x" for row in range(60)])
    limit(max_labels=5)
    assert understand(columns).tasks == understand(columns, task_columns=["label"]).tasks == ("label",)
    limit(max_labels=4)
    assert understand(columns).tasks == ()
    with pytest.raises(LimitError, match='Column "label" has 5 different labels; at most 4'):
        understand(columns, task_columns=["label"])


def test_columns_a_label_that_is_too_long_is_shown(limit: Callable[..., None]) -> None:
    columns = table(label=["short"] * 3 + ["far too long"] * 57)
    limit(max_label_characters=11)
    assert understand(columns).tasks == ()
    with pytest.raises(LimitError, match='The label "far too long…" in column "label" has 12 characters; at most 11'):
        understand(columns, task_columns=["label"])


def test_columns_too_many_tasks_are_refused_when_chosen_and_ignored_when_guessed(limit: Callable[..., None]) -> None:
    names = ["one", "two", "three"]
    columns = table(**{name: ["a", "b"] * 30 for name in names})
    limit(max_tasks=2)
    found = understand(columns)
    assert found.tasks == ("one", "two")
    assert (found["three"].role, found["three"].reason) == ("ignored", "there are 2 tasks already")
    with pytest.raises(LimitError, match="3 tasks are too many; at most 2"):
        understand(columns, task_columns=names)


# ------------------------------------------------------------------------------------------------- several texts


def test_columns_several_texts_are_joined_by_a_blank_without_their_empty_cells() -> None:
    pair = Table({"title": ["One ", "", " ", "\tFour"], "body": ["more", "two", "", "  words\n"], "id": list("abcd")})
    assert join_texts(pair, ["title", "body"]) == ["One more", "two", "", "Four words"]
    assert join_texts(pair, ["body", "title"])[0] == "more One"
    assert join_texts(pair, ["title"]) == pair.columns["title"]


def test_columns_joined_texts_have_their_role_and_reason() -> None:
    found = understand(table(title=["a title of it"] * 60, label=["a", "b"] * 30), text_column=["title", "text"])
    assert found.text == ("title", "text")
    assert found.named("text") == ("text", "title")
    assert found["title"].reason == "chosen by you, joined with the other texts"
    assert found.tasks == ("label",)


def test_columns_each_of_several_texts_must_exist() -> None:
    with pytest.raises(DataError, match='no column "body"'):
        understand(table(), text_column=["text", "body"])


# ------------------------------------------------------------------------------------------ ready-made split, groups

SIDES = ["train", "dev", "test"] * 20


@pytest.mark.parametrize("name", ["split", "Split", "SET", "data_split", "Data Split", "fold", "subset"])
def test_columns_a_column_of_sides_is_the_split(name: str) -> None:
    found = understand(table(**{name: SIDES}))
    assert (found[name].role, found[name].reason) == ("split", "says train, validation or test")
    assert found.tasks == ()


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("split", ["train"] * 60),
        ("split", ["train", "test", "other"] * 20),
        ("fold", ["1", "2", "3"] * 20),
        ("stage", SIDES),
    ],
    ids=["one side", "another word", "numbers", "another name"],
)
def test_columns_other_columns_are_no_split(name: str, cells: list[str]) -> None:
    assert understand(table(**{name: cells}))[name].role != "split"


def test_columns_a_split_may_leave_rows_open() -> None:
    found = understand(table(split=["train", "test", ""] * 20))
    assert (found["split"].role, found["split"].missing) == ("split", 20)


def test_columns_the_person_names_the_split_or_has_none() -> None:
    both = table(split=SIDES, stage=SIDES)
    found = understand(both, split_column="stage")
    assert (found["stage"].role, found["stage"].reason) == ("split", "chosen by you")
    assert found["split"].role == "task"
    assert understand(both, split_column="").named("split") == ()


def test_columns_the_group_column_is_no_task() -> None:
    found = understand(table(author=["anna", "ben"] * 30, label=["a", "b"] * 30), group_column="author")
    assert (found["author"].role, found.tasks) == ("group", ("label",))
    assert understand(table(split=SIDES), group_column="split")["split"].role == "group"


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"split_column": "stage"}, 'no column "stage"'),
        ({"group_column": "author"}, 'no column "author"'),
        (
            {"split_column": "text"},
            '"text" is the text column, so it cannot be the split, group or weight column as well',
        ),
        ({"group_column": "text"}, '"text" is the text column'),
        (
            {"task_columns": ["label"], "group_column": "label"},
            '"label" is a task, so it cannot be the split, group or weight',
        ),
        ({"task_columns": ["label"], "split_column": "label"}, '"label" is a task'),
    ],
)
def test_columns_one_column_has_one_role(chosen: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        understand(table(label=["a", "b"] * 30), **chosen)


@pytest.mark.parametrize(("cell", "side"), [*SIDE_WORDS.items(), (" TRAIN ", "train"), ("Dev", "validation")])
def test_columns_sides_are_known_in_their_usual_spellings(cell: str, side: str) -> None:
    assert side_of(cell) == side


@pytest.mark.parametrize("cell", ["", " ", "trainer", "tests", "1", "train,test"])
def test_columns_other_words_are_no_sides(cell: str) -> None:
    assert side_of(cell) is None


# ------------------------------------------------------------------------------------------- several labels in a cell


@pytest.mark.parametrize(
    "cells",
    [
        ["drama|comedy", "comedy", "drama|horror", "horror|comedy"] * 15,
        ["drama, comedy", "comedy", "drama, horror", "horror, comedy"] * 15,
        ["a;b", "b;c", "a;c", ""] * 15,
        ["a"] * 40 + ["a|b", "b|c", "c|a"] * 5,
    ],
    ids=["bars", "commas", "semicolons", "few"],
)
def test_columns_cells_with_several_labels_are_recognised_and_refused(cells: list[str]) -> None:
    found = understand(table(genre=cells[:60]))
    assert found["genre"].role == "ignored"
    assert found["genre"].reason.startswith('several labels in a cell, such as "')
    with pytest.raises(DataError, match='Column "genre" holds several labels in a cell, such as ".*keep one label'):
        understand(table(genre=cells[:60]), task_columns=["genre"])


@pytest.mark.parametrize(
    "cells",
    [
        ["World, Politics", "Sports", "Arts, Books"] * 20,
        ["sports|tennis", "sports|football", "news|weather"] * 20,
        ["Can't tell, or none", "late"] * 30,
        ["a", "b", "c"] * 20,
        ["1,5", "2,5", "3,0"] * 20,
        ["", " "] * 30,
        ["|", "||"] * 30,
    ],
    ids=["names with a comma", "a tree", "a phrase", "plain", "decimal commas", "empty", "bars alone"],
)
def test_columns_a_mark_inside_a_name_is_no_second_label(cells: list[str]) -> None:
    assert several_labels(cells) is None


# --------------------------------------------------------------------------------------------------------- entities


@pytest.mark.parametrize(
    ("cells", "reason"),
    [([SPANS, "[]"] * 30, "entity spans"), (["O B-PER", "", "O O"] * 20, "entity tags, one a word")],
)
def test_columns_entities_are_recognised_and_are_a_task(cells: list[str], reason: str) -> None:
    found = understand(table(marks=cells))
    assert (found["marks"].role, found.tasks) == ("entities", ("marks",))
    assert found["marks"].reason == reason
    chosen = understand(table(marks=cells, other=["a", "b"] * 30), task_columns=["marks"])
    assert (chosen.tasks, chosen["marks"].reason) == (("marks",), "chosen by you")


# ------------------------------------------------------------------------------------------------------- properties


@given(labelled_tables())
@EVERY
def test_columns_every_column_of_any_table_has_one_role_and_a_reason(found: Table) -> None:
    columns = understand(found, "text")
    assert tuple(column.name for column in columns.all) == found.headers
    assert all(column.reason for column in columns.all)
    assert set(columns.tasks) == {*columns.named("task"), *columns.named("entities")}
    for column in columns.all:
        cells = found.columns[column.name]
        assert column.missing == sum(is_missing(cell) for cell in cells)
        assert column.role != "task" or column.counts == {
            label: cells.count(label) for label in cells if not is_missing(label)
        }
        assert list(column.counts.values()) == sorted(column.counts.values(), reverse=True)


def test_columns_a_sorted_file_is_looked_at_to_its_end() -> None:
    count = 1_990
    texts = ["7"] * (count // 2) + [f"a sentence with the number {number}" for number in range(count // 2)]
    others = ["some words here and there"] * (count // 2) + [str(number) for number in range(count // 2)]
    assert understand(Table({"codes": others, "remarks": texts})).text == ("remarks",)
