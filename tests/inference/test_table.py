"""Predictions for a file: its columns, its rows, its texts."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mtl.data.entities import Span, read_entities
from mtl.data.reading import Options, read_table
from mtl.errors import DataError
from mtl.inference.predictor import Predictor
from mtl.inference.table import predicted_header, text_columns, texts_of
from tests.inference import entity_cases

TASKS = ["topic", "mood"]
ADDED = ["topic_predicted", "topic_confidence", "mood_predicted", "mood_confidence"]
Predict = Callable[..., Any]


@pytest.fixture
def with_texts_in(predictor: Predictor) -> Callable[..., Predictor]:
    """Make the tiny checkpoint one that was trained on texts in other columns."""

    def with_texts_in(*names: str) -> Predictor:
        data = predictor.config.data.model_copy(update={"text_column": names})
        return Predictor(predictor.model, predictor.config.model_copy(update={"data": data}), {})

    return with_texts_in


def answered(predictor: Predictor, texts: Sequence[str]) -> list[list[Any]]:
    """Return what the added columns should hold."""
    return [
        [cell for task in TASKS for cell in (answer[task].label, pytest.approx(answer[task].confidence, abs=1e-4))]
        for answer in predictor.predict(texts)
    ]


# ------------------------------------------------------------------------------------------ rows and columns


def test_table_predictions_keep_columns_and_rows_in_order(predict: Predict, predictor: Predictor) -> None:
    found = predict(
        'id,text,topic\n07,"the rain, again",weather\nNA,  ,\n9,the team won,\n07,"the rain, again",weather\n'
    )
    assert found.header == ["id", "text", "topic", *ADDED]
    assert [row[:3] for row in found.exact] == [
        ["07", "the rain, again", "weather"],
        ["NA", "  ", ""],
        ["9", "the team won", ""],
        ["07", "the rain, again", "weather"],
    ]
    assert found.exact[1][3:] == [None] * 4, "no text, no prediction"
    assert found.safe[1][3:] == [""] * 4
    first, third = answered(predictor, ["the rain, again", "the team won"])
    assert [found.exact[n][3:] for n in (0, 2, 3)] == [first, third, first]


ROWS = [("the rain was great", "1"), ("die Suppe war groß; und gut", "2"), ("", "3"), ("a 'quoted' \"word\"", "4")]


def joined(delimiter: str, quote: str, *, header: bool) -> str:
    rows = [("text", "id")] * header + ROWS * 6
    cells = [[f"{quote}{cell.replace(quote, quote * 2)}{quote}" for cell in row] for row in rows]
    return "".join(delimiter.join(row) + "\n" for row in cells)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (joined(";", '"', header=True).encode(), {}),
        (joined(";", "'", header=True).encode("utf-8-sig"), {}),
        (joined("\t", '"', header=True).encode("utf-16"), {}),
        (joined(",", '"', header=True).encode("cp1252"), {}),
        (joined(",", '"', header=True).encode("cp850"), {"encoding": "cp850"}),
        (joined("|", '"', header=True).replace("\n", "\r").encode(), {}),
        (joined(",", '"', header=True).replace("\n", "\r\n\r\n").encode(), {}),
    ],
    ids=["semicolon", "single quotes", "UTF-16 tabs", "cp1252", "chosen encoding", "bars, bare CR", "blank lines"],
)
def test_table_predictions_of_any_file_are_the_same(
    predict: Predict, predictor: Predictor, data: bytes, options: Options
) -> None:
    found = predict(data, **options)
    assert found.header == ["text", "id", *ADDED]
    assert [tuple(row[:2]) for row in found.exact] == ROWS * 6
    texts = [text for text, _ in ROWS if text]
    expected = dict(zip(texts, answered(predictor, texts), strict=True))
    assert [row[2:] for row in found.exact] == [expected.get(text, [None] * 4) for text, _ in ROWS * 6]


def test_table_predictions_of_a_file_without_a_header_name_its_columns(predict: Predict, predictor: Predictor) -> None:
    found = predict(joined(",", '"', header=False))
    assert found.header == ["column 1", "column 2", *ADDED]
    assert [tuple(row[:2]) for row in found.exact] == ROWS * 6, "the first row is one too"
    assert [found.exact[0][2:]] == answered(predictor, [ROWS[0][0]])


def test_table_predictions_take_what_a_person_says_of_the_file(predict: Predict) -> None:
    data = "the rain was great;1\nthe team won;2\n"
    assert predict(data, header=True).header == ["the rain was great", "1", *ADDED]
    assert len(predict(data, header=False).exact) == 2
    assert predict(data, header=False, delimiter=",").header == ["column 1", *ADDED]


def test_table_predictions_do_not_take_the_name_of_a_column_that_is_there(predict: Predict) -> None:
    found = predict("text,topic_predicted,mood_confidence,mood_confidence (2)\nthe rain was great,mine,high,low\n")
    assert found.header == [
        "text",
        "topic_predicted",
        "mood_confidence",
        "mood_confidence (2)",
        "topic_predicted (2)",
        "topic_confidence",
        "mood_predicted",
        "mood_confidence (3)",
    ]
    assert found.exact[0][1:4] == ["mine", "high", "low"]


def test_table_predicted_header_tells_tasks_apart_that_are_named_alike() -> None:
    header = predicted_header(["text"], ["a", "a_predicted", "a_predicted_confidence"])
    assert len(set(header)) == len(header) == 7
    assert header[:3] == ["text", "a_predicted", "a_confidence"]


def test_table_predictions_are_safe_for_spreadsheets_with_an_exact_twin(predict: Predict) -> None:
    found = predict('text,=id\n"=cmd|\' /C calc\'!A0",@1\n" +1 team",-5\n')
    assert found.header[:2] == ["text", "=id"]
    assert [row[:2] for row in found.exact] == [["=cmd|' /C calc'!A0", "@1"], [" +1 team", "-5"]]
    assert [row[:2] for row in found.safe] == [["'=cmd|' /C calc'!A0", "'@1"], ["' +1 team", "-5"]]


def test_table_predictions_hold_entities_that_can_be_read_again(predict: Predict, tagger: Predictor) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(
        [["text"], *([text] for text in entity_cases.TEXTS if text), ["=the team of Rome"], [" "]]
    )
    found = predict(buffer.getvalue(), predictor=tagger, delimiter=",", quote='"', header=True)
    assert found.header[-4:] == ["names_predicted", "names_confidence", "places_predicted", "places_confidence"]
    *rows, empty = found.exact
    assert empty[1:] == [None] * 8
    texts = [row[0] for row in rows]
    assert "=the team of Rome" in texts
    for row, answer in zip(rows, tagger.predict(texts), strict=True):
        for name in ("names", "places"):
            cell, confidence = (row[found.header.index(f"{name}_{what}")] for what in ("predicted", "confidence"))
            entities = answer[name].entities
            assert read_entities(row[0], cell) == tuple(Span(e.start, e.end, e.label) for e in entities)
            mean = sum(e.confidence for e in entities) / len(entities) if entities else None
            assert confidence == (None if mean is None else pytest.approx(mean, abs=1e-3))
    assert any(row[-2] != "[]" for row in rows), "the premise needs entities"


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_table_predictions_of_any_cells_have_a_row_for_each_row(
    predict_in: Predict, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("text", "other"), *rows])
    found = predict_in(tmp_path_factory.mktemp("any"), text.getvalue(), delimiter=",", quote='"', header=True)
    assert [tuple(row[:2]) for row in found.exact] == rows
    assert [row[2] is None for row in found.exact] == [not cell.strip() for cell, _ in rows]


# ------------------------------------------------------------------------------------------ which texts


def test_table_texts_are_those_the_checkpoint_was_trained_on(predict: Predict, predictor: Predictor) -> None:
    found = predict("a long description of it,text\nthe people were happy with the soup all day,snow\n")
    assert [found.exact[0][2:]] == answered(predictor, ["snow"])
    found = predict("id,review\n7,the people were happy with the soup\n")
    assert [found.exact[0][2:]] == answered(predictor, ["the people were happy with the soup"])


def test_table_texts_of_several_columns_are_joined_as_in_training(
    predict: Predict, with_texts_in: Callable[..., Predictor]
) -> None:
    trained = with_texts_in("title", "body")
    data = "body,id,title\n the team won ,1,today\n,2, snow \nrain,3,  \n  ,4,\n"
    found = predict(data, predictor=trained)
    assert [row[:3] for row in found.exact][1] == ["", "2", " snow "], "the columns stay as they are"
    assert [row[3:] for row in found.exact[:3]] == answered(trained, ["today the team won", "snow", "rain"])
    assert found.exact[3][3:] == [None] * 4
    assert texts_of(trained, read_table(data.encode())) == ["today the team won", "snow", "rain", ""]


def test_table_texts_are_guessed_where_one_of_the_columns_is_missing(with_texts_in: Callable[..., Predictor]) -> None:
    table = read_table(b"id,title,review\n7,snow,the people were happy with the soup\n")
    assert text_columns(with_texts_in("title", "body"), table) == ("review",)
    assert text_columns(with_texts_in("review", "title"), table) == ("review", "title")


def test_table_without_texts_is_one_clear_error(predict: Predict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No column looks like sentences"):
        predict("id,price\n1,2.5\n2,3.5\n")
    assert [path.name for path in tmp_path.glob("out*")] == []
