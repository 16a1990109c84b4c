from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mtl.data.batching import IGNORE_INDEX, Encoding
from mtl.data.entities import Span
from mtl.errors import DataError
from mtl.modeling.heads import Entity
from mtl.modeling.heads.token_classification import counted_tokens
from tests.modeling.entities import B_LOC, B_ORG, B_PER, I_LOC, I_ORG, I_PER, OUT, certain, decoded, head

# ------------------------------------------------------------------------------------------------- which tokens count


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        ("Anna ran", [(0, 0), (0, 2), (2, 4), (5, 8), (0, 0)], [(1, 0, 4), (3, 5, 8)]),  # special, pieces of a word
        ("Anna ran", [(0, 4), (4, 8)], [(0, 0, 4), (1, 5, 8)]),  # a blank at the start of a token
        ("Anna ran", [(0, 5), (5, 8)], [(0, 0, 4), (1, 5, 8)]),  # or at its end
        ("a  b", [(0, 1), (1, 2), (2, 4)], [(0, 0, 1), (2, 3, 4)]),  # a token of nothing but a blank
        ("(a)", [(0, 1), (1, 2), (2, 3)], [(0, 0, 1), (1, 1, 2), (2, 2, 3)]),  # marks are words
        ("a.b", [(0, 1), (1, 2), (2, 3)], [(0, 0, 1), (1, 1, 2), (2, 2, 3)]),
        ("😀", [(0, 1), (0, 1), (0, 1)], [(0, 0, 1)]),  # several tokens for a character
        ("😀👍", [(0, 1), (0, 2), (1, 2)], [(1, 0, 1), (2, 1, 2)]),  # one with bytes of two
        ("Rome", [(0, 1), (0, 4)], [(1, 0, 4)]),  # SentencePiece's mark before the first word
        ("東京都", [(0, 1), (1, 2), (2, 3)], [(0, 0, 1), (1, 1, 2), (2, 2, 3)]),  # no blanks between words
        ("서울에서", [(0, 2), (2, 4)], [(0, 0, 2), (1, 2, 4)]),
        ("สวัสดี", [(0, 3), (3, 6)], [(0, 0, 3), (1, 3, 6)]),
        ("東京Anna", [(0, 2), (2, 4), (4, 6)], [(0, 0, 2), (1, 2, 6)]),
        ("o\u0308l", [(0, 1), (1, 2), (2, 3)], [(0, 0, 3)]),  # an accent of its own
        ("q1 2b", [(0, 1), (1, 2), (3, 4), (4, 5)], [(0, 0, 2), (2, 3, 5)]),  # digits are part of words
        ("", [(0, 0), (0, 0)], []),
    ],
)
def test_tokens_that_count(text: str, offsets: list[tuple[int, int]], expected: list[tuple[int, int, int]]) -> None:
    assert counted_tokens(text, tuple(offsets)) == expected


# ------------------------------------------------------------------------------------------------------------- encode

ENCODING = Encoding(("Anna Lee ran",), (((0, 0), (0, 2), (2, 4), (5, 8), (9, 12), (0, 0)),))
SKIP = IGNORE_INDEX


def encoded(cell: str, encoding: Encoding = ENCODING) -> list[int]:
    """Encode the cell of one text."""
    (tags,) = head().encode([cell], encoding)
    return tags.tolist()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("B-PER I-PER O", [SKIP, B_PER, SKIP, I_PER, OUT, SKIP]),
        ("B-PER B-PER O", [SKIP, B_PER, SKIP, B_PER, OUT, SKIP]),
        ("B-PER I-LOC O", [SKIP, B_PER, SKIP, B_LOC, OUT, SKIP]),
        ("O O B-ORG", [SKIP, OUT, SKIP, OUT, B_ORG, SKIP]),
        ('[{"start": 0, "end": 8, "label": "ORG"}]', [SKIP, B_ORG, SKIP, I_ORG, OUT, SKIP]),
        ('[{"start": 5, "end": 12, "label": "LOC"}]', [SKIP, OUT, SKIP, B_LOC, I_LOC, SKIP]),
        ("[]", [SKIP, OUT, SKIP, OUT, OUT, SKIP]),
        ("", [SKIP] * 6),  # not annotated
        ("B-PER", [SKIP] * 6),  # cannot be read: the data's profile says so, with its row
        ('[{"start": 1, "end": 4, "label": "PER"}]', [SKIP] * 6),
    ],
)
def test_tokens_are_tagged(cell: str, expected: list[int]) -> None:
    assert encoded(cell) == expected


