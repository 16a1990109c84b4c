from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given

from mtl.config import DataConfig, RunConfig
from mtl.data.preparing import understand_table
from mtl.data.profile import RARE, Merge, Problem, Profile, about, profile
from mtl.data.reading import Table, is_missing
from mtl.data.sameness import normalised
from tests.data.strategies import EVERY, labelled_tables

TEXTS = [f"This is sentence number {number} of the table" for number in range(40)]
LABELS = ["a", "b"] * 20


def counted(texts: list[str] | None = None, notes: tuple[str, ...] = (), **columns: list[str]) -> Profile:
    """Profile a table whose text and tasks are named, so that nothing is guessed; `tags` are entities."""
    table = Table({"text": texts or TEXTS, **columns}, notes=notes)
    tasks = tuple(name for name in columns if name != "tags")
    return profile(understand_table(table, RunConfig(data=DataConfig(text_column=("text",), task_columns=tasks))))


def found(texts: list[str] | None = None, notes: tuple[str, ...] = (), **columns: list[str]) -> list[Problem]:
    """List the problems of such a table."""
    return list(counted(texts, notes, **columns).problems)


def replaced(cells: list[str], changes: dict[int, str]) -> list[str]:
    """Change single cells."""
    return [changes.get(index, cell) for index, cell in enumerate(cells)]


def test_profile_a_clean_table_has_no_problems() -> None:
    assert found(topic=LABELS, mood=LABELS) == []


def test_profile_a_row_that_lacks_one_of_two_labels_is_no_problem() -> None:
    assert found(topic=replaced(LABELS, {3: ""}), mood=LABELS) == []


def test_profile_rows_without_a_text_are_named() -> None:
    (problem,) = found(replaced(TEXTS, {0: "", 5: "  "}), topic=LABELS)
    assert problem.rows == (0, 5)
    assert problem.sentence == "2 rows without a text: left out (rows 2, 7)."


def test_profile_a_single_row_is_said_in_the_singular() -> None:
    (problem,) = found(replaced(TEXTS, {1: ""}), topic=LABELS)
    assert problem.sentence == "1 row without a text: left out (row 3)."


def test_profile_rows_without_any_label_are_named_once() -> None:
    texts = replaced(TEXTS, {4: ""})  # a row without text and label is reported for its text only
    reported = found(texts, topic=replaced(LABELS, {4: "", 8: " "}), mood=replaced(LABELS, {4: "", 8: "", 9: ""}))
    assert [problem.rows for problem in reported] == [(4,), (8,)]
    assert "without a text" in reported[0].sentence
    assert "without any label: left out" in reported[1].sentence


def test_profile_a_table_without_tasks_does_not_complain_of_missing_labels() -> None:
    assert found() == []


def test_profile_repeated_texts_are_named_by_their_later_rows() -> None:
    texts = replaced(TEXTS, {2: TEXTS[0].upper(), 6: f" {TEXTS[0]} ", 9: TEXTS[1]})
    # rows 2 and 6 carry the label of row 0, row 9 that of row 1
    (problem,) = found(texts, topic=LABELS)
    assert problem.rows == (2, 6, 9)
    assert "(rows 4, 8, 11)" in problem.sentence
    assert "repeating an earlier text: kept on the same side of the split" in problem.sentence


def test_profile_contradicting_labels_are_named_with_their_task() -> None:
    texts = replaced(TEXTS, {1: TEXTS[0]})
    clash, repeated = found(texts, topic=LABELS, mood=["x", "x"] + ["x", "y"] * 19)
    assert repeated.rows == (1,)
    assert clash.rows == (0, 1)
    assert 'the same text but different labels of "topic"' in clash.sentence


def test_profile_a_missing_label_contradicts_nothing() -> None:
    texts = replaced(TEXTS, {1: TEXTS[0]})
    (problem,) = found(texts, topic=replaced(LABELS, {1: ""}), mood=["x", "x"] + ["x", "y"] * 19)
    assert "repeating" in problem.sentence


