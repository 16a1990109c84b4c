from __future__ import annotations

from mtl.data.columns import understand
from mtl.data.profile import RARE, Problem, problems
from mtl.data.reading import Table

TEXTS = [f"This is sentence number {number} of the table" for number in range(40)]
LABELS = ["a", "b"] * 20


def found(texts: list[str] | None = None, notes: tuple[str, ...] = (), **tasks: list[str]) -> list[Problem]:
    """List the problems of a table whose columns are named, so that nothing is guessed."""
    table = Table({"text": texts or TEXTS, **tasks}, notes=notes)
    return problems(table, understand(table, "text", list(tasks)))


def replaced(cells: list[str], changes: dict[int, str]) -> list[str]:
    """Change single cells."""
    return [changes.get(index, cell) for index, cell in enumerate(cells)]


def test_profile_a_clean_table_has_no_problems() -> None:
    assert found(topic=LABELS, mood=LABELS) == []


def test_profile_a_row_that_lacks_one_of_two_labels_is_no_problem() -> None:
    assert found(topic=replaced(LABELS, {3: ""}), mood=LABELS) == []


def test_profile_rows_without_a_text_are_named() -> None:
    (problem,) = found(replaced(TEXTS, {0: "", 5: "  "}), topic=LABELS)
    assert problem.rows == (2, 7)
    assert problem.sentence == "2 rows without a text: left out (rows 2, 7)."


def test_profile_a_single_row_is_said_in_the_singular() -> None:
    (problem,) = found(replaced(TEXTS, {1: ""}), topic=LABELS)
    assert problem.sentence == "1 row without a text: left out (row 3)."


def test_profile_rows_without_any_label_are_named_once() -> None:
    texts = replaced(TEXTS, {4: ""})  # a row without text and label is reported for its text only
    reported = found(texts, topic=replaced(LABELS, {4: "", 8: " "}), mood=replaced(LABELS, {4: "", 8: "", 9: ""}))
    assert [problem.rows for problem in reported] == [(6,), (10,)]
    assert "without a text" in reported[0].sentence
    assert "without any label: left out" in reported[1].sentence


def test_profile_a_table_without_tasks_does_not_complain_of_missing_labels() -> None:
    assert found() == []


def test_profile_repeated_texts_are_named_by_their_later_rows() -> None:
    texts = replaced(TEXTS, {2: TEXTS[0].upper(), 6: f" {TEXTS[0]} ", 9: TEXTS[1]})
    # rows 2 and 6 carry the label of row 0, row 9 that of row 1
    (problem,) = found(texts, topic=LABELS)
    assert problem.rows == (4, 8, 11)
    assert "repeating an earlier text: kept on the same side of the split" in problem.sentence


def test_profile_contradicting_labels_are_named_with_their_task() -> None:
    texts = replaced(TEXTS, {1: TEXTS[0]})
    repeated, clash = found(texts, topic=LABELS, mood=["x", "x"] + ["x", "y"] * 19)
    assert repeated.rows == (3,)
    assert clash.rows == (2, 3)
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
    assert reported[0].rows == tuple(range(2, 12))
    assert reported[0].sentence.endswith("(rows 2, 3, 4, 5, 6, 7, 8, 9 …).")


def test_profile_notes_of_the_reading_come_first() -> None:
    reported = found(replaced(TEXTS, {0: ""}), notes=("Column 2 has no name.",), topic=LABELS)
    assert [problem.sentence for problem in reported][0] == "Column 2 has no name."
    assert len(reported) == 2