def test_tokens_have_an_output_for_o_and_two_for_each_type() -> None:
    assert head().output_names == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert head(("x",)).outputs == 3


def test_tokens_of_an_unknown_type_are_refused() -> None:
    with pytest.raises(DataError, match=r'^"GPE" is not one of the entity types LOC, ORG, PER\.$'):
        encoded("B-PER B-GPE O")


def test_tokens_of_texts_of_any_length_are_tagged_each_to_its_own_length() -> None:
    encoding = Encoding(("Anna", "", "a b"), (((0, 0), (0, 4), (0, 0)), ((0, 0), (0, 0)), ((0, 1), (2, 3))))
    tags = head().encode(["B-PER", "[]", "O O"], encoding)
    assert [values.tolist() for values in tags] == [[SKIP, B_PER, SKIP], [SKIP, SKIP], [OUT, OUT]]
    assert {values.dtype for values in tags} == {torch.long}


def test_tokens_that_begin_before_an_entity_do_not_speak_for_it() -> None:
    encoding = Encoding(('of ("Inc")',), (((0, 2), (2, 5), (5, 8), (8, 10)),))
    # the quotation mark is part of the entity, but its token begins with the bracket: what is taught begins at Inc
    assert encoded('[{"start": 4, "end": 9, "label": "ORG"}]', encoding) == [OUT, OUT, B_ORG, I_ORG]


# ------------------------------------------------------------------------------------------------------------- decode

LETTERS = Encoding(("a b c d",), tuple([tuple((i, i + 1) for i in range(0, 7, 2))]))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([OUT, OUT, OUT, OUT], []),
        ([B_PER, I_PER, OUT, OUT], [(0, 3, "PER")]),
        ([B_PER, B_PER, OUT, OUT], [(0, 1, "PER"), (2, 3, "PER")]),
        ([OUT, I_PER, I_PER, OUT], [(2, 5, "PER")]),  # I- after O begins an entity
        ([B_PER, I_LOC, I_LOC, OUT], [(0, 1, "PER"), (2, 5, "LOC")]),  # and after another type
        ([I_PER, B_PER, I_PER, OUT], [(0, 1, "PER"), (2, 5, "PER")]),
        ([B_PER, OUT, I_PER, OUT], [(0, 1, "PER"), (4, 5, "PER")]),
        ([I_LOC, I_LOC, I_LOC, I_LOC], [(0, 7, "LOC")]),
        ([OUT, OUT, OUT, B_ORG], [(6, 7, "ORG")]),
    ],
)
def test_tokens_decode_as_conlleval_reads_tags(tags: list[int], expected: list[tuple[int, int, str]]) -> None:
    (found,) = decoded(head(), certain([torch.tensor(tags)]), LETTERS)
    assert found == [Span(*one) for one in expected]


def test_tokens_that_do_not_count_and_padding_say_nothing() -> None:
    tags = torch.tensor([B_LOC, B_PER, B_ORG, I_PER, OUT, B_LOC, B_LOC, B_LOC])  # two more than there are tokens
    (found,) = decoded(head(), certain([tags]), ENCODING)
    assert found == [Span(0, 8, "PER")]