def test_profile_rare_classes_are_listed_by_task() -> None:
    rare = ["a"] * 20 + ["b"] * (RARE + 1) + ["c"] * (RARE - 1)
    (problem,) = found(topic=rare, mood=LABELS)
    assert problem.rows == ()
    assert problem.sentence.startswith('"topic": c — fewer than')


def test_profile_a_class_of_enough_rows_is_not_rare() -> None:
    assert found(topic=["a"] * (40 - RARE) + ["b"] * RARE) == []


def test_profile_many_rare_classes_are_counted() -> None:
    (problem,) = found(topic=[f"class {number:02}" for number in range(20)] * 2)
    assert "class 07 and 12 more — fewer" in problem.sentence


def test_profile_a_long_list_of_rows_is_cut_in_the_sentence_only() -> None:
    reported = found(replaced(TEXTS, dict.fromkeys(range(10), "")), topic=LABELS)
    assert reported[0].rows == tuple(range(10))
    assert reported[0].sentence.endswith("(rows 2, 3, 4, 5, 6, 7, 8, 9 …).")


def test_profile_notes_of_the_reading_come_first() -> None:
    reported = found(replaced(TEXTS, {0: ""}), notes=("Column 2 has no name.",), topic=LABELS)
    assert [problem.sentence for problem in reported][0] == "Column 2 has no name."
    assert len(reported) == 2


# ----------------------------------------------------------------------------------------------------------- coverage


def test_profile_coverage_counts_the_rows_with_each_combination_of_labels() -> None:
    topic = replaced(LABELS, dict.fromkeys([0, 1, 2, 3], ""))
    mood = replaced(LABELS, dict.fromkeys([2, 3, 4, 5, 6], " "))
    texts = replaced(TEXTS, {3: "", 39: " "})
    profiled = counted(texts, topic=topic, mood=mood)
    assert profiled.coverage == ((("topic", "mood"), 32), (("topic",), 3), (("mood",), 2), ((), 1))
    assert (profiled.rows, profiled.usable) == (40, 37)


def test_profile_a_table_without_tasks_has_no_coverage() -> None:
    assert (counted().coverage, counted().rows, counted().usable) == ((), 40, 0)


# ------------------------------------------------------------------------------------------ duplicates, contradictions


def test_profile_duplicates_are_groups_that_begin_with_the_row_they_repeat() -> None:
    texts = replaced(TEXTS, {5: f"{TEXTS[2]}!", 9: TEXTS[2].upper(), 30: TEXTS[29], 7: "", 8: ""})
    assert counted(texts, topic=LABELS).duplicates == ((2, 5, 9), (29, 30))


def test_profile_contradictions_are_the_labelled_rows_of_a_group() -> None:
    texts = replaced(TEXTS, dict.fromkeys([3, 6, 11, 20], TEXTS[3]))
    topic = replaced(["a"] * 20 + ["b"] * 20, {6: ""})
    profiled = counted(texts, topic=topic, mood=["x"] * 20 + ["x", "y"] * 10)
    assert profiled.contradictions == {"topic": ((3, 11, 20),), "mood": ()}


def test_profile_texts_that_differ_in_a_mention_repeat_but_contradict_nothing() -> None:
    texts = replaced(TEXTS, {0: "@north you are late", 1: "@south you are late", 2: "@north You are late!"})
    profiled = counted(texts, topic=["a", "b", "b", *LABELS[3:]])
    assert profiled.duplicates == ((0, 1, 2),)
    assert profiled.contradictions["topic"] == ((0, 2),)


# ------------------------------------------------------------------------------------------------ labels that are alike


def test_profile_labels_that_differ_in_case_or_spaces_could_be_the_commonest() -> None:
    topic = ["Sport"] * 22 + ["sport"] * 12 + [" SPORT"] * 2 + ["art"] * 2 + ["ar t"] * 2
    profiled = counted(topic=topic)
    assert profiled.merges == (Merge("topic", ("Sport", "sport", " SPORT"), "Sport"),)
    (alike,) = [problem for problem in profiled.problems if problem.kind == "labels alike"]
    assert alike.rows == tuple(range(22, 36))
    assert alike.sentence.startswith('"topic": "Sport", "sport", " SPORT" differ only in case or spaces')


