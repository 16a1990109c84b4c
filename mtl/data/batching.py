"""Batches of similar length, so that little is padding; a missing label is `IGNORE_INDEX`.

B texts, T tokens of the longest text of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mtl.data.splitting import Examples

IGNORE_INDEX = -100
BUCKET_BATCHES = 50
TOKEN_BUDGET = 2048

Encode = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Batch:
    """What one step needs.

    Attributes:
        features: The encoder's inputs, shape (B, T) each; or `sentence_embedding` computed before, shape (B, D).
        labels: Task key -> class indices, `IGNORE_INDEX` where the cell is empty. Shape: (B,)
        indices: Position of each text among the examples.
    """

    features: dict[str, Tensor]
    labels: dict[str, Tensor]
    indices: list[int]


class Tokenised:
    """Examples tokenised once, from which any batch can be cut.

    Args:
        examples: Texts and label cells.
        tokenizer: A Hugging Face tokenizer.
        max_length: Longest text in tokens; the rest is cut.
        encoders: Task key -> (task name, the head's `encode`).

    Attributes:
        lengths: Tokens of each text.
        embeddings: Set when nothing in the encoder learns: batches then hold these instead of tokens. Shape: (N, D).
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: Any,
        max_length: int,
        encoders: Mapping[str, tuple[str, Encode]],
    ) -> None:
        self.examples = examples
        self._tokenizer = tokenizer
        self._tokens = tokenise(examples.texts, tokenizer, max_length)
        self.embeddings: Tensor | None = None
        self.lengths = [len(ids) for ids in self._tokens["input_ids"]]
        self._labels = {key: encode(examples.cells[name]) for key, (name, encode) in encoders.items()}

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Cut out one batch, padded to its own longest text."""
        chosen = list(indices)
        labels = {key: values[chosen] for key, values in self._labels.items()}
        if self.embeddings is not None:
            return Batch({"sentence_embedding": self.embeddings[chosen]}, labels, chosen)
        features = pad({name: [rows[i] for i in chosen] for name, rows in self._tokens.items()}, self._tokenizer)
        return Batch(features, labels, chosen)

    def batches(self, order: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Cut out the batches of an epoch, one after the other."""
        for indices in order:
            yield self.batch(indices)


def tokenise(texts: Sequence[str], tokenizer: Any, max_length: int) -> dict[str, list[list[int]]]:
    """Turn texts into token lists, unpadded: input name -> one list per text."""
    if not texts:
        return {name: [] for name in tokenizer.model_input_names}
    return dict(tokenizer(list(texts), truncation=True, max_length=max_length, padding=False))


def pad(tokens: dict[str, list[list[int]]], tokenizer: Any) -> dict[str, Tensor]:
    """Pad token lists to their longest. Shape of each result: (B, T)."""
    return dict(tokenizer.pad(tokens, padding=True, return_tensors="pt"))


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
