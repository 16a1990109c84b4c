from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mtl.data.batching import tokenise, tokenise_with_offsets
from mtl.data.token_lists import TokenLists

TEXTS = [
    "rain",
    "",
    "the team was great today",
    "the soup was awful",
    "snow and wind in the morning",
    "a",
    "great game",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_encoder_folder)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_it_holds_what_tokenising_gives(tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    tokens, offsets = tokenise_with_offsets(TEXTS, tokenizer, 6)
    parts = (TEXTS[start : start + size] for start in range(0, len(TEXTS), size))
    found = TokenLists(tokenise_with_offsets(part, tokenizer, 6) for part in parts)
    assert found.lengths == [len(ids) for ids in tokens["input_ids"]]
    assert found.take(range(len(TEXTS))) == tokens
    assert found.take([5, 0]) == {name: [rows[5], rows[0]] for name, rows in tokens.items()}
    assert tuple(found.offsets) == offsets and len(found.offsets) == len(offsets)
    assert found.offsets[-2] == offsets[-2] and found.offsets[1:3] == offsets[1:3]
    with pytest.raises(IndexError):
        found.offsets[len(TEXTS)]


def test_offsets_that_were_not_asked_are_empty(tokenizer: PreTrainedTokenizerBase) -> None:
    found = TokenLists([(tokenise(TEXTS, tokenizer, 64), ())])
    assert list(found.offsets) == [()] * len(TEXTS)


def test_no_texts() -> None:
    assert TokenLists([]).lengths == [] and list(TokenLists([]).offsets) == []
    empty = TokenLists([({"input_ids": [], "attention_mask": []}, ())])
    assert empty.take([]) == {"input_ids": [], "attention_mask": []} and not len(empty.offsets)


def test_an_input_that_varies_is_kept_even_where_it_is_0_at_first() -> None:
    chunks = [({"ids": [[7, 8]], "kinds": [[0, 0]]}, ()), ({"ids": [[9]], "kinds": [[1]]}, ())]
    assert TokenLists(chunks).take([0, 1]) == {"ids": [[7, 8], [9]], "kinds": [[0, 0], [1]]}


def test_a_mask_takes_no_memory() -> None:
    ones = TokenLists([({"ids": [[1, 2, 3]] * 9, "mask": [[1, 1, 1]] * 9}, ())])
    assert {name: values.strides for name, values in ones._values.items()} == {"ids": (4,), "mask": (0,)}
    assert ones.take([8]) == {"ids": [[1, 2, 3]], "mask": [[1, 1, 1]]}
