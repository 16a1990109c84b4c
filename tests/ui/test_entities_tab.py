"""The Entities tab and what else answers with entities, without a browser."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig, TaskConfig
from mtl.config_text import to_yaml
from mtl.errors import DataError, LimitError, UserError
from mtl.inference.predictor import Predictor
from mtl.runs.store import SHIPPED, RunStore
from mtl.ui.context import AppContext
from mtl.ui.tabs import embeddings, entities, predict
from mtl.ui.tabs.classify import TOPIC, classify, head_names
from tests.inference import entity_cases
from tests.inference.entity_cases import NAMES, TYPES, tagging

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def tagger(tiny_config: RunConfig) -> Predictor:
    """A checkpoint with heads of both kinds."""
    return tagging(tiny_config)


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """Make a server without runs of its own."""
    return AppContext(RunStore(tmp_path / "elsewhere", SHIPPED))


@pytest.fixture
def serve(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> Callable[[Predictor], AppContext]:
    """Let a checkpoint answer whatever run is asked for."""

    def serve(predictor: Predictor) -> AppContext:
        monkeypatch.setattr(context, "predictor", lambda name, token="": predictor)
        return context

    return serve


@pytest.fixture
def both(serve: Callable[[Predictor], AppContext], tagger: Predictor) -> AppContext:
    """A server whose checkpoint has heads of both kinds."""
    return serve(tagger)


@pytest.fixture
def alone(serve: Callable[[Predictor], AppContext], tiny_config: RunConfig) -> AppContext:
    """A server whose checkpoint has only heads that find entities."""
    return serve(tagging(tiny_config, classes=False))


# ------------------------------------------------------------------------------------------ finding


def test_entities_stay_where_they_are_in_the_text_as_typed(both: AppContext) -> None:
    box = "  the team met (Anna) in Rome \n\n\tand the rain was great"
    found = entities.find(both, box, "names", "run", "")
    assert [one["text"] for one in found.texts] == ["  the team met (Anna) in Rome ", "\tand the rain was great"]
    assert found.types == TYPES
    count = 0
    for one in found.texts:
        for entity in one["entities"]:
            assert one["text"][entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"] == entity["text"].strip()
            count += 1
    assert count > 3, "the premise needs entities"
    as_list = entities.find(both, [one["text"] for one in found.texts], "names", "run", "")
    assert as_list.texts == found.texts


def test_entities_come_from_the_first_head_that_finds_them_unless_another_is_asked(both: AppContext) -> None:
    assert entities.find(both, "the rain", "", "run", "").types == TYPES
    assert entities.find(both, "the rain", "places", "run", "").types == ("place",)


@pytest.mark.parametrize(
    ("texts", "head", "sentence"),
    [
        ("x", "topic", 'The head "topic" gives a class and finds no entities; ask the Topic or the Sentiment tab'),
        ("x", "weather", 'no task "weather"'),
        ("x", ["names"], "name of one task"),
        (" \n ", "", "Type a text first"),
        (["x", ""], "", "Text 2 is empty"),
        (["x", 3], "", "as a list of texts"),
    ],
)
def test_entities_refuse_in_one_sentence(both: AppContext, texts: Any, head: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        entities.find(both, texts, head, "run", "")


def test_entities_refuse_blanks_beyond_the_limit(both: AppContext) -> None:
    with pytest.raises(LimitError, match=r"Text 2 has 10,001 characters with its blanks"):
        entities.find(both, ["x", " " * 10_000 + "x"], "", "run", "")


def test_entities_of_a_checkpoint_without_such_a_head_say_what_to_do(
    serve: Callable[[Predictor], AppContext], tiny_config: RunConfig
) -> None:
    tagger = tagging(tiny_config)
    tagger.tasks = tagger.tasks[:2]
    with pytest.raises(DataError, match="no head that finds entities. Choose another one, or train one"):
        entities.find(serve(tagger), "x", "", "run", "")


def test_entities_say_which_text_was_too_long_and_where_it_was_cut(both: AppContext) -> None:
    long = "the rain was great " * 40
    found = entities.find(both, ["short", long, long.strip()], "names", "run", "")
    assert found.longest == 64
    assert set(found.unread) == {1, 2}
    at = found.unread[1]
    assert at == len("the rain was great " * 15 + "the rain"), "64 tokens less the two special ones"
    shown = entities.answer_html(found)
    assert shown.count('class="unread"') == 2
    assert "reads 64 tokens; the rest is in italics. Texts: 2, 3." in shown


# ------------------------------------------------------------------------------------------ heads of the other kind


def test_classes_are_not_asked_of_a_head_that_finds_entities(both: AppContext, alone: AppContext) -> None:
    assert alone is both, "the last one serves"
    with pytest.raises(DataError, match='The head "names" finds entities and gives no class; ask the Entities tab'):
        classify(both, "x", "names", "run", "", TOPIC)
    with pytest.raises(DataError, match="no head that gives a class: all of them find entities"):
        classify(both, "x", "", "run", "", TOPIC)


def test_classes_come_from_a_head_of_classes_whatever_the_others_are_called(
    serve: Callable[[Predictor], AppContext], tagger: Predictor
) -> None:
    specs = [spec.model_copy(update={"name": {"topic": "x", "names": "topic"}.get(spec.name, spec.name)})
             for spec in tagger.tasks]  # fmt: skip
    other = Predictor(tagger.model, tagger.config, {})
    other.tasks = tuple(specs)
    answers = classify(serve(other), "the rain was great", "", "run", "", TOPIC)
    assert set(answers[0]) == {"text", "label", "confidence", "probabilities"}
    assert set(answers[0]["probabilities"]) == set(tagger.tasks[0].labels)


def test_embeddings_are_coloured_by_classes_or_by_nothing(alone: AppContext) -> None:
    summary, *_ = embeddings._embed(alone, "the rain\nthe team\nthe soup", "run", "")
    assert "coloured by <b>nothing</b>" in summary


def test_embeddings_are_coloured_by_the_head_of_topics(both: AppContext) -> None:
    assert "coloured by <b>topic</b>" in embeddings._embed(both, "the rain\nthe team", "run", "")[0]


def test_heads_offered_are_those_of_a_kind_with_those_kept_from_before(
    context: AppContext, tiny_config: RunConfig
) -> None:
    folder = context.store.root / "20260101-000000-0000000000000000"
    (folder / "best").mkdir(parents=True)
    kept = tiny_config.model_copy(update={"tasks": {**tiny_config.tasks, "names": NAMES}})
    (folder / "config.yaml").write_text(to_yaml(tiny_config))
    (folder / "best" / "config.yaml").write_text(to_yaml(kept))
    assert head_names(context, folder.name, "", "token_classification") == [], "no checkpoint yet"
    (folder / "best" / "manifest.json").write_text("{}")
    assert head_names(context, folder.name, "", "token_classification") == ["names"]
    assert head_names(context, folder.name, "", "classification") == ["topic", "mood"]
    assert head_names(context, "nowhere", "", "classification") == []
    assert head_names(context, None, "", "classification") == []
    head, go, nothing, box = entities._offer(context, folder.name, "")
    assert (head["choices"], head["value"], go["interactive"]) == (["names"], "names", True)
    assert (nothing["visible"], box["visible"]) == (False, True)
    head, go, nothing, box = entities._offer(context, "nowhere", "")
    assert (head["choices"], head["value"], go["interactive"]) == ([], None, False)
    assert (nothing["visible"], box["visible"]) == (True, False)


# ------------------------------------------------------------------------------------------ every head


def test_predict_gives_entities_of_the_text_as_typed_beside_the_classes(both: AppContext) -> None:
    text = "\n the team met (Anna)\r\nin Rome "
    found = predict.predict(both, text, "run", "")
    assert list(found) == ["topic", "mood", "names", "places"]
    assert set(found["topic"]) == {"label", "confidence", "probabilities"}
    assert set(found["names"]) == {"entities"}
    spans = [entity for name in ("names", "places") for entity in found[name]["entities"]]
    assert spans, "the premise needs entities"
    for entity in spans:
        assert text[entity["start"] : entity["end"]] == entity["text"]


def test_predict_refuses_one_text_that_is_too_long_by_its_lines(both: AppContext) -> None:
    with pytest.raises(LimitError, match="has 11,999 characters"):
        predict.predict(both, "\n".join(["a" * 99] * 120), "run", "")


def test_predict_draws_entities_beside_probabilities(both: AppContext, tagger: Predictor) -> None:
    text = f"the team met\nAnna in Rome {HOSTILE}"
    answers = predict.predict(both, text, "run", "")
    shown = predict.answer_html(text, answers, tagger.tasks)
    assert shown.count('class="answer"') == 4
    assert shown.count('class="probs"') == 2
    assert shown.count('class="quote marked"') == 2
    assert "<img" not in shown
    none = predict.answer_html(text, answers | {"names": {"entities": []}}, tagger.tasks)
    assert "No entity was found." in none


def test_predict_shows_the_entities_of_a_file_in_words(both: AppContext, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([["text"], *([text] for text in entity_cases.TEXTS if text), [HOSTILE]])
    *_, (shown, files) = predict.predict_upload(both, str(file), "run", "")
    assert "<img" not in shown
    assert "&quot;start&quot;" not in shown, "JSON is for the file"
    assert re.search(r"<td>[^<]+ \((LOC|ORG|PER)\)", shown)
    exact = [json.loads(line) for line in Path(files["value"][1]).read_text(encoding="utf-8").splitlines()]
    assert all(isinstance(json.loads(row["names_predicted"]), list) for row in exact)


# ------------------------------------------------------------------------------------------ drawing


def test_answer_numbers_the_texts_and_shows_at_most_so_many() -> None:
    one = {"text": "Anna", "entities": [{"start": 0, "end": 4, "label": "PER", "text": "Anna", "confidence": 0.987}]}
    found = entities.Found([one] * 250, ("PER",), {}, 64)
    shown = entities.answer_html(found)
    assert shown.count("<li dir") == entities.SHOWN_TEXTS
    assert "The first 100 of 250 texts are shown" in shown
    rows = list(entities.rows_of(found))
    assert rows[-1] == [250, "Anna", "PER", 0, 4, 0.987, "Anna"]
    table = entities.list_html(rows)
    assert table.count("<tr>") == 1 + entities.SHOWN_ENTITIES
    assert "The first 200 of 250 entities; the files have all" in table
    assert "98.7%" in table


def test_answer_without_any_entity_says_so_and_offers_no_file(
    both: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = entities.Found([{"text": HOSTILE, "entities": []}], ("PER",), {}, 64)
    monkeypatch.setattr(entities, "find", lambda *arguments: found)
    shown, files, listed = entities._answer(both, "x", None, "run", "")
    assert "The head found no entity." in shown
    assert "<img" not in shown
    assert (files["visible"], listed) == (False, "")


def test_files_are_safe_for_spreadsheets_with_an_exact_twin(both: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    entity = {"start": 0, "end": 4, "label": "@PER", "text": "=A()", "confidence": 0.98764}
    found = entities.Found([{"text": "=A()!", "entities": [entity]}], ("@PER",), {}, 64)
    monkeypatch.setattr(entities, "find", lambda *arguments: found)
    _, files, _ = entities._answer(both, "x", None, "run", "")
    safe, exact = map(Path, files["value"])
    rows = list(csv.reader(safe.read_text(encoding="utf-8").splitlines()))
    assert rows == [entities.HEADER, ["1", "'=A()", "'@PER", "0", "4", "0.9876", "'=A()!"]]
    values = json.loads(exact.read_text(encoding="utf-8"))
    assert values == dict(zip(entities.HEADER, [1, "=A()", "@PER", 0, 4, 0.9876, "=A()!"], strict=True))


def test_task_without_a_kind_gives_a_class(context: AppContext, tiny_config: RunConfig) -> None:
    folder = context.store.root / "20260101-000000-0000000000000000"
    folder.mkdir(parents=True)
    config = tiny_config.model_copy(update={"tasks": {"old": TaskConfig(labels=("a", "b"))}})
    (folder / "config.yaml").write_text(to_yaml(config))
    assert head_names(context, folder.name, "", "classification") == ["old"]
