"""Named entities: a tag for every word, from the token vectors, and characters of the text back from the tags.

Tokens and entities meet by character offsets alone, so any tokenizer that gives offsets will do: WordPiece, byte-level
BPE, SentencePiece. The rule is in `counted_tokens`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mtl.data.batching import IGNORE_INDEX, Encoding, Offsets
from mtl.data.entities import Span, in_word, spans_or_none
from mtl.errors import DataError
from mtl.modeling.heads.base import Entity, EntityPrediction, Head

Counted = list[tuple[int, int, int]]

# closing mark -> what opens it
_PAIRS = dict(zip(""")]}”’»）」』"'""", """([{“‘«（「『"'""", strict=True))
_NEVER_LAST = frozenset(",;:，；：、")


class TokenClassificationHead(Head):
    """Softmax over O and B-, I- of every type, for each token's vector of size D (Ramshaw 1995, arXiv:cmp-lg/9505040).

    `labels` are the types. A token that goes on with a word is not looked at: the first one speaks for the word
    (Devlin 2019, arXiv:1810.04805, section 5.3).
    """

    reads = "token_embeddings"

    @staticmethod
    def name_outputs(labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return O, then B- and I- of each type."""
        return ("O", *(f"{prefix}-{label}" for label in labels for prefix in "BI"))

    def encode(self, cells: Sequence[str], encoding: Encoding) -> list[Tensor]:
        """Turn cells of entities into a tag for each token.

        `IGNORE_INDEX` stands for tokens that do not count, and for all tokens of a text that is not annotated or
        whose cell cannot be read. A token is part of an entity if its first character is.

        Returns:
            One for each text. Shape: (T,).

        Raises:
            DataError: An entity is of a type that is not one of the labels.
        """
        begins = {label: 1 + 2 * number for number, label in enumerate(self.labels)}
        found = spans_or_none(encoding.texts, cells)
        unknown = {span.label for spans in found for span in spans or ()} - begins.keys()
        if unknown:
            raise DataError(f'"{min(unknown)}" is not one of the entity types {", ".join(self.labels)}.')
        return [
            _tags(text, offsets, spans, begins)
            for text, offsets, spans in zip(encoding.texts, encoding.offsets, found, strict=True)
        ]

    def decode(self, logits: Tensor, encoding: Encoding) -> list[EntityPrediction]:
        """Turn logits, shape (B, T, C), into the entities of each text.

        As in conlleval, I- begins an entity where it goes on with none of its type (Tjong Kim Sang 2000,
        arXiv:cs/0009008).
        """
        tags = logits.argmax(dim=-1)  # of the logits, so that no temperature changes what is found
        best = self.probabilities(logits).gather(-1, tags.unsqueeze(-1)).squeeze(-1)
        rows = zip(encoding.texts, encoding.offsets, tags.tolist(), best.tolist(), strict=True)
        return [EntityPrediction(tuple(self._entities(*row))) for row in rows]

    def _entities(self, text: str, offsets: Offsets, tags: list[int], best: list[float]) -> Iterator[Entity]:
        counted = counted_tokens(text, offsets)
        position = 0
        while position < len(counted):
            token, start, end = counted[position]
            position += 1
            tag, confidence = tags[token], best[token]
            if not tag:
                continue
            kind = (tag - 1) // 2
            first = start
            while position < len(counted) and tags[counted[position][0]] == 2 * kind + 2:
                token, start, end = counted[position]
                confidence = min(confidence, best[token])
                position += 1
            yield Entity(first, _end(text, first, start, end), self.labels[kind], confidence)


def counted_tokens(text: str, offsets: Offsets) -> Counted:
    """List the tokens that have a tag: those that begin a word, or are something between words.

    A token does not count if it is special; if it is nothing but white space; if it begins, white space aside, where
    the token before did (one of several for a character); or if it begins inside a word, as `mtl.data.entities` has it,
    where no entity can begin. In scripts without blanks between words every other token counts.

    Returns:
        For each its position among the tokens, its first character, and the end of what it stands for: its own, or that
        of the tokens after it which do not count.
    """
    counted: Counted = []
    last = -1
    for position, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():
            start += 1
        if start == end:
            continue
        while text[end - 1].isspace():
            end -= 1
        if start > last and not (start and in_word(text[start - 1]) and in_word(text[start])):
            if counted and counted[-1][2] > start:  # it holds a few bytes of this one's first character
                counted[-1] = (*counted[-1][:2], start)
            counted.append((position, start, end))
            last = start
        elif counted and end > counted[-1][2]:
            better = position if start == last else counted[-1][0]  # the word, after SentencePiece's mark before it
            counted[-1] = (better, last, end)
    return counted


def _tags(text: str, offsets: Offsets, spans: tuple[Span, ...] | None, begins: dict[str, int]) -> Tensor:
    """Tag the tokens of one text. Shape: (T,)."""
    tags = [IGNORE_INDEX] * len(offsets)
    if spans is not None:
        rest = list(reversed(spans))
        begun = False
        for token, start, _ in counted_tokens(text, offsets):
            while rest and rest[-1].end <= start:
                rest.pop()
                begun = False
            inside = bool(rest) and rest[-1].start <= start
            tags[token] = begins[rest[-1].label] + begun if inside else 0
            begun = inside
    return torch.tensor(tags, dtype=torch.long)


def _end(text: str, first: int, start: int, end: int) -> int:
    """Say where an entity ends whose last token stands for text[start:end].

    Never inside a word, even one that was cut off with the rest of a long text. A token such as `.,` or `."` may reach
    beyond the entity, which its tag, that of its first character, cannot say: the entity ends before what hardly is
    part of a name, that is commas, colons, and quotation marks and brackets that it did not open.
    """
    while end < len(text) and in_word(text[end - 1]) and in_word(text[end]):
        end += 1
    marks = end
    while marks - 1 > start and not text[marks - 1].isalnum():
        marks -= 1
    return next((at for at in range(marks, end) if _is_beyond(text[first:at], text[at])), end)


def _is_beyond(entity: str, mark: str) -> bool:
    if mark in _NEVER_LAST or mark.isspace():
        return True
    if mark not in _PAIRS:
        return False
    opener = _PAIRS[mark]
    return not entity.count(opener) % 2 if opener == mark else entity.count(opener) <= entity.count(mark)
