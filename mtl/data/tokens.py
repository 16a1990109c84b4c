"""How a tokenizer takes the texts: how long they are in tokens, how many are cut, and how much of them it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mtl.data.batching import tokenise
from mtl.data.reading import is_missing

SAMPLE_TEXTS = 5_000
MANY_UNKNOWN, MANY_PIECES = 0.02, 2.2


@dataclass(frozen=True)
class TokenCounts:
    """What a sample of the texts is to a tokenizer.

    Attributes:
        sampled: Texts looked at, evenly from all over the file.
        texts: Texts in all.
        limit: The longest text in tokens; the rest of a longer one is cut.
        median: Tokens of the middle text.
        longest: Tokens of the longest text.
        cut: Texts of the sample that are cut.
        unknown: Share of the tokens that stand for signs the tokenizer does not know.
        pieces: Tokens per word; English has about 1.3, a language the tokenizer was not made for far more.
    """

    sampled: int
    texts: int
    limit: int
    median: float
    longest: int
    cut: int
    unknown: float
    pieces: float

    @property
    def sentences(self) -> list[str]:
        """Say it in words, the warnings after the plain facts."""
        of = f"{self.sampled:,} sampled" if self.sampled < self.texts else f"{self.texts:,}"
        found = [
            f"Half of the texts have up to {self.median:.0f} tokens, the longest {self.longest:,}. "
            f"Longer than {self.limit} tokens, and so cut: {self.cut:,} of {of}."
        ]
        if self.unknown > MANY_UNKNOWN:
            found.append(
                f"{self.unknown:.0%} of the tokens are unknown to this encoder, so it cannot tell what they say. "
                "The default encoder is English; choose a multilingual one for other languages."
            )
        elif self.pieces > MANY_PIECES:
            found.append(
                f"Words fall into {self.pieces:.1f} pieces on average (English: about 1.3): this encoder hardly knows "
                "the language. The default one is English; choose a multilingual one for other languages."
            )
        return found


def count_tokens(texts: Sequence[str], tokenizer: Any, limit: int) -> TokenCounts:
    """Tokenise a sample of the texts.

    Args:
        texts: All of them; empty ones are passed over.
        tokenizer: A Hugging Face tokenizer.
        limit: The longest text in tokens.
    """
    filled = [text for text in texts if not is_missing(text)]
    sample = filled[:: max(1, -(-len(filled) // SAMPLE_TEXTS))]
    most = 16 * limit  # a book in one cell need not be tokenised to its end
    tokens = tokenise(sample, tokenizer, most)["input_ids"]
    lengths = [len(ids) for ids in tokens] or [0]
    frame = _frame(tokenizer)
    inner = [[token for token in ids if token not in frame] for ids in tokens]
    every = sum(map(len, inner))
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in inner)
    whole = [index for index, ids in enumerate(tokens) if len(ids) < most]
    words = sum(len(sample[index].split()) for index in whole)
    return TokenCounts(
        sampled=len(sample),
        texts=len(filled),
        limit=limit,
        median=median(lengths),
        longest=max(lengths),
        cut=sum(length > limit for length in lengths),
        unknown=unknown / max(1, every),
        pieces=sum(len(inner[index]) for index in whole) / max(1, words),
    )


def _frame(tokenizer: Any) -> set[int]:
    """Return the tokens that are put around every text."""
    return {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