@pytest.mark.parametrize("both", [(0.9, 0.6), (0.6, 0.9)])
def test_tokens_decode_with_the_lowest_probability_of_an_entity(both: tuple[float, float]) -> None:
    probabilities = torch.full((4, 7), 0.01)
    for token, (tag, probability) in enumerate([(B_PER, both[0]), (I_PER, both[1]), (OUT, 0.5), (B_LOC, 0.7)]):
        probabilities[token, tag] = probability
    probabilities /= probabilities.sum(dim=1, keepdim=True)
    (answer,) = head().decode(probabilities.log().unsqueeze(0), LETTERS)
    person, place = answer.entities
    assert (person.label, person.confidence) == ("PER", pytest.approx(0.6 / 0.66))
    assert place == Entity(6, 7, "LOC", pytest.approx(0.7 / 0.76))


@pytest.mark.parametrize(
    ("text", "last", "expected"),
    [
        ("Inc.,", (3, 5), "Inc."),
        ('Inc."', (3, 5), "Inc."),
        ("Inc.”", (3, 5), "Inc.”"[:4]),
        ("Inc.),", (3, 6), "Inc."),
        ("U.S.).", (3, 6), "U.S."),
        ("3,000,", (0, 6), "3,000"),
        ('Inc. "', (3, 6), "Inc."),
        ("Inc.' ", (3, 6), "Inc."),
        ("Inc...", (3, 6), "Inc..."),
        ("Yahoo!?", (5, 7), "Yahoo!?"),
        ("C++", (1, 3), "C++"),
        ('"Inc."', (4, 6), '"Inc."'),  # the entity opened it
        ("(Inc.)", (4, 6), "(Inc.)"),
        ("(Inc.))", (4, 7), "(Inc.)"),
        ("Inc,", (3, 4), "Inc,"),  # a mark alone has a tag of its own, and that is believed
        ("Inc),", (3, 5), "Inc)"),
        ("Inc.,", (0, 5), "Inc."),
    ],
)
def test_tokens_that_reach_beyond_an_entity_are_cut(text: str, last: tuple[int, int], expected: str) -> None:
    before = [(start, start + 1) for start in range(last[0])]
    encoding = Encoding((text,), ((*before, last),))
    tags = torch.full((1 + len(before),), I_ORG)
    (answer,) = head().decode(certain([tags]), encoding)
    assert [text[entity.start : entity.end] for entity in answer.entities] == [expected]


def test_tokens_decode_a_word_that_is_cut_off_as_a_whole() -> None:
    encoding = Encoding(("in Zbigniewo now",), (((0, 2), (3, 5)),))
    assert decoded(head(), certain([torch.tensor([OUT, B_LOC])]), encoding) == [[Span(3, 12, "LOC")]]


def test_tokens_decode_nothing_of_no_text() -> None:
    assert head().decode(torch.zeros(0, 0, 7), Encoding((), ())) == []
    (answer,) = head().decode(torch.zeros(1, 2, 7), Encoding(("",), (((0, 0), (0, 0)),)))
    assert answer.entities == ()


def test_tokens_decode_a_batch_faster_than_one_layer_of_a_small_encoder() -> None:
    text = "Anna Lee met Bo in New York and went to Rome . " * 5
    offsets: list[tuple[int, int]] = []
    for word in text.split():
        start = text.index(word, offsets[-1][1] if offsets else 0)
        offsets.append((start, start + len(word)))
    encoding = Encoding((text,) * 32, (tuple(offsets),) * 32)
    tags = [B_PER, I_PER, OUT, B_PER, OUT, B_LOC, I_LOC, OUT, OUT, OUT, B_LOC, OUT] * 5
    logits = certain([torch.tensor(tags)]).repeat(32, 1, 1)
    matrix = torch.randn(32 * len(offsets), 384)
    weight = torch.randn(384, 1536)

    def quickest(what: Callable[[], Any]) -> float:
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            what()
            times.append(time.perf_counter() - begin)
        return min(times)

    made = head()
    # one of its six layers has such a feed-forward part, and attention beside it
    assert quickest(lambda: made.decode(logits, encoding)) < quickest(lambda: matrix @ weight @ weight.T)
