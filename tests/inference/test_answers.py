from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mtl.data.entities import Span, read_entities
from mtl.inference.answers import as_cells, as_values, brief, in_words
from mtl.modeling.heads import Entity, EntityPrediction, Prediction

CLASS = Prediction("good", 0.876543, {"bad": 0.123457, "good": 0.876543})
TEXT = 'Anna "A." Lee in 東京 🎈'
FOUND = EntityPrediction((Entity(0, 13, "PER", 0.91234567), Entity(17, 19, "LOC", 0.5)))
NOTHING = EntityPrediction(())


def test_answers_are_values_that_json_can_hold() -> None:
    assert as_values(CLASS, TEXT) == {
        "label": "good",
        "confidence": 0.876543,
        "probabilities": {"bad": 0.123457, "good": 0.876543},
    }
    values = as_values(FOUND, TEXT)
    assert values == {
        "entities": [
            {"start": 0, "end": 13, "label": "PER", "text": 'Anna "A." Lee', "confidence": 0.91234567},
            {"start": 17, "end": 19, "label": "LOC", "text": "東京", "confidence": 0.5},
        ]
    }
    assert json.loads(json.dumps(values)) == values
    assert as_values(NOTHING, TEXT) == {"entities": []}


def test_answers_as_cells_say_what_and_how_sure() -> None:
    assert as_cells(CLASS, TEXT) == ("good", 0.8765)
    cell, confidence = as_cells(FOUND, TEXT)
    assert json.loads(cell) == [
        {"start": 0, "end": 13, "label": "PER", "text": 'Anna "A." Lee'},
        {"start": 17, "end": 19, "label": "LOC", "text": "東京"},
    ]
    assert "東京" in cell, "a person can read it"
    assert confidence == pytest.approx((0.91234567 + 0.5) / 2, abs=1e-4)
    assert as_cells(NOTHING, TEXT) == ("[]", None), "nothing was found, which is not the same as not having looked"


@st.composite
def found_in_texts(draw: st.DrawFn) -> tuple[str, EntityPrediction]:
    """Draw a text of words and entities in it, each of some neighbouring words."""
    words = draw(st.lists(st.text("ab\"'\\é京🎈", min_size=1, max_size=4), min_size=1, max_size=6))
    text = " ".join(words)
    starts = [len(" ".join(words[:n])) + bool(n) for n in range(len(words))]
    entities, at = [], 0
    while at < len(words):
        length = draw(st.integers(0, 2))
        last = min(at + max(length, 1), len(words)) - 1
        if length:
            label = draw(st.sampled_from(["PER", "a b", "<b>"]))
            entities.append(Entity(starts[at], starts[last] + len(words[last]), label, draw(st.floats(0, 1))))
        at = last + 1
    return text, EntityPrediction(tuple(entities))


@given(case=found_in_texts())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_answers_in_a_cell_are_read_as_entities_again(case: tuple[str, EntityPrediction]) -> None:
    text, found = case
    cell, confidence = as_cells(found, text)
    assert read_entities(text, cell) == tuple(Span(e.start, e.end, e.label) for e in found.entities)
    assert (confidence is None) == (not found.entities)


@pytest.mark.parametrize(
    ("answer", "values", "words"),
    [
        (CLASS, {"label": "good", "confidence": 0.8765}, "good (0.88)"),
        (
            FOUND,
            {
                "entities": [
                    {"start": 0, "end": 13, "label": "PER", "text": 'Anna "A." Lee', "confidence": 0.9123},
                    {"start": 17, "end": 19, "label": "LOC", "text": "東京", "confidence": 0.5},
                ]
            },
            'Anna "A." Lee PER (0.91); 東京 LOC (0.50)',
        ),
        (NOTHING, {"entities": []}, "none"),
    ],
    ids=["class", "entities", "no entity"],
)
def test_answers_in_brief_are_rounded_and_a_line(answer: Any, values: dict[str, Any], words: str) -> None:
    assert brief(answer, TEXT) == values
    assert in_words(values) == words
