from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mtl.config import DataConfig, ReadingConfig, RunConfig
from mtl.data.columns import understand
from mtl.data.combining import combine, read_configured, read_files
from mtl.data.preparing import divide, understand_table
from mtl.data.reading import Table, read_table
from mtl.errors import DataError, LimitError
from tests.data.strategies import EVERY, labelled_tables

WORDS = ["rain", "goal", "vote", "phone", "song", "snow"]
TEXTS = [f"the {word} of day {number} was in the news" for number, word in enumerate(WORDS * 2)]
TOPICS = ["weather", "sports", "politics"] * 4
MOODS = ["good", "bad"] * 6


def table(**columns: list[str]) -> Table:
    return Table(columns)


def filed(folder: Path, **files: str) -> list[tuple[Path, str]]:
    """Write files and return them as a person uploads them."""
    found = []
    for name, content in files.items():
        path = folder / f"{name}.csv"
        path.write_text(content, encoding="utf-8")
        found.append((path, path.name))
    return found


# --------------------------------------------------------------------------------------------- what is put together


def test_combining_one_table_is_itself() -> None:
    one = table(text=TEXTS, topic=TOPICS)
    assert combine([("a.csv", one)]) is one


def test_combining_a_file_per_task_leaves_the_other_tasks_labels_missing() -> None:
    found = combine([("topics.csv", table(text=TEXTS, topic=TOPICS)), ("moods.csv", table(text=TEXTS, mood=MOODS))])
    assert found.columns == {
        "text": TEXTS + TEXTS,
        "topic": TOPICS + [""] * 12,
        "mood": [""] * 12 + MOODS,
    }
    assert found.notes == ()
    assert understand(found).tasks == ("topic", "mood")


def test_combining_more_rows_of_the_same_tasks_are_put_below() -> None:
    first, second = table(text=TEXTS, topic=TOPICS), table(topic=TOPICS[:3], text=["more of it one"] * 3)
    found = combine([("a.csv", first), ("b.csv", second)])
    assert found.columns == {"text": TEXTS + ["more of it one"] * 3, "topic": TOPICS + TOPICS[:3]}
    assert found.notes == ()


def test_combining_one_class_in_each_file_makes_one_task() -> None:
    files = [("pos.csv", table(text=TEXTS, label=["pos"] * 12)), ("neg.csv", table(text=WORDS, label=["neg"] * 6))]
    found = understand(combine(files, text=["text"]))
    assert found.tasks == ("label",)
    assert found["label"].counts == {"pos": 12, "neg": 6}


def test_combining_a_header_with_labels_that_no_file_shares_is_a_task_in_each() -> None:
    found = combine([("topics.csv", table(text=TEXTS, label=TOPICS)), ("moods.csv", table(text=TEXTS, label=MOODS))])
    assert found.headers == ("text", "label (topics)", "label (moods)")
    assert found.column("label (moods)") == [""] * 12 + MOODS
    assert 'share no label of "label", so it is a task of its own in each' in found.notes[0]


def test_combining_a_header_with_a_shared_label_is_one_task() -> None:
    files = [("a.csv", table(text=TEXTS, label=TOPICS)), ("b.csv", table(text=TEXTS, label=["sports", "art"] * 6))]
    found = combine(files)
    assert found.headers == ("text", "label")
    assert found.notes == ()


@pytest.mark.parametrize(("labels", "separate"), [(MOODS, False), (TOPICS, True)])
def test_combining_the_person_decides_whether_a_header_is_one_task(labels: list[str], separate: bool) -> None:
    files = [("a.csv", table(text=TEXTS, label=TOPICS)), ("b.csv", table(text=TEXTS, label=labels))]
    assert ("label" in combine(files).headers) is separate
    found = combine(files, separate_tasks=separate)
    assert ("label" in found.headers) is not separate
    assert not any("share no label" in note for note in found.notes)


def test_combining_texts_are_never_taken_for_tasks() -> None:
    repeated = ["one two three", "four five six"] * 3
    others = ["seven eight nine", "ten eleven twelve"] * 3
    files = [("a.csv", table(text=repeated, label=MOODS[:6])), ("b.csv", table(text=others, label=MOODS[:6]))]
    for separate in (None, True):
        assert combine(files, separate_tasks=separate).column("text") == repeated + others
        assert "text" in combine(files, text=["text"], separate_tasks=separate).headers


