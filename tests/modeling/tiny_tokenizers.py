"""Tiny tokenizers of every kind, trained on the spot."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mtl.data.batching import Encoding, tokenise_with_offsets

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CORPUS = [
    "Anna Lee of Avelica, a maker of printers, moved to Berlin in 1999.",
    "Shares of Norwell Inc. and Oslo Corp. fell, said the U.S., again.",
    'He (Bo) said: "Norwell Inc." is in New York; "who knows?!", she said.',
    "Grüße aus Köln! L'été à Besançon, où José était né.",
    "東京都に行く。ソニー株式会社は日本の会社です。",
    "Привет из Москвы, сказала Анна.",
    "서울에서 만나요",
    "good 😀 very good 👍🏽 day ❤️",
    "the team won the cup in Rome... and the U.S.). lost!",
]


def wrapped(tokenizer: Tokenizer, *steps: Any) -> PreTrainedTokenizerFast:
    """Add special tokens around the text, and wrap as transformers does."""
    special = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    around = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.post_processor = processors.Sequence([*steps, around])
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def wordpiece() -> PreTrainedTokenizerFast:
    """Make a tokenizer as BERT's is: lower case, no accents, ##pieces."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrapped(tokenizer)


def byte_level(*, prefix: bool, trim: bool) -> PreTrainedTokenizerFast:
    """Make a tokenizer as those of GPT-2 and RoBERTa are: bytes, blanks at the start of words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, 'Inc., U.S., Inc.," Inc.") (U.S.). U.S.) '] * 3, trainer)
    return wrapped(tokenizer, processors.ByteLevel(trim_offsets=trim))


def sentencepiece() -> PreTrainedTokenizerFast:
    """Make a tokenizer as XLM-R's is: a mark for the blank, which may be a token; punctuation is learnt apart."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    metaspace = pre_tokenizers.Metaspace()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([metaspace, pre_tokenizers.Punctuation()])
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=SPECIAL, unk_token="[UNK]", initial_alphabet=list("東京都"), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.pre_tokenizer = metaspace
    return wrapped(tokenizer)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "wordpiece": wordpiece,
    "byte-level": lambda: byte_level(prefix=False, trim=False),
    "byte-level-trimmed": lambda: byte_level(prefix=True, trim=True),
    "sentencepiece": sentencepiece,
}


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer, made once."""
    return TOKENIZERS[name]()


def encoding_of(name: str, texts: list[str], max_length: int = 256) -> Encoding:
    """Tokenise texts with a tokenizer."""
    return Encoding(tuple(texts), tokenise_with_offsets(texts, tokenizer_of(name), max_length)[1])


def tokens_of(name: str, text: str) -> list[str]:
    """Show what the tokens of a text stand for; nothing, if they are special."""
    return [text[start:end] for start, end in encoding_of(name, [text]).offsets[0]]
