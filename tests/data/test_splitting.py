from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from mtl.data.reading import is_missing
from mtl.data.sameness import normalised
from mtl.data.splitting import SIDES, Split, count_leaks, group_rows, split_counts, split_rows, take_splits
from mtl.errors import DataError
from tests.data import strategies

EVERY = settings(strategies.EVERY, max_examples=200)
USUAL = (0.70, 0.15, 0.15)
FRACTIONS = st.sampled_from(
    [USUAL, (0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.85, 0.15, 0.0), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0)]
)
LABELS = st.sampled_from(["", " ", "a", "b", "c", "d"])
SEEDS = st.integers(0, 3)


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


# --------------------------------------------------------------------------------------------------------- fractions


@given(st.lists(st.tuples(LABELS, LABELS, st.sampled_from(["", "x"])), min_size=1, max_size=200), FRACTIONS, SEEDS)
@EVERY
def test_splitting_every_label_of_several_tasks_and_its_lack_is_divided_in_the_fractions(
    labels: list[tuple[str, str, str]], fractions: tuple[float, float, float], seed: int
) -> None:
    columns = dict(zip(("topic", "mood", "tone"), map(list, zip(*labels, strict=True)), strict=True))
    texts = distinct(len(labels))
    rows = [row for row, yes in enumerate(used(texts, columns)) if yes]
    assume(rows)
    split = split_rows(texts, columns, fractions=fractions, seed=seed)
    sides = [set(getattr(split, side)) for side in SIDES]
    for column in columns.values():
        counts = Counter("" if is_missing(column[row]) else column[row] for row in rows)
        for label, count in counts.items():
            got = [sum((column[row].strip() or "") == label.strip() for row in side) for side in sides]
            # a rare class is kept in training whole; what is dealt for one task shifts another's by a row or two
            slack = 3.5 if count >= 3 else count
            assert all(abs(n - fraction * count) <= slack for n, fraction in zip(got, fractions, strict=True)), (
                label,
                got,
                count,
            )


def test_splitting_a_large_table_meets_the_fractions_of_every_label_within_a_row_or_two() -> None:
    random = Random(0)
    count = 5_000
    cells = {
        "topic": random.choices(["a", "b", "c", "d", ""], [40, 30, 20, 5, 5], k=count),
        "mood": random.choices(["x", "y", ""], [50, 10, 40], k=count),
        "tone": random.choices(["p", ""], [3, 97], k=count),
    }
    texts = distinct(count)
    split = split_rows(texts, cells, fractions=USUAL, seed=0)
    usable = used(texts, cells)
    for column in cells.values():
        for label in set(column):
            total = sum(usable[row] and column[row] == label for row in range(count))
            for side, fraction in zip(SIDES, USUAL, strict=True):
                got = sum(column[row] == label for row in getattr(split, side))
                assert abs(got - fraction * total) <= 2, (label, side)


# ------------------------------------------------------------------------------------------------------------- groups

VALUES = st.sampled_from(["", " ", "anna", "ben", "cora", "Anna"])


@given(rows(), st.data(), FRACTIONS, SEEDS)
@EVERY
def test_splitting_no_group_is_ever_on_two_sides(
    table: tuple[list[str], dict[str, list[str]]], data: st.DataObject, fractions: tuple[float, float, float], seed: int
) -> None:
    texts, cells = table
    count = len(texts)
    values = data.draw(st.none() | st.lists(VALUES, min_size=count, max_size=count))
    near = data.draw(st.lists(st.lists(st.integers(0, count - 1), max_size=4), max_size=3))
    given_sides = data.draw(st.none() | st.lists(st.sampled_from(GIVEN), min_size=count, max_size=count))
    groups = group_rows(texts, values=values, near=near)
    split = split_rows(texts, cells, fractions=fractions, seed=seed, groups=groups, given=given_sides)
    assert count_leaks(groups, split) == 0
    side_of_row = {row: side for side in SIDES for row in getattr(split, side)}
    together = [[row for row in range(count) if normalised(texts[row]) == normalised(text) != ""] for text in texts]
    if values:
        together += [[row for row in range(count) if values[row] == value] for value in {*values} - {"", " "}]
    for members in [*together, *near]:
        assert len({side_of_row[row] for row in members if row in side_of_row}) <= 1


