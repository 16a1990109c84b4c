"""What every head does: encode label cells, make logits, compute its loss, decode predictions.

B texts, T tokens, D embedding size, C outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mtl.choices import ClassWeights, HeadShape, Loss
from mtl.data.batching import Encoding
from mtl.modeling.heads.losses import LOSSES, weights_of_classes


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


@dataclass(frozen=True, slots=True)
class Entity:
    """A named entity that a head found.

    Attributes:
        start: Its first character.
        end: The character after its last.
        label: Its type.
        confidence: The lowest probability among the tags of its tokens: it is right only if all of them are.
    """

    start: int
    end: int
    label: str
    confidence: float


@dataclass(frozen=True)
class EntityPrediction:
    """The entities that a head found in one text, in their order; no two overlap."""

    entities: tuple[Entity, ...]


class Head(nn.Module, ABC):
    """One task's output layer on the shared encoder's features: a linear layer, or a small MLP.

    Args:
        input_size: D.
        labels: The classes, or the types of entities.
        shape: `linear`, or `mlp` with one hidden layer of size D.
        dropout: Probability of dropping an input of each linear layer.
        loss: A key of `LOSSES`.
        focal_gamma: How much focal loss looks away from what is easy.
        label_smoothing: Share of the target that is spread over all outputs.
        class_weights: How `weigh_classes` weighs.

    Attributes:
        reads: The feature it looks at. Shape: (B, D) or (B, T, D).
        labels: The classes in the order of the logits, or the types of entities.
        output_names: What each logit stands for.
        outputs: C.
        temperature: What `decode` divides logits by; set after training, so that probabilities are honest (Guo 2017,
            arXiv:1706.04599). Shape: ().
        class_weights: How much each output counts in the loss; None: the same. Shape: (C,).
    """

    reads: ClassVar[Literal["sentence_embedding", "token_embeddings"]]
    temperature: Tensor
    class_weights: Tensor | None

    def __init__(
        self,
        input_size: int,
        labels: tuple[str, ...],
        *,
        shape: HeadShape = "linear",
        dropout: float = 0.1,
        loss: Loss = "cross_entropy",
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = "none",
    ) -> None:
        super().__init__()
        self.labels = labels
        self.output_names = self.name_outputs(labels)
        self.outputs = len(self.output_names)
        hidden = [nn.Dropout(dropout), nn.Linear(input_size, input_size), nn.GELU()] if shape == "mlp" else []
        self.layers = nn.Sequential(*hidden, nn.Dropout(dropout), nn.Linear(input_size, self.outputs))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("class_weights", None, persistent=False)
        self._loss, self._gamma, self._smoothing, self._weighing = loss, focal_gamma, label_smoothing, class_weights

    @staticmethod
    @abstractmethod
    def name_outputs(labels: tuple[str, ...]) -> tuple[str, ...]:
        """Say what each logit of a head with these labels stands for."""

    @abstractmethod
    def encode(self, cells: Sequence[str], encoding: Encoding) -> Tensor | list[Tensor]:
        """Turn label cells into targets, `IGNORE_INDEX` where there is nothing to learn.

        Returns:
            Class indices, shape (B,); or, for a head of tokens, those of each text, shape (T,).
        """

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Compute logits from the encoder's features. Shape: (B, C) or (B, T, C)."""
        return self.layers(features[self.reads])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Average the loss over the labelled items only; there must be at least one. Shape: ()."""
        return LOSSES[self._loss](
            logits.flatten(end_dim=-2),
            labels.flatten(),
            class_weights=self.class_weights,
            label_smoothing=self._smoothing,
            gamma=self._gamma,
        )

    def weigh_classes(self, labels: Tensor) -> None:
        """Set the weights of the classes by how often each occurs.

        Args:
            labels: All targets of the training rows, `IGNORE_INDEX` among them. Shape: (N,).
        """
        weights = weights_of_classes(labels, self.outputs, self._weighing)
        self.class_weights = None if weights is None else weights.to(self.temperature.device)

    @abstractmethod
    def decode(self, logits: Tensor, encoding: Encoding) -> Sequence[Prediction | EntityPrediction]:
        """Turn logits into one prediction per text. Shape of the logits: (B, C) or (B, T, C)."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits into probabilities, at the head's temperature. Shape: as the logits."""
        return (logits.float() / self.temperature.to(logits.device)).softmax(dim=-1)
