from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtl.data import tokens
from mtl.data.tokens import count_tokens

VOCABULARY = Path(__file__).parents[1] / "fixtures" / "vocab.txt"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import BertTokenizer

    return BertTokenizer(vocab=str(VOCABULARY), model_max_length=64)


def test_tokens_are_counted_with_those_around_the_text(tokenizer: Any) -> None:
    counts = count_tokens(["the team", "the team won the game", "snow"], tokenizer, 64)
    assert (counts.median, counts.longest, counts.cut) == (4, 7, 0)  # [CLS] … [SEP]
    assert (counts.sampled, counts.texts, counts.limit) == (3, 3, 64)


def test_tokens_of_texts_longer_than_the_limit_are_cut(tokenizer: Any) -> None:
    texts = ["the team " * count for count in (1, 3, 4, 40)]  # 4, 8, 10 and 82 tokens
    counts = count_tokens(texts, tokenizer, 8)
    assert (counts.cut, counts.longest) == (2, 82)
    assert counts.sentences == [
        "Half of the texts have up to 9 tokens, the longest 82. Longer than 8 tokens, and so cut: 2 of 4."
    ]


def test_tokens_of_words_in_the_vocabulary_are_one_a_word(tokenizer: Any) -> None:
    counts = count_tokens(["the team won the game"] * 3, tokenizer, 64)
    assert (counts.unknown, counts.pieces) == (0.0, 1.0)
    assert len(counts.sentences) == 1


def test_tokens_the_encoder_does_not_know_are_said_first(tokenizer: Any) -> None:
    counts = count_tokens(["the team 東京 won", "the 酒店 game was"], tokenizer, 64)
    frame = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    ids = [token for text in ("the team 東京 won", "the 酒店 game was") for token in tokenizer(text)["input_ids"]]
    inner = [token for token in ids if token not in frame]
    assert counts.unknown == inner.count(tokenizer.unk_token_id) / len(inner) > 0.02
    assert "of the tokens are unknown to this encoder" in counts.sentences[1]
    assert "choose a multilingual one" in counts.sentences[1]


def test_tokens_words_that_fall_into_pieces_are_said(tokenizer: Any) -> None:
    words = [word for word in ("zqxjk", "qqqq", "xzxz") if len(tokenizer.tokenize(word)) > 2]
    assert words, "the premise needs words that fall into pieces"
    known = [word for word in words if tokenizer.unk_token not in tokenizer.tokenize(word)]
    counts = count_tokens(known, tokenizer, 64)
    assert counts.pieces == sum(len(tokenizer.tokenize(word)) for word in known) / len(known)
    assert "pieces on average (English: about 1.3)" in counts.sentences[1]


def test_tokens_of_a_book_in_one_cell_say_nothing_of_the_pieces(tokenizer: Any) -> None:
    counts = count_tokens(["the team won the game " * 2_000], tokenizer, 8)
    assert counts.longest == 16 * 8  # not tokenised to its end
    assert (counts.cut, counts.pieces) == (1, 0.0)
    assert len(counts.sentences) == 1


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_tokens_of_no_texts_are_none(texts: list[str], tokenizer: Any) -> None:
    counts = count_tokens(texts, tokenizer, 64)
    assert (counts.sampled, counts.texts, counts.longest, counts.cut, counts.unknown) == (0, 0, 0, 0, 0.0)
    assert len(counts.sentences) == 1


@pytest.mark.parametrize("count", [11, 19, 20, 21, 95])
def test_tokens_a_sample_is_taken_from_all_over_the_file(
    count: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SAMPLE_TEXTS", 10)
    texts = ["snow"] * (count // 2) + ["the team won the game"] * (count - count // 2)
    counts = count_tokens(texts, tokenizer, 64)
    assert 5 <= counts.sampled <= 10
    assert counts.texts == count
    assert counts.longest == 7, "a file is often sorted, so its end counts too"
    assert f"cut: 0 of {counts.sampled} sampled." in counts.sentences[0]
