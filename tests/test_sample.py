from __future__ import annotations

import csv
import json
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig
from mtl.data.preparing import understand_table
from mtl.data.profile import profile
from mtl.data.reading import Table, read_file
from mtl.data.sameness import normalised

SAMPLE = Path(__file__).parents[1] / "data" / "sample.csv"
TOPICS = {"sports", "business", "entertainment", "technology", "politics"}
SENTIMENTS = {"negative", "neutral", "positive"}
LABELS = ("topic", "sentiment", "entities")


@pytest.fixture(scope="module")
def sample() -> Table:
    return read_file(SAMPLE)


@pytest.fixture(scope="module")
def spans(sample: Table) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """The row, the text and the entities of every row whose entities are labelled."""
    columns = sample.columns
    return [
        (row, text, json.loads(cell))
        for row, (text, cell) in enumerate(zip(columns["text"], columns["entities"], strict=True))
        if cell
    ]


def test_sample_has_the_header_and_the_rows_that_are_promised(sample: Table) -> None:
    assert SAMPLE.read_bytes().startswith(b"text,topic,sentiment,entities\n")
    assert len(sample) >= 1_200
    assert sample.notes == ()


def test_sample_reads_the_same_with_the_standard_library(sample: Table) -> None:
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [dict(zip(sample.headers, row, strict=True)) for row in zip(*sample.columns.values(), strict=True)]


def test_sample_is_understood_without_help(sample: Table) -> None:
    understood = understand_table(sample, RunConfig())
    assert (understood.columns.text, understood.columns.tasks) == (("text",), ("topic", "sentiment", "entities"))
    assert understood.columns["entities"].role == "entities"
    assert understood.entities["entities"].problems == ()
    assert profile(understood).problems == ()


def test_sample_texts_are_present_trimmed_and_all_different(sample: Table) -> None:
    texts = sample.columns["text"]
    assert [text for text in texts if not text or text != text.strip()] == []
    repeated = [text for text, count in Counter(map(normalised, texts)).items() if count > 1]
    assert repeated == []


def test_sample_labels_are_the_known_ones_exactly(sample: Table) -> None:
    assert set(sample.columns["topic"]) == TOPICS | {""}
    assert set(sample.columns["sentiment"]) == SENTIMENTS | {""}


def test_sample_is_balanced_over_the_pairs_up_to_what_is_blanked(sample: Table) -> None:
    pairs = Counter(zip(sample.columns["topic"], sample.columns["sentiment"], strict=True))
    even = len(sample) / 15
    blank_topics = {mood: pairs["", mood] for mood in SENTIMENTS}
    blank_moods = {topic: pairs[topic, ""] for topic in TOPICS}
    for topic, mood in product(TOPICS, SENTIMENTS):
        lacking = even - pairs[topic, mood]
        assert -1 < lacking <= blank_topics[mood] + blank_moods[topic], (topic, mood)
    full = [pairs[pair] for pair in product(TOPICS, SENTIMENTS)]
    assert min(full) >= 0.8 * max(full)
    # what is blanked of a topic, and of a sentiment, is what its pairs lack
    for topic in TOPICS:
        assert sum(even - pairs[topic, mood] for mood in SENTIMENTS) >= blank_moods[topic] - 3


def test_sample_about_one_row_in_five_lacks_one_label(sample: Table) -> None:
    lacking = Counter(
        sum(not sample.columns[name][row] for name in LABELS)  # how many of the row's labels are empty
        for row in range(len(sample))
    )
    assert set(lacking) == {0, 1}
    assert 0.15 <= lacking[1] / len(sample) <= 0.25
    assert all("" in sample.columns[name] for name in LABELS)


def test_sample_entities_are_lists_of_spans_of_the_three_kinds(
    spans: list[tuple[int, str, list[dict[str, Any]]]],
) -> None:
    for row, _, found in spans:
        assert isinstance(found, list), row
        assert all(list(span) == ["start", "end", "label"] for span in found), row
        assert all(type(span["start"]) is type(span["end"]) is int for span in found), row
    assert {span["label"] for _, _, found in spans for span in found} == {"PER", "ORG", "LOC"}


def test_sample_spans_lie_in_the_text_in_order_and_apart(spans: list[tuple[int, str, list[dict[str, Any]]]]) -> None:
    for row, text, found in spans:
        edges = [edge for span in found for edge in (span["start"], span["end"])]
        assert edges == sorted(edges), row
        assert all(span["start"] < span["end"] for span in found), row
        assert all(0 <= edge <= len(text) for edge in edges), row


def test_sample_spans_hold_whole_words_without_white_space(
    spans: list[tuple[int, str, list[dict[str, Any]]]],
) -> None:
    for row, text, found in spans:
        for span in found:
            marked = text[span["start"] : span["end"]]
            assert marked == marked.strip(), row
            around = text[max(0, span["start"] - 1) : span["start"]] + text[span["end"] : span["end"] + 1]
            assert not any(character.isalnum() for character in around), (row, marked)


def test_sample_tells_no_entities_from_not_labelled(sample: Table) -> None:
    cells = Counter(cell if cell in {"", "[]"} else "marked" for cell in sample.columns["entities"])
    assert min(cells["[]"], cells[""], cells["marked"]) > 50


def test_sample_has_enough_of_every_kind_of_entity(spans: list[tuple[int, str, list[dict[str, Any]]]]) -> None:
    kinds = Counter(span["label"] for _, _, found in spans for span in found)
    assert min(kinds.values()) >= 100
