"""One class per text, from the sentence embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.data.batching import IGNORE_INDEX, Encoding
from mtl.data.reading import is_missing
from mtl.errors import DataError
from mtl.modeling.heads.base import Head, Prediction


class ClassificationHead(Head):
    """Softmax over C classes of a sentence embedding of size D."""

    reads = "sentence_embedding"

    @staticmethod
    def name_outputs(labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the classes: each has one logit."""
        return labels

    def encode(self, cells: Sequence[str], encoding: Encoding | None = None) -> Tensor:
        """Turn label cells into class indices, `IGNORE_INDEX` where a cell is empty. Shape: (B,).

        Raises:
            DataError: A cell is not one of the labels.
        """
        index = {label: number for number, label in enumerate(self.labels)}
        unknown = next((cell for cell in cells if cell not in index and not is_missing(cell)), None)
        if unknown is not None:
            raise DataError(f'"{unknown}" is not one of the labels {", ".join(self.labels)}.')
        return torch.tensor([index.get(cell, IGNORE_INDEX) for cell in cells], dtype=torch.long)

    def decode(self, logits: Tensor, encoding: Encoding | None = None) -> list[Prediction]:
        """Turn logits, shape (B, C), into one prediction per text."""
        best = logits.argmax(dim=-1).tolist()  # of the logits, so that no temperature changes the answer
        return [
            Prediction(self.labels[number], row[number], dict(zip(self.labels, row, strict=True)))
            for number, row in zip(best, self.probabilities(logits).tolist(), strict=True)
        ]
