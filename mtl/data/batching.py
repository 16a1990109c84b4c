"""Batches of similar length, so that little is padding; a missing label is `IGNORE_INDEX`.

B texts, T tokens of the longest text of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtl.data.entities import Span, spans_or_none
from mtl.data.token_lists import Chunk, Offsets, TokenLists
from mtl.data.token_store import TokenStore
from mtl.errors import CheckpointError

if TYPE_CHECKING:
    from mtl.data.splitting import Examples

IGNORE_INDEX = -100
BUCKET_BATCHES = 50
CHUNK = 4096  # texts tokenised at a time
TOKEN_BUDGET = 1024  # what a processor's cache takes well
DEVICE_BUDGET = 16_384  # other devices want more to do at once


@dataclass(frozen=True)
class Encoding:
    """What tokenising some texts gave beside the ids.

    Attributes:
        texts: As typed.
        offsets: For each text and token the characters it stands for, the end excluded; (0, 0) for special tokens.
            Nothing for a text where no head wants to know.
    """

    texts: tuple[str, ...]
    offsets: Sequence[Offsets]


class LabelEncoder(Protocol):
    """What this module needs of a head."""

    reads: ClassVar[Literal["sentence_embedding", "token_embeddings"]]

    def encode(self, cells: Sequence[str], encoding: Encoding) -> Tensor | list[Tensor]:
        """Turn label cells into targets. Shape: (N,), or one (T,) for each text."""


@dataclass(frozen=True)
class Batch:
    """What one step needs.

    Attributes:
        features: The encoder's inputs, shape (B, T) each, with what its lowest layers gave before, `below`, shape
            (B, T, D), if they do not learn; or what all of it gave before: `sentence_embedding`, shape (B, D), and, if
            a head reads them, `token_embeddings`, shape (B, T, D).
        labels: Task key -> class indices, `IGNORE_INDEX` where there is nothing to learn. Shape: (B,) or (B, T)
        indices: Position of each text among the examples.
        encoding: The texts, and where their tokens are in them.
        spans: For tasks of entities, task key -> those of each text; None where a text is not annotated.
        tasks: Task keys that this batch teaches; None: all.
    """

    features: dict[str, Tensor]
    labels: dict[str, Tensor]
    indices: list[int]
    encoding: Encoding
    spans: dict[str, list[tuple[Span, ...] | None]]
    tasks: tuple[str, ...] | None = None


class Tokenised:
    """Examples tokenised once, from which any batch can be cut.

    Args:
        examples: Texts and label cells.
        tokenizer: A fast Hugging Face tokenizer, which knows where its tokens are in the text.
        max_length: Longest text in tokens; the rest is cut.
        heads: Task key -> (task name, its head).

    Attributes:
        lengths: Tokens of each text.
        embeddings: Set when nothing in the encoder learns: batches then hold these instead of tokens. Shape: (N, D).
        token_embeddings: Likewise; set only if a head reads them.
        below: Set when the lowest layers do not learn: what they give.
        labels: Task key -> targets. Shape: (N,), or one (T,) for each text.
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: Any,
        max_length: int,
        heads: Mapping[str, tuple[str, LabelEncoder]],
    ) -> None:
        self.examples = examples
        self._tokenizer = tokenizer
        places = any(head.reads == "token_embeddings" for _, head in heads.values())
        self._tokens = TokenLists(_chunks(examples.texts, tokenizer, max_length, places=places))
        self.encoding = Encoding(tuple(examples.texts), self._tokens.offsets)
        self.embeddings: Tensor | None = None
        self.token_embeddings: TokenStore | None = None
        self.below: TokenStore | None = None
        self.lengths = self._tokens.lengths
        self.labels = {key: head.encode(examples.cells[name], self.encoding) for key, (name, head) in heads.items()}
        self._spans = {
            key: spans_or_none(examples.texts, examples.cells[name])
            for key, (name, _) in heads.items()
            if isinstance(self.labels[key], list)
        }

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int], tasks: tuple[str, ...] | None = None) -> Batch:
        """Cut out one batch, padded to its own longest text.

        Args:
            indices: Its rows.
            tasks: Task keys that it teaches; None: all.
        """
        chosen = list(indices)
        labels = {key: _cut(values, chosen) for key, values in self.labels.items()}
        encoding = Encoding(
            tuple(self.encoding.texts[i] for i in chosen), tuple(self.encoding.offsets[i] for i in chosen)
        )
        spans = {key: [values[i] for i in chosen] for key, values in self._spans.items()}
        return Batch(self._features(chosen), labels, chosen, encoding, spans, tasks)

    def _features(self, chosen: list[int]) -> dict[str, Tensor]:
        if self.embeddings is None:
            found = pad(self._tokens.take(chosen), self._tokenizer)
            return found if self.below is None else {**found, "below": self.below.take(chosen)}
        found = {"sentence_embedding": self.embeddings[chosen]}
        if self.token_embeddings is not None:
            found["token_embeddings"] = self.token_embeddings.take(chosen)
        return found

    def batches(self, order: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Cut out the batches of an order, one after the other."""
        for indices in order:
            yield self.batch(indices)


def _chunks(texts: Sequence[str], tokenizer: Any, max_length: int, *, places: bool) -> Iterator[Chunk]:
    """Tokenise some texts at a time; say which characters their tokens stand for if it is asked."""
    for start in range(0, len(texts), CHUNK):
        some = texts[start : start + CHUNK]
        yield (
            tokenise_with_offsets(some, tokenizer, max_length)
            if places
            else (tokenise(some, tokenizer, max_length), ())
        )


def _cut(values: Tensor | list[Tensor], chosen: list[int]) -> Tensor:
    if isinstance(values, Tensor):
        return values[chosen]
    return pad_sequence([values[i] for i in chosen], batch_first=True, padding_value=IGNORE_INDEX)


def tokenise(texts: Sequence[str], tokenizer: Any, max_length: int) -> dict[str, list[list[int]]]:
    """Turn texts into token lists, unpadded: input name -> one list per text."""
    if not texts:
        return {name: [] for name in tokenizer.model_input_names}
    return dict(tokenizer(list(texts), truncation=True, max_length=max_length, padding=False))


def tokenise_with_offsets(
    texts: Sequence[str], tokenizer: Any, max_length: int
) -> tuple[dict[str, list[list[int]]], tuple[Offsets, ...]]:
    """Turn texts into token lists as `tokenise` does, and say which characters each token stands for.

    Raises:
        CheckpointError: The tokenizer does not know; only "fast" ones do.
    """
    if not texts:
        return tokenise(texts, tokenizer, max_length), ()
    if not tokenizer.is_fast:
        raise CheckpointError("This encoder's tokenizer does not say where its tokens are; choose one with a fast one.")
    found = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False, return_offsets_mapping=True)
    offsets = tuple(tuple((start, end) for start, end in row) for row in found.pop("offset_mapping"))
    return dict(found), offsets


def pad(tokens: dict[str, list[list[int]]], tokenizer: Any) -> dict[str, Tensor]:
    """Pad token lists to their longest. Shape of each result: (B, T)."""
    # on the right, whatever the tokenizer's own side: labels of tokens are padded there too
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    lengths = np.array([len(row) for row in next(iter(tokens.values()))])
    is_token = np.arange(lengths.max(initial=0)) < lengths[:, None]
    found = {}
    for name, rows in tokens.items():  # five times faster than the tokenizer's own, which is a tenth of the encoding
        values = np.full(is_token.shape, fill.get(name, 0), dtype=np.int64)
        values[is_token] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        found[name] = torch.from_numpy(values)
    return found


def shuffled_buckets(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """Order one epoch: random batches of texts of similar length.

    The rows are shuffled and cut into groups of 50 batches; each group is sorted by length and cut into batches,
    and the batches are shuffled again. Every row comes exactly once.

    Args:
        lengths: Tokens of each text.
        batch_size: Rows of one batch; the last may be smaller.
        generator: Source of the order.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * BUCKET_BATCHES):
        group = sorted(order[start : start + batch_size * BUCKET_BATCHES], key=lambda i: lengths[i])
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def token_budget(device: torch.device) -> int:
    """Return how many tokens a batch should have that teaches nothing, padding counted."""
    return TOKEN_BUDGET if device.type == "cpu" else DEVICE_BUDGET


def by_token_budget(lengths: Sequence[int], budget: int = TOKEN_BUDGET) -> list[list[int]]:
    """Order texts by length and cut them into batches of at most `budget` tokens, padding counted.

    A text longer than the budget is a batch of its own. Every text comes exactly once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