def test_splitting_groups_are_joined_by_texts_values_and_near_texts() -> None:
    texts = ["one", "ONE!", "two", "three", "four", "", ""]
    assert group_rows(texts) == [0, 0, 2, 3, 4, 5, 6]
    assert group_rows(texts, values=["", "x", "x", "", " ", "", ""]) == [0, 0, 0, 3, 4, 5, 6]
    assert group_rows(texts, near=[[4, 3], [3, 1]]) == [0, 0, 2, 0, 0, 5, 6]
    assert group_rows(texts, keys=list("aabbcde")) == [0, 0, 2, 2, 4, 5, 6]


def test_splitting_leaks_are_counted_by_looking() -> None:
    assert count_leaks([0, 0, 2, 3, 3], Split((0, 3), (1,), (2, 4))) == 2
    assert count_leaks([0, 0, 2, 3, 3], Split((0, 1), (2,), (3, 4))) == 0
    assert count_leaks([0, 0, 0], Split((0,), (1,), (2,))) == 1


# ------------------------------------------------------------------------------------------------- ready-made sides

GIVEN = ["train", "Training", "dev", "validation", "TEST", "", " "]
NAMED = {"train": "train", "Training": "train", "dev": "validation", "validation": "validation", "TEST": "test"}


@given(rows(), st.data(), FRACTIONS, SEEDS)
@EVERY
def test_splitting_ready_made_sides_are_kept_or_the_row_is_left_out(
    table: tuple[list[str], dict[str, list[str]]], data: st.DataObject, fractions: tuple[float, float, float], seed: int
) -> None:
    texts, cells = table
    sides = data.draw(st.lists(st.sampled_from(GIVEN), min_size=len(texts), max_size=len(texts)))
    split = split_rows(texts, cells, fractions=fractions, seed=seed, given=sides)
    usable = {row for row, yes in enumerate(used(texts, cells)) if yes}
    present = {NAMED[sides[row]] for row in range(len(texts)) if sides[row] in NAMED}
    groups = group_rows(texts)
    placed = {row: side for side in SIDES for row in getattr(split, side)}
    for row in usable:
        wanted = NAMED.get(sides[row])
        others = {NAMED.get(sides[other]) for other in usable if groups[other] == groups[row]} - {None, wanted}
        later = {side for side in others if SIDES.index(str(side)) > (SIDES.index(wanted) if wanted else -1)}
        if wanted in ("validation", "test"):
            assert placed.get(row) == (None if later else wanted)
        elif wanted == "train":
            # training rows fill a side that nobody named
            assert later or placed[row] == "train" or placed[row] not in present
            assert not later or row not in placed
        else:
            assert row in placed


def test_splitting_sides_that_are_all_named_are_taken_as_they_are() -> None:
    sides = ["train", "test", "dev", "train"] * 10
    split = split_rows(distinct(40), {"topic": ["a", "b"] * 20}, fractions=USUAL, seed=0, given=sides)
    assert split == Split(
        tuple(sorted([*range(0, 40, 4), *range(3, 40, 4)])), tuple(range(2, 40, 4)), tuple(range(1, 40, 4))
    )


def test_splitting_a_side_that_is_not_named_is_cut_out_of_training() -> None:
    sides = ["train"] * 80 + ["test"] * 20
    split = split_rows(distinct(100), {"topic": ["a", "b"] * 50}, fractions=(0.6, 0.2, 0.2), seed=0, given=sides)
    assert split.test == tuple(range(80, 100))
    assert (len(split.train), len(split.validation)) == (60, 20)


