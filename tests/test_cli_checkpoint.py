"""The command line and a checkpoint: evaluate, predict, embed, export."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from mtl.data.reading import is_missing, read_file, read_table
from mtl.inference import table as table_module
from mtl.inference.predictor import Predictor
from mtl.runs.store import Run
from tests.conftest import Cli


@pytest.fixture(scope="module")
def predictor(finished_run: Run) -> Predictor:
    return Predictor.load(finished_run.path)


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


# ------------------------------------------------------------------------------------------ evaluate


def test_cli_evaluate_scores_every_labelled_row(
    cli: Cli, finished_run: Run, predictor: Predictor, tiny_csv: Path
) -> None:
    result = cli("evaluate", "--checkpoint", finished_run.path, "--data", tiny_csv)
    assert result.code == 0, result.err
    table = read_table(tiny_csv.read_bytes())
    answers = predictor.predict(table.columns["text"])
    assert set(result.json) == {"topic", "mood"}
    for task, scores in result.json.items():
        pairs = [(a[task].label, cell) for a, cell in zip(answers, table.columns[task], strict=True) if cell]
        assert scores["accuracy"] == pytest.approx(sum(guess == truth for guess, truth in pairs) / len(pairs))
        assert set(scores) == {"accuracy", "macro_f1", "weighted_f1", "macro_recall"}


def test_cli_evaluate_takes_a_file_with_some_of_the_tasks(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("text,mood\nthe rain was great,good\n,bad\nthe soup was awful,\n")
    result = cli("evaluate", "--checkpoint", finished_run.path, "--data", tmp_path / "some.csv")
    assert list(result.json) == ["mood"]
    assert result.json["mood"]["accuracy"] in {0.0, 1.0}, "one row has both a text and a label"


# ------------------------------------------------------------------------------------------ predict


def test_cli_predict_texts(cli: Cli, finished_run: Run, predictor: Predictor) -> None:
    texts = ["snow and rain", "the team was great"]
    result = cli("predict", "--checkpoint", finished_run.path, "--text", texts[0], "--text", texts[1])
    assert result.code == 0
    assert len(result.out.splitlines()) == 1
    for found, answer in zip(result.json["predictions"], predictor.predict(texts), strict=True):
        assert found == {t: {"label": p.label, "confidence": round(p.confidence, 4)} for t, p in answer.items()}
    assert all(text in result.err for text in texts)


def test_cli_predict_a_file_keeps_its_columns(
    cli: Cli, finished_run: Run, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "CHUNK", 2)
    (tmp_path / "in.csv").write_text('id,text\n01,"rain, again"\nNA,\n=3,Größe 情感\n', encoding="utf-8")
    output = tmp_path / "out.csv"
    result = cli("predict", "--checkpoint", finished_run.path, "--input", tmp_path / "in.csv", "--output", output)
    assert result.code == 0, result.err
    assert result.json == {"output": output.as_posix(), "exact": (tmp_path / "out.jsonl").as_posix()}
    rows, exact = read_csv(output), read_lines(tmp_path / "out.jsonl")
    header = ["id", "text", "topic_predicted", "topic_confidence", "mood_predicted", "mood_confidence"]
    assert list(rows[0]) == list(exact[0]) == header
    assert [(row["id"], row["text"]) for row in rows] == [("01", "rain, again"), ("NA", ""), ("'=3", "Größe 情感")]
    assert [(row["id"], row["text"]) for row in exact] == [("01", "rain, again"), ("NA", ""), ("=3", "Größe 情感")]
    assert (rows[1]["topic_predicted"], exact[1]["topic_predicted"]) == ("", None)
    (answer,) = predictor.predict(["rain, again"])
    assert rows[0]["mood_predicted"] == exact[0]["mood_predicted"] == answer["mood"].label
    assert exact[0]["mood_confidence"] == pytest.approx(answer["mood"].confidence, abs=1e-4)
    assert float(rows[0]["mood_confidence"]) == exact[0]["mood_confidence"]


def test_cli_predict_a_file_exactly_alone(cli: Cli, finished_run: Run, workplace: Path) -> None:
    (workplace / "in.csv").write_bytes("text;id\nhello rain;1\n;2\n".encode("utf-16"))
    result = cli("predict", "--checkpoint", finished_run.path, "--input", "in.csv", "--output", "out.jsonl")
    assert result.json == {"output": "out.jsonl", "exact": "out.jsonl"}
    assert [row["id"] for row in read_lines(workplace / "out.jsonl")] == ["1", "2"]
    assert {path.name for path in workplace.iterdir()} - {"cache"} == {"in.csv", "out.jsonl"}


def test_cli_predict_its_own_predictions_again(cli: Cli, finished_run: Run, workplace: Path) -> None:
    (workplace / "in.csv").write_text("text;id\n" + "the team won;1\n ;2\n" * 22)
    for source, output in [("in.csv", "once.csv"), ("once.csv", "twice.csv")]:
        result = cli("predict", "--checkpoint", finished_run.path, "--input", source, "--output", output)
        assert result.code == 0, result.err
    table = read_file(workplace / "twice.csv")
    assert len(table) == 44
    assert table.headers[-8:-4] == ("topic_predicted", "topic_confidence", "mood_predicted", "mood_confidence")
    assert table.headers[-4:] == tuple(f"{name} (2)" for name in table.headers[-8:-4])
    assert table.columns["mood_predicted"] == table.columns["mood_predicted (2)"]
    blank = [is_missing(text) for text in table.columns["text"]]
    assert [is_missing(label) for label in table.columns["topic_predicted"]] == blank


# ------------------------------------------------------------------------------------------ embed


def test_cli_embed_texts_prints_shape_and_first_values(cli: Cli, finished_run: Run, predictor: Predictor) -> None:
    result = cli("embed", "--checkpoint", finished_run.path, "--text", "snow", "--text", "rain")
    assert result.json["shape"] == [2, 16]
    np.testing.assert_allclose(result.json["first_values"], predictor.embed(["snow", "rain"])[:, :8], atol=1e-4)


def test_cli_embed_a_file_writes_a_row_per_row(
    cli: Cli, finished_run: Run, predictor: Predictor, tiny_csv: Path, tmp_path: Path
) -> None:
    output = tmp_path / "vectors.npy"
    result = cli("embed", "--checkpoint", finished_run.path, "--input", tiny_csv, "--output", output)
    assert result.json == {"output": output.as_posix(), "shape": [60, 16]}
    vectors = np.load(output, allow_pickle=False)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, predictor.embed(read_table(tiny_csv.read_bytes()).columns["text"]))


# ------------------------------------------------------------------------------------------ export


def test_cli_export_opens_with_sentence_transformers(
    cli: Cli, finished_run: Run, predictor: Predictor, tmp_path: Path
) -> None:
    output = tmp_path / "bundle.zip"
    result = cli("export", "--checkpoint", finished_run.path, "--output", output)
    assert result.code == 0
    assert (result.json["output"], result.json["bytes"]) == (output.as_posix(), output.stat().st_size)
    assert any("no notion of task heads" in note for note in result.json["notes"])
    with zipfile.ZipFile(output) as archive:
        archive.extractall(tmp_path / "unpacked")
    encoder = SentenceTransformer(str(tmp_path / "unpacked" / finished_run.name), device="cpu")
    texts = ["snow", "the team was great today"]
    np.testing.assert_allclose(encoder.encode(texts), predictor.embed(texts), atol=1e-6)
