"""What every head does: encode label cells, make logits, compute its loss, decode predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Prediction:
    """A head's answer for one text.

    Attributes:
        label: The most probable class.
        confidence: Its probability.
        probabilities: Class -> probability, in the order of the task's labels.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]


class Head(nn.Module, ABC):
    """One task's output layer on the shared encoder's features."""

    labels: tuple[str, ...]

    @abstractmethod
    def encode(self, cells: Sequence[str]) -> Tensor:
        """Turn label cells into targets, `IGNORE_INDEX` where a cell is empty. Shape: (B,) or (B, T)."""

    @abstractmethod
    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Compute logits from the encoder's features. Shape: (B, C) or (B, T, C)."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Average the loss over the labelled items only; there must be at least one. Shape: ()."""

    @abstractmethod
    def decode(self, logits: Tensor) -> list[Prediction]:
        """Turn logits into one prediction per text."""
