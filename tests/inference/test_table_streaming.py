"""Predictions for a file of any size: chunk by chunk, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl.data.reading import read_table
from mtl.errors import DataError, LimitError, UserError
from mtl.inference import table as table_module
from mtl.inference.predictor import Predictor
from mtl.inference.table import embed_file, predict_file
from mtl.settings import settings as limits

MANY = "text,label\n" + "".join(f"the team was {n},{n % 2}\n" for n in range(6_000))
Predict = Callable[..., Any]


@pytest.mark.parametrize(
    ("rows", "progress"),
    [(1, [(1, 1)]), (4, [(4, 4)]), (5, [(4, 5), (5, 5)]), (8, [(4, 8), (8, 8)]), (10, [(4, 10), (8, 10), (10, 10)])],
)
def test_table_progress_ends_with_all_rows(
    predict: Predict, monkeypatch: pytest.MonkeyPatch, rows: int, progress: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(table_module, "CHUNK", 4)
    found = predict("text,id\n" + "".join(f"the team was {n},{n}\n" for n in range(rows)))
    assert found.progress == progress
    assert [row[1] for row in found.exact] == [str(n) for n in range(rows)]


@pytest.mark.parametrize("chunk", [1, 3, 7, 1024])
def test_table_chunks_change_no_answer(
    predict: Predict, predictor: Predictor, tiny_csv_bytes: bytes, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    whole = predict(tiny_csv_bytes)
    sizes: list[int] = []
    of_texts = predictor.predict

    def counted(texts: Sequence[str]) -> list[dict[str, Any]]:
        sizes.append(len(texts))
        return of_texts(texts)

    monkeypatch.setattr(predictor, "predict", counted)
    monkeypatch.setattr(table_module, "CHUNK", chunk)
    found = predict(tiny_csv_bytes)
    for row, expected in zip(found.exact, whole.exact, strict=True):
        assert row == [pytest.approx(cell, abs=1e-4) if isinstance(cell, float) else cell for cell in expected]
    assert max(sizes) == min(chunk, 60), "no more rows in memory than this"


def test_table_gives_the_first_rows_to_look_at(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "CHUNK", 8)
    found = predict("text,id\n" + "".join(f"the team was {n},{n}\n" for n in range(50)))
    assert found.shown == [found.header, *found.exact[:20]]


BROKEN: dict[str, tuple[bytes, dict[str, int], type[UserError], str]] = {
    "a cell too many": (MANY.replace("4998,0", "4998,0,1").encode(), {}, DataError, "Row 5000 has 3 cells"),
    "an open quote": (
        MANY.replace("the team was 4998", '"the team').encode(),
        {},
        DataError,
        "row 5000 is never closed",
    ),
    "another encoding": (MANY.encode() + "été,1\n".encode() + b"\xe9t\xe9,1\n", {}, DataError, "line 6003 holds"),
    "a NUL": (MANY.replace("4998", "\0").encode(), {}, DataError, "Line 5000 holds a NUL"),
    "a long cell": (MANY.replace("4998", "x" * 999).encode(), {"max_cell_characters": 99}, LimitError, "Row 5000 has"),
    "too many rows": (MANY.encode(), {"max_rows": 5_999}, LimitError, "more than 5,999 rows"),
    "too large": (MANY.encode(), {"max_bytes": 50_000}, LimitError, "at most 0.1 MB"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_table_says_what_is_wrong_far_down_before_anything_is_done(
    predict: Predict, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data, tighter, error, sentence = BROKEN[name]
    monkeypatch.setattr(predictor, "predict", lambda texts: pytest.fail("something was predicted"))
    for limit, value in tighter.items():
        monkeypatch.setenv(f"MTL_{limit.upper()}", str(value))
    limits.cache_clear()
    with pytest.raises(error, match=sentence):
        predict(data)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_table_predicts_nothing_where_the_output_cannot_be_written(
    predictor: Predictor, tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "predict", lambda texts: pytest.fail("something was predicted"))
    for output in (tmp_path / "no" / "where.csv", tmp_path):
        with pytest.raises(DataError, match=f"{output} cannot be written"):
            next(predict_file(predictor, tiny_csv, output))


@pytest.mark.parametrize("output", ["tiny.csv", "sub/../tiny.csv", "tiny.jsonl"])
def test_table_does_not_write_over_its_source(
    predictor: Predictor, tiny_csv: Path, tmp_path: Path, output: str
) -> None:
    (tmp_path / "sub").mkdir()
    source = tiny_csv.rename(tmp_path / "tiny.jsonl") if output.endswith("jsonl") else tiny_csv
    before = source.read_bytes()
    with pytest.raises(DataError, match="would take the place of"):
        next(predict_file(predictor, source, tmp_path / output))
    assert source.read_bytes() == before


def test_table_source_that_is_missing_is_one_clear_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv cannot be read: no such file"):
        next(predict_file(predictor, tmp_path / "nowhere.csv", tmp_path / "out.csv"))


def test_table_is_not_there_before_its_last_row_nor_after_an_error(
    predictor: Predictor, tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "CHUNK", 25)
    output = tmp_path / "out.csv"
    left = predict_file(predictor, tiny_csv, output)
    assert next(left) == (25, 60)
    assert not list(tmp_path.glob("out*"))
    left.close()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.csv"]

    output.write_text("old")
    calls = iter(range(3))
    of_texts = predictor.predict

    def fail_in_the_end(texts: Sequence[str]) -> list[dict[str, Any]]:
        if next(calls) == 2:
            raise RuntimeError("in the middle")
        return of_texts(texts)

    monkeypatch.setattr(predictor, "predict", fail_in_the_end)
    with pytest.raises(RuntimeError, match="in the middle"):
        list(predict_file(predictor, tiny_csv, output))
    assert {path.name: path.read_text() for path in tmp_path.glob("out*")} == {"out.csv": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "tiny.csv"]


def test_table_twin_alone_where_the_name_says_so(predictor: Predictor, tiny_csv: Path, tmp_path: Path) -> None:
    list(predict_file(predictor, tiny_csv, tmp_path / "both.csv"))
    list(predict_file(predictor, tiny_csv, tmp_path / "alone.jsonl"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.jsonl", "both.csv", "both.jsonl", "tiny.csv"]
    assert (tmp_path / "alone.jsonl").read_bytes() == (tmp_path / "both.jsonl").read_bytes()


def test_table_embeddings_are_those_of_the_texts_row_for_row(
    predictor: Predictor, tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "CHUNK", 7)
    texts = read_table(tiny_csv.read_bytes()).columns["text"]
    output = tmp_path / "vectors.npy"
    steps = embed_file(predictor, tiny_csv, output)
    seen = [next(steps)]
    assert not output.exists(), "before the last row there is nothing"
    seen += list(steps)
    assert seen[-1] == (60, 60) and len(seen) == 9
    found = np.load(output)
    assert (found.shape, found.dtype) == ((60, predictor.embedding_size), np.float32)
    np.testing.assert_allclose(found, predictor.embed(texts), atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.csv", "vectors.npy"]


@pytest.mark.parametrize("output", ["nowhere/vectors.npy", "tiny.csv"])
def test_table_embeddings_that_cannot_be_written_are_one_clear_error(
    predictor: Predictor, tiny_csv: Path, tmp_path: Path, output: str
) -> None:
    before = tiny_csv.read_bytes()
    with pytest.raises(DataError, match=r"cannot be written|is the file that is read"):
        list(embed_file(predictor, tiny_csv, tmp_path / output))
    assert tiny_csv.read_bytes() == before
