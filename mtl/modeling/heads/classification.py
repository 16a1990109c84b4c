"""One class per text: a linear layer, or a small MLP, on the sentence embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.config import HeadShape
from mtl.data.batching import IGNORE_INDEX
from mtl.data.reading import is_missing
from mtl.errors import DataError
from mtl.modeling.heads.base import Head, Prediction


class ClassificationHead(Head):
    """Softmax over C classes of a sentence embedding of size D.

    Args:
        input_size: D.
        labels: The C classes in the order of the logits.
        shape: `linear`, or `mlp` with one hidden layer of size D.
        dropout: Probability of dropping an input of each linear layer.
    """

    def __init__(
        self, input_size: int, labels: tuple[str, ...], *, shape: HeadShape = "linear", dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.labels = labels
        hidden = [nn.Dropout(dropout), nn.Linear(input_size, input_size), nn.GELU()] if shape == "mlp" else []
        self.layers = nn.Sequential(*hidden, nn.Dropout(dropout), nn.Linear(input_size, len(labels)))

    def encode(self, cells: Sequence[str]) -> Tensor:
        """Turn label cells into class indices, `IGNORE_INDEX` where a cell is empty. Shape: (B,).

        Raises:
            DataError: A cell is not one of the labels.
        """
        index = {label: number for number, label in enumerate(self.labels)}
        unknown = next((cell for cell in cells if cell not in index and not is_missing(cell)), None)
        if unknown is not None:
            raise DataError(f'"{unknown}" is not one of the labels {", ".join(self.labels)}.')
        return torch.tensor([index.get(cell, IGNORE_INDEX) for cell in cells], dtype=torch.long)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Compute logits from `sentence_embedding`, shape (B, D). Shape: (B, C)."""
        return self.layers(features["sentence_embedding"])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Average the cross-entropy over the labelled rows. Shape: ()."""
        return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX)

    def decode(self, logits: Tensor) -> list[Prediction]:
        """Turn logits into one prediction per text."""
        return [
            Prediction(self.labels[best], row[best], dict(zip(self.labels, row, strict=True)))
            for row in logits.float().softmax(dim=-1).tolist()
            for best in [max(range(len(row)), key=row.__getitem__)]
        ]