def test_combining_other_columns_are_kept_beside_each_other() -> None:
    first = table(text=TEXTS, id=[str(number) for number in range(12)])
    second = table(text=TEXTS, id=[str(number) for number in range(50, 62)], user=["u"] * 12)
    found = combine([("a.csv", first), ("b.csv", second)])
    assert found.headers == ("text", "id", "user")
    assert found.column("user") == [""] * 12 + ["u"] * 12


# ---------------------------------------------------------------------------------------------------- text columns


def test_combining_different_text_headers_become_the_first_files() -> None:
    files = [("a.csv", table(text=TEXTS, topic=TOPICS)), ("b.csv", table(mood=MOODS, review=TEXTS))]
    found = combine(files)
    assert found.headers == ("text", "topic", "mood")
    assert found.column("text") == TEXTS + TEXTS
    assert found.notes == ('b.csv: the text column "review" is put under "text", the first file\'s.',)


def test_combining_a_named_text_column_is_taken_and_where_it_lacks_guessed() -> None:
    first = table(title=[f"day {number} of it" for number in range(12)], body=[f"{text} again" for text in TEXTS])
    files = [("a.csv", first), ("b.csv", table(content=TEXTS, mood=MOODS))]
    found = combine(files, text=["title"])
    assert found.column("title") == first.columns["title"] + TEXTS
    assert found.column("body")[12:] == [""] * 12


def test_combining_two_joined_text_columns_are_kept() -> None:
    one = table(title=TEXTS, body=TEXTS, topic=TOPICS)
    found = combine([("a.csv", one), ("b.csv", one)], text=["title", "body"])
    assert found.headers == ("title", "body", "topic")
    assert len(found) == 24


def test_combining_a_file_without_texts_is_named() -> None:
    files = [("a.csv", table(text=TEXTS, topic=TOPICS)), ("codes.csv", table(code=["1", "2"]))]
    with pytest.raises(DataError, match=r"^codes\.csv: No column looks like sentences"):
        combine(files)


# ------------------------------------------------------------------------------------------------- sides by name


@pytest.mark.parametrize(
    ("names", "sides"),
    [
        (("train.csv", "validation.csv", "test.csv"), ["train", "validation", "test"]),
        (("snips_train.csv", "snips-dev.csv", "snips.test.csv"), ["train", "validation", "test"]),
        (("Training set.csv", "VAL.csv", "more.csv"), ["train", "validation", ""]),
        (("my_train.csv", "my_test.csv"), ["train", "test"]),
    ],
)
def test_combining_files_named_as_sides_are_the_sides(names: tuple[str, ...], sides: list[str]) -> None:
    tables = [(name, table(text=[f"{text} {name}" for text in TEXTS], topic=TOPICS)) for name in names]
    found = combine(tables)
    assert found.column("split") == [side for side in sides for _ in TEXTS]
    assert found.notes[-1].startswith(f"The files are named as sides of the split: {names[0]} as train, ")
    division = divide(understand_table(found, RunConfig()), RunConfig())
    for side, rows in (("validation", division.split.validation), ("test", division.split.test)):
        if side in sides:
            start = 12 * sides.index(side)
            assert rows == tuple(range(start, start + 12))


@pytest.mark.parametrize(
    "names",
    [("one.csv", "two.csv"), ("train.csv", "training.csv"), ("test.csv", "dev.csv"), ("train_test.csv", "b.csv")],
)
def test_combining_other_names_say_nothing_of_sides(names: tuple[str, ...]) -> None:
    assert "split" not in combine([(name, table(text=TEXTS, topic=TOPICS)) for name in names]).headers


def test_combining_a_split_column_is_stronger_than_the_names() -> None:
    sides = ["train", "dev", "test"] * 4
    one = table(text=TEXTS, topic=TOPICS, Split=sides)
    found = combine([("train.csv", one), ("test.csv", one)])
    assert found.headers == ("text", "topic", "Split")
    assert found.column("Split") == sides * 2


# ------------------------------------------------------------------------------------------------ names and places


