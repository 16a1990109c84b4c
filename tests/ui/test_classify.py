"""Which head a tab chooses, without a page."""

from __future__ import annotations

import pytest

from mtl.ui.tabs.classify import SENTIMENT, TOPIC, Kind, best_head


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