def test_profile_the_merged_label_has_no_blanks_around_it() -> None:
    assert counted(topic=[" good"] * 25 + ["good"] * 5 + ["bad"] * 10).merges == (
        Merge("topic", (" good", "good"), "good"),
    )


@pytest.mark.parametrize("pair", [("1", "01"), ("1", "1.0"), ("true", "1"), ("NA", "N/A"), ("a.", "a"), ("e", "é")])
def test_profile_labels_that_differ_in_anything_else_are_left_alone(pair: tuple[str, str]) -> None:
    assert counted(topic=[pair[number % 2] for number in range(40)]).merges == ()


# ----------------------------------------------------------------------------------------------------------- entities


def test_profile_misaligned_entities_are_named_with_their_first_row() -> None:
    tags = ["O O O O B-NUM O O O"] * 40  # eight words each
    tags = replaced(tags, {4: "O O", 7: "O O O O X-NUM O O O", 9: ""})
    (problem,) = [problem for problem in found(topic=LABELS, tags=tags) if problem.kind == "misaligned entities"]
    assert problem.rows == (4, 7)
    assert problem.sentence == '"tags": 2 rows not used, first row 6: has 2 tags for 8 words.'


def test_profile_tags_that_begin_with_i_are_converted_and_counted() -> None:
    tags = ["O O O O I-NUM O O O", "O O O O B-NUM I-NUM O O"] * 20
    (problem,) = found(topic=LABELS, tags=tags)
    assert (problem.kind, problem.rows) == ("entity tags", ())
    assert problem.sentence == '"tags": 20 entities begin with I-, E- or L-; read as B-.'


# ------------------------------------------------------------------------------------------------- order, places, speed


def test_profile_the_most_serious_problems_come_first() -> None:
    texts = replaced(TEXTS, {0: "", 5: TEXTS[4], 7: TEXTS[6]})
    topic = replaced(["a", "a"] * 20, {1: "", 4: "a", 5: "b", 30: "A"})
    kinds = [problem.kind for problem in found(texts, ("A note.",), topic=topic)]
    assert kinds == ["reading", "no text", "no label", "contradiction", "duplicate", "labels alike", "rare class"]


def test_profile_rows_are_named_with_their_file() -> None:
    table = Table({"text": ["", "x"]}, numbers=(2, 5), files=(("a.csv", 0), ("b.csv", 1)))
    (problem,) = about(table, "no text", [1, 0], "without a text")
    assert (problem.rows, problem.sentence) == ((0, 1), "2 rows without a text (rows 2 of a.csv, 5 of b.csv).")
    assert about(table, "no text", [], "without a text") == []


@given(labelled_tables())
@EVERY
def test_profile_of_any_table_counts_what_is_there(table: Table) -> None:
    config = RunConfig(data=DataConfig(text_column=("text",)))
    understood = understand_table(table, config)
    profiled = profile(understood)
    texts = table.columns["text"]
    with_text = sum(not is_missing(text) for text in texts)
    assert sum(count for _, count in profiled.coverage) == (with_text if understood.columns.tasks else 0)
    assert profiled.usable == sum(count for tasks, count in profiled.coverage if tasks)
    keys = Counter(normalised(text) for text in texts)
    keys.pop("", None)
    assert [len(group) for group in profiled.duplicates] == [count for count in keys.values() if count > 1]
    for task, groups in profiled.contradictions.items():
        assert all(len({table.columns[task][row] for row in group}) > 1 for group in groups)
    assert all(problem.sentence.endswith(".") for problem in profiled.problems)
    assert all(0 <= row < len(table) for problem in profiled.problems for row in problem.rows)


def test_profile_takes_time_that_grows_with_the_rows_alone() -> None:
    def seconds(count: int) -> float:
        texts = [f"the same text {number % (count // 2)}" for number in range(count)]
        labels = ["ab"[number % 2] + "c" * (number % 7) for number in range(count)]
        start = time.process_time()
        counted(texts, topic=labels, mood=labels)
        return time.process_time() - start

    seconds(1_000)
    assert seconds(80_000) < 12 * seconds(20_000) + 0.05  # four times the rows; a square would be 16 times