def test_combining_rows_are_said_with_their_file() -> None:
    first = read_table(b"text,label\none two three,a\n\nfour five six,b\n")
    second = read_table(b"seven eight nine,a\nten eleven twelve,b\n", header=False)
    found = combine([("a.csv", first), ("b.csv", second)], text=["text"])
    assert [found.place(index) for index in range(4)] == ["2 of a.csv", "4 of a.csv", "1 of b.csv", "2 of b.csv"]
    assert found.files == (("a.csv", 0), ("b.csv", 2))


def test_combining_files_of_one_name_are_told_apart() -> None:
    files = [("x.csv", table(text=TEXTS, label=TOPICS)), ("x.csv", table(text=TEXTS, label=MOODS))]
    found = combine([*files, ("x (2).csv", table(text=TEXTS, label=["left", "right"] * 6))])
    assert [name for name, _ in found.files] == ["x.csv", "x (2).csv", "x (2) (2).csv"]
    assert found.headers == ("text", "label (x)", "label (x (2))", "label (x (2) (2))")


def test_combining_files_that_differ_in_their_ending_only_keep_their_tasks_apart() -> None:
    found = combine([("x.csv", table(text=TEXTS, label=TOPICS)), ("x.tsv", table(text=TEXTS, label=MOODS))])
    assert found.headers == ("text", "label (x.csv)", "label (x.tsv)")


def test_combining_a_new_name_never_takes_another_columns_place() -> None:
    first = {"text": TEXTS, "label": TOPICS, "label (a)": ["x", "y"] * 6}
    found = combine([("a.csv", Table(first)), ("b.csv", table(text=TEXTS, label=MOODS))])
    columns = [cells[:12] for cells in found.columns.values()]
    assert TOPICS in columns and ["x", "y"] * 6 in columns


def test_combining_notes_say_which_file_they_are_about(tmp_path: Path) -> None:
    files = filed(tmp_path, a="text,label\none two three,a\n", b="text,label,\nfour five six,b,\n")
    assert read_files(files).notes == ('b.csv: Column 3 has no name; here it is called "column 3".',)


# ------------------------------------------------------------------------------------------------------ from disk


def test_combining_no_file_is_refused() -> None:
    with pytest.raises(DataError, match="Choose a CSV file first"):
        read_files([])


def test_combining_an_error_names_its_file_where_there_are_several(tmp_path: Path) -> None:
    files = filed(tmp_path, good="text,label\none,a\n", bad="text,label\none,a\ntwo\n")
    with pytest.raises(DataError, match=r"^bad\.csv: Row 3 has 1 cell"):
        read_files(files)
    with pytest.raises(DataError, match="^Row 3 has 1 cell"):
        read_files(files[1:])


def test_combining_a_limit_stays_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = filed(tmp_path, good="text,label\none,a\n", wide="a,b,c\n1,2,3\n")
    monkeypatch.setenv("MTL_MAX_COLUMNS", "2")
    with pytest.raises(LimitError, match=r"^wide\.csv: The file has 3 columns"):
        read_files(files)


def test_combining_reads_as_the_configuration_says(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("café au lait;a\nthé noir, fort;b\n".encode("cp850"))
    reading = ReadingConfig(encoding="cp850", delimiter=";", header=False)
    found = read_configured([(path, "a.csv")], DataConfig(reading=reading))
    assert found.columns == {"column 1": ["café au lait", "thé noir, fort"], "column 2": ["a", "b"]}


# ------------------------------------------------------------------------------------------------------ properties


@given(st.lists(labelled_tables(), min_size=2, max_size=2), st.sampled_from([None, True, False]))
@EVERY
def test_combining_loses_no_row_and_changes_no_cell(tables: list[Table], separate: bool | None) -> None:
    named = [(f"{'ab'[number % 2]}.csv", one) for number, one in enumerate(tables)]
    found = combine(named, text=["text"], separate_tasks=separate)
    assert len(found) == sum(map(len, tables))
    assert {len(cells) for cells in found.columns.values()} == {len(found)}
    start = 0
    for one in tables:
        kept = [cells[start : start + len(one)] for cells in found.columns.values()]
        assert found.column("text")[start : start + len(one)] == one.columns["text"]
        assert all(cells in kept for cells in one.columns.values())
        start += len(one)
