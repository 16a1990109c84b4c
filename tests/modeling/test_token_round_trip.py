"""Entities through every kind of tokenizer and back."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings

from mtl.data.batching import Encoding, Offsets
from mtl.data.entities import Span, read_entities
from mtl.errors import DataError
from mtl.modeling.heads.token_classification import counted_tokens
from tests.modeling.entities import TYPES, cell_of, certain, decoded, head
from tests.modeling.tiny_tokenizers import TOKENIZERS, encoding_of, tokens_of

EVERY = settings(max_examples=60, derandomize=True, deadline=None)
EACH = pytest.mark.parametrize("name", TOKENIZERS)
# [type: an entity] in a text: what each tokenizer must be able to say
MARKED = [
    "[PER: Anna] ran",
    "[PER: Anna Lee] met [PER: Bo] in [LOC: New York] .",
    "she moved to [LOC: Berlin]",
    "[ORG: Avelica], a maker of printers",
    "He ([PER: Bo]) left",
    "in ([LOC: Berlin]), ([LOC: Rome]).",
    'the "[ORG: Norwell Inc.]" of old',
    "the [ORG: Norwell Inc.] of old",
    "bought [ORG: Norwell Inc.], then sold it",
    'of "[ORG: Norwell Inc.],"',
    "in the [LOC: U.S.], again (the [LOC: U.S.]).",
    "[ORG: Yahoo!] again, [ORG: Yahoo!], again",
    '[ORG: "Norwell"] with its marks, [ORG: (Oslo Corp.)] too',
    "[LOC: Berlin]'s mayor, [PER: Bo]'s",
    "[PER: Anna] [PER: Bo] [LOC: Rome]",
    "[PER: Anna],[PER: Bo]/[LOC: Rome]",
    "[LOC: New York]-[LOC: London] flights",
    "unsnarlable [PER: Zbigniewowitsch Xylander] came",
    "aus [LOC: Köln] und [LOC: Besançon], [PER: José]",
    "decomposed [LOC: Ko\u0308ln] too",
    "из [LOC: Москвы], [PER: Анна].",
    "[LOC: 東京]に行く。[ORG: ソニー]は日本の会社",
    "[LOC: 서울]에서 만나요",
    "good 😀 [PER: Anna] 👍🏽",
    "[PER: 😀 Anna 😀] ran",
    "  [PER: Anna]   [LOC: New   York]  ",
    "\u3000[PER: Anna]\xa0ran\tto\r\n[LOC: Rome]",
    "room [LOC: 3.14] and 3.[LOC: 15]",
    "[ORG: AT&T] and @[PER: anna] #[LOC: rome]_[LOC: oslo]",
    "½ of [ORG: ﬁve™ ltd]",
    "nothing here",
    "",
]


def parsed(marked: str) -> tuple[str, list[Span]]:
    """Read `[PER: Anna] ran` into the text and its spans."""
    text, spans = "", []
    for number, part in enumerate(marked.split("[")):
        label, colon, rest = part.partition(": ")
        if number == 0 or not colon:
            text += part
            continue
        entity, _, after = rest.partition("]")
        spans.append(Span(len(text), len(text) + len(entity), label))
        text += entity + after
    return text, spans


def round_trip(encoding: Encoding, spans: list[list[Span]]) -> list[list[Span]]:
    """Encode, make logits that say just that, and decode."""
    made = head()
    tags = made.encode([cell_of(row) for row in spans], encoding)
    return decoded(made, certain(tags), encoding)


@EACH
def test_tokens_give_entities_of_ordinary_texts_back_exactly(name: str) -> None:
    texts, spans = map(list, zip(*map(parsed, MARKED), strict=True))
    assert sum(map(len, spans)) > 50
    encoding = encoding_of(name, texts)
    found = dict(zip(texts, round_trip(encoding, spans), strict=True))
    wrong = {text for text, row in zip(texts, spans, strict=True) if found[text] != row}
    # one token may stand for a name and its particle
    assert wrong <= ({"서울에서 만나요", "東京に行く。ソニーは日本の会社"} if name == "wordpiece" else set())


def test_tokens_of_these_tokenizers_are_of_all_kinds() -> None:
    assert tokens_of("wordpiece", "sharesmaker") == ["", "shares", "m", "a", "ker", ""]
    assert tokens_of("byte-level", "He (Anna")[1:3] == ["He", " ("]  # the blank is part of a token
    assert tokens_of("byte-level-trimmed", "He (Anna")[1:3] == ["He", "("]
    assert tokens_of("byte-level", "東京都")[1:] == ["東", "東京", "京都", "都", "都", ""]  # pieces of characters
    assert ".," in tokens_of("byte-level", "Norwell Inc., again")  # reaches beyond the name
    assert ".)." in tokens_of("byte-level-trimmed", "the U.S.). again")
    assert tokens_of("sentencepiece", "He")[1:3] == ["H", "H"]  # the mark before the first word
    assert " " in tokens_of("sentencepiece", "to xylophone")  # a token that is nothing but the blank


PIECES = st.sampled_from(
    [*"Anna Berlin Inc. U.S. x Zyx 3.14 don't Köln é o\u0308 東京 日本 ソニー 서울 Анна 😀 👍🏽 ❤️ ½ ﬁ".split()]
    + [*'.,;:!?()"“”-_/@#&…', " ", " ", " ", " ", "  ", "\u3000"]
)


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, list[Span]]:
    """Draw a text of words and marks in any order, and entities that a cell may hold."""
    pieces = draw(st.lists(PIECES, max_size=14))
    text = "".join(pieces)
    borders = [sum(map(len, pieces[:number])) for number in range(len(pieces) + 1)]
    chosen = sorted(draw(st.lists(st.sampled_from(borders), max_size=8)))
    labels = draw(st.lists(st.sampled_from(TYPES), min_size=8, max_size=8))
    spans: list[Span] = []
    for (start, end), label in zip(pairwise(chosen), labels, strict=False):
        span = Span(start, end, label)
        try:
            read_entities(text, cell_of([span]))
        except DataError:  # empty, blank or within a word
            continue
        if draw(st.booleans()):
            spans.append(span)
    return text, spans


def can_be_said(text: str, offsets: Offsets, spans: list[Span]) -> bool:
    """Say whether tokens stand for all of these spans, and none for something on both sides of a border."""
    tokens = [range(start, end) for start, end in offsets if end > start]
    inner = [(t.start + len(s) - len(s.lstrip()), s.strip()) for t in tokens for s in [text[t.start : t.stop]]]
    for span in spans:
        covered = {c for start, part in inner for c in range(start, start + len(part))}
        for border in (span.start, span.end):
            if any(start < border < start + len(part) for start, part in inner):
                return False
        if not {span.start, span.end - 1} <= covered:
            return False
    return True


@EACH
@EVERY
@given(drawn=annotated())
def test_tokens_give_any_entity_back_that_they_can_stand_for(name: str, drawn: tuple[str, list[Span]]) -> None:
    text, spans = drawn
    encoding = encoding_of(name, [text])
    assume(can_be_said(text, encoding.offsets[0], spans))
    ends = [text[span.start : span.end] for span in spans]
    assume(not any(end[-1] in ',;:)"”' for end in ends))  # those are cut off a token of several marks, see below
    assert round_trip(encoding, [spans]) == [spans]


@EACH
@EVERY
@given(drawn=annotated(), tags=st.lists(st.integers(0, 6), min_size=80, max_size=80))
def test_tokens_of_any_tags_give_entities_that_a_cell_may_hold(
    name: str, drawn: tuple[str, list[Span]], tags: list[int]
) -> None:
    text, _ = drawn
    encoding = encoding_of(name, [text])
    tags += [0] * (len(encoding.offsets[0]) - len(tags))
    (found,) = decoded(head(), certain([torch.tensor(tags)]), encoding)
    assert list(read_entities(text, cell_of(found)) or ()) == found  # in order, apart, no blanks, whole words
    assert len(found) <= len(counted_tokens(text, encoding.offsets[0]))


@EACH
@pytest.mark.parametrize("max_length", range(2, 40))
def test_tokens_of_a_cut_text_have_what_is_before_the_cut(name: str, max_length: int) -> None:
    text, spans = parsed(
        "[PER: Anna Lee] of [ORG: Norwell Inc.] moved to [LOC: Zbigniewo], ([LOC: 東京]) said [PER: Bo]"
    )
    encoding = encoding_of(name, [text], max_length)
    (found,) = round_trip(encoding, [spans])
    cut = max(end for _, end in encoding.offsets[0])
    assert [span for span in spans if span.end <= cut] == [span for span in found if span in spans and span.end <= cut]
    assert [(span.start, span.label) for span in found] == [(s.start, s.label) for s in spans if s.start < cut]
    assert all(span.end <= whole.end for span, whole in zip(found, spans, strict=False))
    assert list(read_entities(text, cell_of(found)) or ()) == found  # a word that is cut in its middle is whole


@EACH
@EVERY
@given(drawn=annotated())
def test_tokens_that_count_follow_one_another(name: str, drawn: tuple[str, list[Span]]) -> None:
    text, _ = drawn
    counted = counted_tokens(text, encoding_of(name, [text]).offsets[0])
    assert all(start < end for _, start, end in counted)
    assert all(a < b and end <= start for (a, _, end), (b, start, _) in pairwise(counted))
    assert all(not text[start].isspace() and not text[end - 1].isspace() for _, start, end in counted)
