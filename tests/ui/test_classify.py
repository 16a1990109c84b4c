"""Which head a tab chooses, without a page."""

from __future__ import annotations

import pytest

from mtl.errors import DataError
from mtl.tasks import TaskKind, TaskSpec
from mtl.ui.tabs.classify import SENTIMENT, TOPIC, Kind, best_head, candidates

CLASSES = TaskSpec(name="mood", key="mood", kind="classification", labels=("good", "bad"))
NAMES = TaskSpec(name="names", key="names", kind="token_classification", labels=("PER",))


@pytest.mark.parametrize(
    ("names", "kind", "chosen"),
    [
        (["sentiment", "topic"], TOPIC, "topic"),
        (["topic", "sentiment"], SENTIMENT, "sentiment"),
        (["domain", "sentiment"], TOPIC, "domain"),
        (["sentiment_label", "category"], TOPIC, "category"),
        (["sentiment_label", "x"], TOPIC, "x"),
        (["topic", "sentiment_label"], SENTIMENT, "sentiment_label"),
        (["operating_system", "Mood"], SENTIMENT, "Mood"),
        (["x", "y"], SENTIMENT, "x"),
        (["topic"], SENTIMENT, "topic"),
        ([], TOPIC, None),
    ],
)
def test_classify_chooses_the_head_by_whole_words(names: list[str], kind: Kind, chosen: str | None) -> None:
    assert best_head(names, kind) == chosen


@pytest.mark.parametrize(
    ("asked", "kind", "found"),
    [
        ("", "classification", ["mood", "topic"]),
        ("", "token_classification", ["names"]),
        ("topic", "classification", ["topic"]),
        ("names", "token_classification", ["names"]),
        ("weather", "classification", ["weather"]),  # that there is none, the checkpoint says
    ],
)
def test_candidates_are_the_heads_of_a_kind_or_the_one_asked_for(asked: str, kind: TaskKind, found: list[str]) -> None:
    tasks = [CLASSES, NAMES, CLASSES.model_copy(update={"name": "topic"})]
    assert candidates(tasks, asked, kind) == found


@pytest.mark.parametrize(
    ("tasks", "asked", "kind", "sentence"),
    [
        ([CLASSES, NAMES], "names", "classification", '"names" finds entities and gives no class; .* or /entities'),
        ([CLASSES, NAMES], "mood", "token_classification", '"mood" gives a class and finds no entities; .* or /topic'),
        ([NAMES], "", "classification", "no head that gives a class: all of them find entities"),
        ([CLASSES], "", "token_classification", "no head that finds entities"),
        ([CLASSES], None, "classification", "Give the head as the name of one task"),
    ],
)
def test_candidates_of_another_kind_are_refused_with_what_to_ask_instead(
    tasks: list[TaskSpec], asked: str, kind: TaskKind, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        candidates(tasks, asked, kind)