def test_splitting_training_rows_that_repeat_a_test_text_are_left_out() -> None:
    texts = ["the same text", "The same text!", *distinct(38)]
    sides = ["train", "test", *["train", "dev", "test"] * 12, "train", "train"]
    split = split_rows(texts, {"topic": ["a", "b"] * 20}, fractions=USUAL, seed=0, given=sides)
    assert 1 in split.test
    assert 0 not in {*split.train, *split.validation, *split.test}
    assert sum(map(len, (split.train, split.validation, split.test))) == 39


# ------------------------------------------------------------------------------------------------------ entity types


def test_splitting_entity_types_are_spread_over_the_sides() -> None:
    types: list[tuple[str, ...] | None] = [
        ("PER",) if row % 10 == 0 else (() if row % 3 else None) for row in range(300)
    ]
    types[0:60:20] = [("PER", "ORG")] * 3
    cells = {"topic": ["a", "b"] * 150}
    split = split_rows(distinct(300), cells, fractions=USUAL, seed=0, entity_types={"tags": types})
    for kind, total in (("PER", 30), ("ORG", 3)):
        got = [sum(kind in (types[row] or ()) for row in getattr(split, side)) for side in SIDES]
        assert all(abs(n - fraction * total) <= 2 for n, fraction in zip(got, USUAL, strict=True))
        assert kind == "ORG" or min(got) > 0
    not_annotated = [sum(types[row] is None for row in getattr(split, side)) for side in SIDES]
    assert all(abs(n - fraction * 90) <= 2 for n, fraction in zip(not_annotated, USUAL, strict=True))


# ------------------------------------------------------------------------------------------------------- rare classes


@given(st.integers(1, 2), st.integers(20, 60), SEEDS)
@EVERY
def test_splitting_a_class_with_fewer_rows_than_sides_is_kept_in_training(rare: int, common: int, seed: int) -> None:
    cells = {"topic": ["rare"] * rare + ["a", "b"] * common}
    split = split_rows(distinct(rare + 2 * common), cells, fractions=USUAL, seed=seed)
    assert set(range(rare)) <= set(split.train)


def test_splitting_a_class_of_many_rows_with_one_text_is_one_group_and_kept_in_training() -> None:
    texts = ["win a prize"] * 20 + distinct(60)
    cells = {"topic": ["spam"] * 20 + ["ham", "other"] * 30}
    for seed in range(10):
        assert set(range(20)) <= set(split_rows(texts, cells, fractions=USUAL, seed=seed).train)


def test_splitting_one_row_per_class_is_all_training() -> None:
    labels = [f"class {number}" for number in range(50)]
    split = split_rows(distinct(50), {"topic": labels}, fractions=USUAL, seed=0)
    assert split == Split(tuple(range(50)), (), ())


# ------------------------------------------------------------------------------------------------------------ counts


def test_splitting_counts_are_the_rows_of_each_side_by_class() -> None:
    cells = {"topic": ["a", "b", "a", "", "a"], "mood": ["x", "", "", "x", " "]}
    counts = split_counts(cells, Split((0, 1, 3), (2,), (4,)))
    assert counts == [
        {"task": "topic", "label": "a", "train": 1, "validation": 1, "test": 1},
        {"task": "topic", "label": "b", "train": 1, "validation": 0, "test": 0},
        {"task": "mood", "label": "x", "train": 2, "validation": 0, "test": 0},
    ]


# ---------------------------------------------------------------------------------------------------------- examples


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


def test_splitting_texts_without_any_entity_are_divided_like_the_others() -> None:
    texts = [f"a text with the number {number}" for number in range(400)]
    types: list[tuple[str, ...] | None] = [("PER",) if number % 4 == 0 else () for number in range(400)]
    split = split_rows(texts, {}, fractions=(0.7, 0.15, 0.15), seed=0, entity_types={"names": types})
    sizes = [len(side) for side in (split.train, split.validation, split.test)]
    assert sizes == [280, 60, 60]
    named = [sum(bool(types[row]) for row in side) for side in (split.train, split.validation, split.test)]
    assert named == [70, 15, 15]
