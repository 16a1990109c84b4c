from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from mtl.choices import SCORES
from mtl.data.entities import Span
from mtl.data.splitting import Examples
from mtl.modeling.heads import EntityPrediction
from mtl.reports import baselines
from mtl.reports.baselines import Baseline, class_baselines, dictionary, entity_baselines, look_up
from mtl.tasks import TaskKind, TaskSpec
from mtl.training.metrics import class_scores

LABELS = ("food", "sports", "weather")
WORDS = {"food": "soup bread sauce", "sports": "goal league team", "weather": "rain storm fog"}


def task(kind: TaskKind = "classification", labels: tuple[str, ...] = LABELS) -> TaskSpec:
    return TaskSpec(name="topic", key="topic", kind=kind, labels=labels)


def examples(texts: list[str], cells: list[str]) -> Examples:
    return Examples(tuple(texts), {"topic": tuple(cells)}, tuple(range(len(texts))))


def rows(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts in which one word of three gives the class away."""
    generator = np.random.default_rng(seed)
    cells = [LABELS[i] for i in generator.choice(3, count, p=[0.5, 0.3, 0.2])]
    words = [generator.choice(WORDS[cell].split()) for cell in cells]
    return [f"{generator.choice(['the', 'a', 'some'])} {word} of the day" for word in words], cells


def indices(cells: list[str]) -> np.ndarray:
    return np.array([LABELS.index(cell) for cell in cells])


def predictions(*found: tuple[tuple[int, int, str], ...]) -> list[tuple[tuple[int, int, str], ...]]:
    return list(found)


def where(answers: list[EntityPrediction]) -> list[tuple[tuple[int, int, str], ...]]:
    return [tuple((e.start, e.end, e.label) for e in answer.entities) for answer in answers]


# ------------------------------------------------------------------------------------------ classes of texts


def test_baselines_majority_is_scikit_learns_dummy() -> None:
    texts, cells = rows(60)
    test_texts, test_cells = rows(40, seed=1)
    truth = indices(test_cells)
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((60, 1)), indices(cells))
    found = class_baselines(task(), examples(texts, cells), texts=test_texts, truth=truth)["majority"]
    assert found == Baseline(class_scores(truth, dummy.predict(np.zeros((40, 1)))))


def test_baselines_tfidf_learns_words_and_gives_every_score() -> None:
    texts, cells = rows(120)
    test_texts, test_cells = rows(40, seed=1)
    found = class_baselines(task(), examples(texts, cells), texts=test_texts, truth=indices(test_cells))
    assert found["tfidf"] == Baseline(dict.fromkeys(SCORES["classification"], 1.0))
    assert found["majority"].scores["macro_f1"] < 0.4


def test_baselines_tfidf_reads_pairs_of_words() -> None:
    """Two texts of the same words in another order."""
    train = examples(["not good but bad", "good but not bad"] * 10, ["food", "sports"] * 10)
    found = class_baselines(task(), train, texts=["well, not good", "so, not bad"], truth=np.array([0, 1]))
    assert found["tfidf"].scores["accuracy"] == 1.0


def test_baselines_tfidf_reads_scripts_without_blanks() -> None:
    texts = ["今天下雨很大", "明天也会下雨", "他们进球赢了", "球队今天进球"]
    train = examples(texts * 3, ["weather", "weather", "sports", "sports"] * 3)
    found = class_baselines(task(), train, texts=["昨天下雨", "谁会进球"], truth=np.array([2, 1]))
    assert found["tfidf"].scores["accuracy"] == 1.0


def test_baselines_are_fitted_on_labelled_rows_only() -> None:
    texts, cells = rows(60)
    test_texts, test_cells = rows(30, seed=1)
    bare = class_baselines(task(), examples(texts, cells), texts=test_texts, truth=indices(test_cells))
    more = examples(texts + test_texts * 9, cells + [""] * (9 * len(test_texts)))
    assert class_baselines(task(), more, texts=test_texts, truth=indices(test_cells)) == bare


def test_baselines_are_deterministic_with_too_many_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_ROWS", 20)
    texts, cells = rows(60)
    test_texts, test_cells = rows(40, seed=1)
    first, again = (
        class_baselines(task(), examples(texts, cells), texts=test_texts, truth=indices(test_cells), seed=3)
        for _ in range(2)
    )
    assert first == again
    assert first["tfidf"].note == "Fitted on 20 of 60 training rows."
    assert first["majority"].note == "", "counting needs no limit"


def test_baselines_of_many_classes_look_at_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_CELLS", 60)
    texts, cells = rows(60)
    found = class_baselines(task(), examples(texts, cells), texts=texts, truth=indices(cells))
    assert found["tfidf"].note == "Fitted on 20 of 60 training rows."


def test_baselines_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, cells = rows(60)
    whole = class_baselines(task(), examples(texts, cells), texts=texts, truth=indices(cells))
    monkeypatch.setattr(baselines, "CHUNK", 7)
    assert class_baselines(task(), examples(texts, cells), texts=texts, truth=indices(cells)) == whole


def test_baselines_that_need_more_iterations_warn_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_ITERATIONS", 1)
    texts, cells = rows(60)
    assert class_baselines(task(), examples(texts, cells), texts=texts, truth=indices(cells))["tfidf"].scores


@pytest.mark.parametrize(
    ("texts", "cells", "why"),
    [
        (["rain", "fog"], ["weather", "weather"], "one class"),
        (["!!!", "…"], ["weather", "food"], "no words"),
        (["rain", "fog"], ["", ""], "No training row"),
        ([], [], "No training row"),
    ],
)
def test_baselines_say_why_they_cannot_be_fitted(texts: list[str], cells: list[str], why: str) -> None:
    found = class_baselines(task(), examples(texts, cells), texts=["rain"], truth=np.array([2]))["tfidf"]
    assert found.scores is None
    assert why in found.note


def test_baselines_say_so_if_the_rows_they_take_have_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_ROWS", 2)
    train = examples(["rain today"] * 50 + ["soup"], ["weather"] * 50 + ["food"])
    found = class_baselines(task(), train, texts=["rain"], truth=np.array([2]))["tfidf"]
    assert (found.scores, found.note) == (None, "The training rows it looked at have one class.")


def test_baselines_of_a_task_that_the_training_rows_do_not_have() -> None:
    found = class_baselines(task(), Examples(("rain",), {}, (0,)), texts=["rain"], truth=np.array([2]))
    assert {baseline.scores for baseline in found.values()} == {None}


def test_baselines_take_texts_of_unknown_words_and_long_ones() -> None:
    texts, cells = rows(60)
    found = class_baselines(
        task(), examples(texts, cells), texts=["", "zzz", "soup " * 50_000], truth=np.array([0, 0, 0])
    )
    assert found["tfidf"].scores["accuracy"] == 1.0, "nothing known: the most frequent class"


# ------------------------------------------------------------------------------------------ entities


def test_baselines_dictionary_takes_the_longest_entry_from_left_to_right() -> None:
    entries = {"York": "LOC", "New York": "LOC", "New York Times": "ORG", "Times Square": "LOC"}
    texts = ["New York and the New York Times Square", "York."]
    assert where(look_up(entries, texts)) == predictions(
        ((0, 8, "LOC"), (17, 31, "ORG")),
        ((0, 4, "LOC"),),
    )


def test_baselines_dictionary_finds_whole_words_only() -> None:
    entries = {"art": "X", "C++": "X", "o'clock": "X", "上海": "X"}
    texts = ["party art artist Art", "C++, C+ and C+++", "ten o'clock.", "我在上海人"]
    assert where(look_up(entries, texts)) == predictions(
        ((6, 9, "X"),),
        ((0, 3, "X"), (12, 15, "X")),
        ((4, 11, "X"),),
        ((2, 4, "X"),),
    )


def test_baselines_dictionary_has_the_most_frequent_type() -> None:
    texts = ["Paris", "Paris", "Paris", "Rome", "Rome"]
    spans = [(Span(0, 5, "PER"),), (Span(0, 5, "LOC"),), (Span(0, 5, "LOC"),), (Span(0, 4, "X"),), None]
    assert dictionary(texts, spans, labels=["PER", "LOC"]) == {"Paris": "LOC"}


def test_baselines_dictionary_leaves_out_what_is_mostly_no_entity() -> None:
    texts = ["listen to the the", "the end", "the day", "see Rome", "Rome burns"]
    spans = [(Span(10, 13, "BAND"),), (), (), (Span(4, 8, "LOC"),), ()]
    assert dictionary(texts, spans, labels=["BAND", "LOC"]) == {"Rome": "LOC"}


def test_baselines_of_entities_are_scored_on_annotated_rows() -> None:
    train = examples(["see Rome", "see Bob", "nobody"], ["O B-LOC", "O B-PER", ""])
    truth = [(Span(0, 4, "LOC"),), (Span(3, 6, "LOC"),), None]
    found = entity_baselines(
        task("token_classification", ("LOC", "PER")), train, texts=["Rome", "at Bob", "Rome Rome"], truth=truth
    )
    assert found["nothing"] == Baseline(dict.fromkeys(SCORES["token_classification"], 0.0))
    assert found["dictionary"] == Baseline(dict.fromkeys(SCORES["token_classification"], 0.5))


def test_baselines_of_entities_without_any_in_training() -> None:
    train = examples(["see Rome", "nobody"], ["O O", ""])
    found = entity_baselines(task("token_classification", ("LOC",)), train, texts=["Rome"], truth=[()])
    assert found["dictionary"] == Baseline(None, "The training rows have no entities.")
    bare = Examples(("see Rome",), {}, (0,))
    assert entity_baselines(task("token_classification", ("LOC",)), bare, texts=["Rome"], truth=[()]) == found
