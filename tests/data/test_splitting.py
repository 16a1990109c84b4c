from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from mtl.data.reading import is_missing
from mtl.data.splitting import SIDES, Split, normalised, split_rows, take_splits
from mtl.errors import DataError

EVERY = settings(max_examples=200, derandomize=True, deadline=None)
USUAL = (0.70, 0.15, 0.15)
FRACTIONS = st.sampled_from(
    [USUAL, (0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.85, 0.15, 0.0), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0)]
)
LABELS = st.sampled_from(["", " ", "a", "b", "c", "d"])


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[str], dict[str, list[str]]]:
    """Draw texts, some alike up to case and white space and some empty, with two tasks."""
    words = st.sampled_from(["", " ", "one", "One ", "ONE", "two  words", "Two words", "straße", "STRASSE", "x", "y"])
    unique = st.integers(0, 10_000).map(str)
    drawn = draw(st.lists(st.tuples(words | unique, LABELS, LABELS), min_size=1, max_size=60))
    texts, topic, mood = (list(column) for column in zip(*drawn, strict=True))
    assume(any(used(texts, {"topic": topic, "mood": mood})))
    return texts, {"topic": topic, "mood": mood}


def used(texts: Sequence[str], cells: dict[str, list[str]]) -> list[bool]:
    """Say for each row whether it has a text and a label."""
    return [
        not is_missing(text) and not all(is_missing(column[row]) for column in cells.values())
        for row, text in enumerate(texts)
    ]


def distinct(count: int) -> list[str]:
    """Make texts of which no two are alike."""
    return [f"text {number}" for number in range(count)]


@given(rows(), FRACTIONS, st.integers(0, 3))
@EVERY
def test_splitting_puts_every_usable_row_on_exactly_one_side(
    table: tuple[list[str], dict[str, list[str]]], fractions: tuple[float, float, float], seed: int
) -> None:
    texts, cells = table
    split = split_rows(texts, cells, fractions=fractions, seed=seed)
    assert sorted(split.train + split.validation + split.test) == [i for i, yes in enumerate(used(texts, cells)) if yes]
    assert all(list(getattr(split, side)) == sorted(getattr(split, side)) for side in SIDES)


@given(rows(), FRACTIONS, st.integers(0, 3))
@EVERY
def test_splitting_never_divides_rows_of_the_same_text(
    table: tuple[list[str], dict[str, list[str]]], fractions: tuple[float, float, float], seed: int
) -> None:
    texts, cells = table
    split = split_rows(texts, cells, fractions=fractions, seed=seed)
    seen = [{normalised(texts[row]) for row in getattr(split, side)} for side in SIDES]
    assert sum(map(len, seen)) == len(set.union(*seen))


@given(rows(), FRACTIONS, st.integers(0, 3))
@EVERY
def test_splitting_a_side_of_fraction_zero_is_empty(
    table: tuple[list[str], dict[str, list[str]]], fractions: tuple[float, float, float], seed: int
) -> None:
    split = split_rows(*table, fractions=fractions, seed=seed)
    for side, fraction in zip(SIDES, fractions, strict=True):
        assert fraction > 0 or getattr(split, side) == ()


@given(rows(), FRACTIONS, st.integers(0, 2**31 - 1))
@EVERY
def test_splitting_the_same_seed_gives_the_same_split(
    table: tuple[list[str], dict[str, list[str]]], fractions: tuple[float, float, float], seed: int
) -> None:
    assert split_rows(*table, fractions=fractions, seed=seed) == split_rows(*table, fractions=fractions, seed=seed)


def test_splitting_different_seeds_give_different_splits() -> None:
    texts, cells = distinct(200), {"topic": ["a", "b"] * 100}
    found = {split_rows(texts, cells, fractions=USUAL, seed=seed) for seed in range(10)}
    assert len(found) == 10


@given(st.lists(LABELS.filter(str.strip), min_size=1, max_size=300), FRACTIONS, st.integers(0, 3))
@EVERY
def test_splitting_each_class_of_a_task_is_divided_in_the_fractions(
    labels: list[str], fractions: tuple[float, float, float], seed: int
) -> None:
    split = split_rows(distinct(len(labels)), {"topic": labels}, fractions=fractions, seed=seed)
    for label, count in Counter(labels).items():
        for side, fraction in zip(SIDES, fractions, strict=True):
            got = sum(labels[row] == label for row in getattr(split, side))
            assert abs(got - fraction * count) <= 1, (label, side)


