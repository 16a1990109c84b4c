from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mtl
from mtl.config import RunConfig, TaskConfig, task_specs
from mtl.config_text import override
from mtl.data.batching import Encoding
from mtl.data.reading import read_table
from mtl.errors import CheckpointError, UserError
from mtl.inference import neighbours
from mtl.inference import predictor as predictor_module
from mtl.inference.predictor import Predictor
from mtl.modeling.heads import EntityPrediction
from mtl.modeling.multitask import build_model
from mtl.runs.store import Run, RunStore
from mtl.runs.worker import StopRequest, work
from tests.inference import entity_cases

TEXTS = ["snow", "the team was great today", "the soup was awful and the people were not happy with it", "", "été 🎈"]


def test_predictor_is_the_public_name(finished_run: Run) -> None:
    assert mtl.Predictor is Predictor
    answers = mtl.Predictor.load(str(finished_run.path)).predict(["The striker scored twice."])
    assert set(answers[0]) == {"topic", "mood"}


def test_predictor_embeds_as_the_encoder_does(predictor: Predictor) -> None:
    expected = predictor.model.encoder.encode(TEXTS)
    found = predictor.embed(TEXTS)
    assert found.shape == (len(TEXTS), predictor.embedding_size) == (5, 16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("temperature", [None, 2.5], ids=["its own temperature", "another one"])
def test_predictor_answers_as_the_heads_do(predictor: Predictor, temperature: float | None) -> None:
    if temperature:
        model = copy.deepcopy(predictor.model)
        for task in model.tasks:
            model.head(task.key).temperature.fill_(temperature)
        predictor = Predictor(model, predictor.config, predictor.manifest)
    model, embeddings = predictor.model, torch.tensor(predictor.embed(TEXTS))
    answers = predictor.predict(TEXTS)
    for task in predictor.tasks:
        head = model.head(task.key)
        probabilities = (head({"sentence_embedding": embeddings}) / head.temperature).softmax(-1).tolist()
        for answer, row in zip(answers, probabilities, strict=True):
            found = answer[task.name]
            assert list(found.probabilities) == list(task.labels)
            assert list(found.probabilities.values()) == pytest.approx(row, abs=1e-6)
            assert found.label == task.labels[row.index(max(row))]
            assert found.confidence == max(found.probabilities.values())
            assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_predictor_finds_entities_as_each_head_does_in_each_text(tagger: Predictor) -> None:
    model, texts = tagger.model, entity_cases.TEXTS
    answers = tagger.predict(texts, ["names", "places"])
    found = 0
    for text, answer in zip(texts, answers, strict=True):
        tokens = model.encoder.tokenizer([text], return_offsets_mapping=True, return_tensors="pt")
        offsets = tuple((int(start), int(end)) for start, end in tokens.pop("offset_mapping")[0])
        with torch.inference_mode():
            logits = model.answer(model.encode(dict(tokens)))
        for name in ("names", "places"):
            (expected,) = model.head(name).decode(logits[name], Encoding((text,), (offsets,)))
            guess = answer[name]
            assert isinstance(guess, EntityPrediction)
            assert isinstance(expected, EntityPrediction)
            assert [(e.start, e.end, e.label) for e in guess.entities] == [
                (e.start, e.end, e.label) for e in expected.entities
            ]
            assert [e.confidence for e in guess.entities] == pytest.approx(
                [e.confidence for e in expected.entities], abs=1e-5
            )
            found += len(guess.entities)
    assert found > 20, "the premise needs entities to compare"


def test_predictor_finds_the_same_entities_in_any_company_and_order(
    tagger: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = entity_cases.TEXTS
    spans = [_spans(answer) for answer in tagger.predict(texts)]
    assert [_spans(answer) for answer in tagger.predict(texts[::-1])] == spans[::-1]
    assert [_spans(tagger.predict([text])[0]) for text in texts] == spans
    monkeypatch.setattr(predictor_module, "CHUNK", 2)
    assert [_spans(answer) for answer in tagger.predict(texts)] == spans


def _spans(answer: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(e.start, e.end, e.label) for e in answer["names"].entities]


def test_predictor_counts_characters_of_the_text_as_it_is_given(tagger: Predictor) -> None:
    plain, moved = tagger.predict(["the team met Anna in Rome", " \n\tthe team  met Anna in\nRome "], ["names"])
    assert [(e.start - 3 - (e.start > 10), e.label) for e in moved["names"].entities] == [
        (e.start, e.label) for e in plain["names"].entities
    ]


def test_predictor_makes_one_encoder_pass_for_vectors_and_all_tasks(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    encode = predictor._fast.encode

    def counted(features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        passes.append(len(features["input_ids"]))
        return encode(features)

    monkeypatch.setattr(predictor._fast, "encode", counted)
    vectors, answers = predictor.run(TEXTS)
    assert sum(passes) == len(TEXTS) == len(vectors) == len(answers)


def test_predictor_answer_depends_on_its_text_alone(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    together, answers = predictor.run(TEXTS)
    for index, text in enumerate(TEXTS):
        alone, (answer,) = predictor.run([text])
        np.testing.assert_allclose(alone[0], together[index], atol=1e-6)
        assert {task: p.label for task, p in answer.items()} == {task: p.label for task, p in answers[index].items()}
    monkeypatch.setattr(predictor_module, "CHUNK", 2)
    np.testing.assert_allclose(predictor.embed(TEXTS), together, atol=1e-6)
    assert [a["topic"].label for a in predictor.predict(TEXTS)] == [a["topic"].label for a in answers]


def test_predictor_keeps_the_order_of_the_texts(predictor: Predictor) -> None:
    backwards = predictor.embed(TEXTS[::-1])
    np.testing.assert_allclose(backwards[::-1], predictor.embed(TEXTS), atol=1e-6)


@pytest.mark.parametrize("tasks", [[], ["mood"], ["mood", "topic"], None])
def test_predictor_asks_any_subset_of_heads(predictor: Predictor, tasks: Sequence[str] | None) -> None:
    for answer in predictor.predict(TEXTS[:2], tasks):
        assert set(answer) == set(["topic", "mood"] if tasks is None else tasks)


def test_predictor_says_which_tasks_there_are(predictor: Predictor) -> None:
    with pytest.raises(UserError, match='no task "intent"; it has topic, mood'):
        predictor.predict(["snow"], ["intent", "mood"])


def test_predictor_of_no_texts_is_empty(predictor: Predictor) -> None:
    vectors, answers = predictor.run([])
    assert vectors.shape == (0, 16)
    assert answers == []
    assert predictor.search("snow", []) == []


def test_predictor_similarity_is_the_cosine(predictor: Predictor) -> None:
    left, right = TEXTS[:2], TEXTS[1:4]
    found = predictor.similarity(left, right)
    assert found.shape == (2, 3)
    assert found[1, 0] == pytest.approx(1, abs=1e-6)
    vectors = {text: predictor.embed([text])[0] for text in TEXTS}
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            cosine = vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])
            assert found[i, j] == pytest.approx(cosine, abs=1e-5)


def test_predictor_search_gives_the_nearest_first(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the rain was awful", "the team won", "snow and wind", "soup", "the rain was awful"]
    scores = predictor.similarity(["the rain was awful today"], texts)[0]
    found = predictor.search("the rain was awful today", texts, 4)
    assert [index for index, _ in found] == np.argsort(-scores, kind="stable")[:4].tolist()
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert len(predictor.search("rain", texts, 99)) == 5
    monkeypatch.setattr(neighbours, "BLOCK_CELLS", 2)
    blocks = predictor.search("the rain was awful today", texts, 4)
    assert [score for _, score in blocks] == pytest.approx([score for _, score in found], abs=1e-6)


def test_predictor_answers_several_threads_alike(predictor: Predictor) -> None:
    expected = predictor.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: predictor.embed(TEXTS), range(8)):
            np.testing.assert_array_equal(found, expected)


def test_predictor_scores_the_test_rows_as_the_run_did(predictor: Predictor, finished_run: Run) -> None:
    table, rows = finished_run.table(), finished_run.split().test
    report = finished_run.report()
    assert report is not None
    answers = predictor.predict([table.columns["text"][row] for row in rows])
    for task in ("topic", "mood"):
        pairs = [(answer[task].label, table.columns[task][row]) for answer, row in zip(answers, rows, strict=True)]
        labelled = [guess == truth for guess, truth in pairs if truth]
        assert report["test"][task]["accuracy"] == sum(labelled) / len(labelled)


def test_predictor_of_a_run_without_a_checkpoint_says_so(
    raw_config: RunConfig, tiny_csv_bytes: bytes, tmp_path: Path
) -> None:
    run = RunStore(tmp_path / "runs").create(raw_config, read_table(tiny_csv_bytes))
    with pytest.raises(CheckpointError, match="has no checkpoint: it ended before its first step"):
        Predictor.load(run.path)
    with pytest.raises(CheckpointError, match="There is no run folder"):
        Predictor.load(tmp_path / "nowhere")


def test_predictor_of_a_copied_run_is_the_same(predictor: Predictor, finished_run: Run, tmp_path: Path) -> None:
    copied = Predictor.load(shutil.copytree(finished_run.path, tmp_path / "copy"))
    np.testing.assert_array_equal(copied.embed(TEXTS), predictor.embed(TEXTS))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "attention"])
def test_predictor_serves_every_pooling(tiny_config: RunConfig, pooling: str) -> None:
    config = override(tiny_config, [f"encoder.pooling={pooling}", "encoder.projection=4", "encoder.normalize=false"])
    model = build_model(config, task_specs(config))
    found = Predictor(model, config, {}).embed(TEXTS)
    np.testing.assert_allclose(found, model.encoder.encode(TEXTS), atol=1e-5)
    assert found.shape == (5, 4)


def test_predictor_trained_on_odd_task_names_answers_by_them(
    raw_config: RunConfig, tiny_csv_bytes: bytes, tmp_path: Path
) -> None:
    body = tiny_csv_bytes.split(b"\n", 1)[1].decode().splitlines()
    names = ["type", "a.b", "a/b", "情感"]
    lines = [",".join(["text", *names])]
    for line in body:
        text, topic, mood = line.rsplit(",", 2)
        lines.append(",".join([text, topic, mood, topic, mood]))
    data = "\n".join(lines).encode()
    config = override(raw_config, ["training.epochs=1", "tasks.a.b.head=mlp", "training.freeze=head.a/b"])
    config = config.model_copy(update={"tasks": {name: config.tasks.get(name, TaskConfig()) for name in names}})
    run = RunStore(tmp_path / "runs").create(config, read_table(data))
    assert work(run, StopRequest()).state == "done"
    predictor = Predictor.load(run.path)
    assert [task.name for task in predictor.tasks] == names
    assert list(predictor.predict(["snow"], ["a.b"])[0]) == ["a.b"]