@given(st.lists(st.tuples(LABELS, LABELS), min_size=30, max_size=300), FRACTIONS, st.integers(0, 3))
@EVERY
def test_splitting_two_tasks_share_one_split_in_the_fractions(
    labels: list[tuple[str, str]], fractions: tuple[float, float, float], seed: int
) -> None:
    topic, mood = map(list, zip(*labels, strict=True))
    texts, cells = distinct(len(labels)), {"topic": topic, "mood": mood}
    usable = sum(used(texts, cells))
    assume(usable)
    split = split_rows(texts, cells, fractions=fractions, seed=seed)
    for side, fraction in zip(SIDES, fractions, strict=True):
        # each class of each task, "no label" among them, may be off by about one row
        assert abs(len(getattr(split, side)) - fraction * usable) <= 10


@given(st.lists(st.tuples(LABELS, LABELS), min_size=2, max_size=80), st.integers(0, 3))
@EVERY
def test_splitting_a_class_of_one_row_is_learnt_from(labels: list[tuple[str, str]], seed: int) -> None:
    topic, mood = map(list, zip(*labels, strict=True))
    cells = {"topic": ["only", *topic], "mood": ["", *mood]}
    split = split_rows(distinct(len(labels) + 1), cells, fractions=USUAL, seed=seed)
    assert 0 in split.train


@given(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=40), st.integers(0, 3))
@EVERY
def test_splitting_every_class_of_a_task_reaches_the_training_side(labels: list[str], seed: int) -> None:
    split = split_rows(distinct(len(labels)), {"topic": labels}, fractions=USUAL, seed=seed)
    assert {labels[row] for row in split.train} == set(labels)


def test_splitting_rows_that_lack_a_label_are_spread_over_the_sides() -> None:
    cells = {"topic": ["a", "b"] * 100, "mood": (["good"] * 3 + [""]) * 50}
    split = split_rows(distinct(200), cells, fractions=USUAL, seed=0)
    lacking = [sum(cells["mood"][row] == "" for row in getattr(split, side)) for side in SIDES]
    assert all(abs(got - 50 * fraction) <= 2 for got, fraction in zip(lacking, USUAL, strict=True))


def test_splitting_a_large_group_of_duplicates_stays_whole() -> None:
    texts = ["The same  text", "the SAME text"] * 20 + distinct(60)
    cells = {"topic": ["a", "b"] * 50}
    split = split_rows(texts, cells, fractions=USUAL, seed=0)
    assert any(set(range(40)) <= set(getattr(split, side)) for side in SIDES)


@pytest.mark.parametrize("seed", range(10))
def test_splitting_counts_rows_and_not_texts(seed: int) -> None:
    # of the 40 rows of a class, 20 share a text: the training side has room for them whenever they are dealt
    texts, cells = ["the same text"] * 20 + distinct(20), {"topic": ["a"] * 40}
    split = split_rows(texts, cells, fractions=USUAL, seed=seed)
    assert set(range(20)) <= set(split.train)


@pytest.mark.parametrize(
    ("texts", "labels"), [([], []), (["", " "], ["a", "b"]), (["one", "two"], ["", " "]), (["one", ""], ["", "a"])]
)
def test_splitting_refuses_a_table_without_a_usable_row(texts: list[str], labels: list[str]) -> None:
    with pytest.raises(DataError, match="No row has both a text and a label"):
        split_rows(texts, {"topic": labels}, fractions=USUAL, seed=0)


@pytest.mark.parametrize(("one", "other"), [("A  b\tc\n", "a B c"), ("straße", "STRASSE"), ("\u00a0x", "X ")])
def test_splitting_case_and_white_space_do_not_tell_texts_apart(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("e", "é"), ("a.", "a")])
def test_splitting_letters_accents_and_marks_do(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_splitting_examples_carry_their_rows_and_cells() -> None:
    texts, cells = ["zero", "one", "two", "three"], {"topic": ["a", "", "b", "a"], "mood": ["x", "y", "", "x"]}
    splits = take_splits(texts, cells, Split(train=(0, 3), validation=(2,), test=()))
    assert splits.train.texts == ("zero", "three")
    assert splits.train.cells == {"topic": ("a", "a"), "mood": ("x", "x")}
    assert splits.train.rows == (0, 3)
    assert splits.validation.rows == (2,)
    assert len(splits.test) == 0
    assert set(splits.test.cells) == {"topic", "mood"}


def test_splitting_taking_from_what_was_taken_keeps_the_tables_rows() -> None:
    everything = take_splits(distinct(5), {"topic": list("abcde")}, Split((1, 3, 4), (), ())).train
    again = everything.take([2, 0])
    assert (again.rows, again.texts, again.cells["topic"]) == ((4, 1), ("text 4", "text 1"), ("e", "b"))
