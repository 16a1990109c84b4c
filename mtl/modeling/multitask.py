"""One shared encoder, a head per task: every text is encoded once, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from mtl.config import RunConfig, TaskConfig
from mtl.data.batching import IGNORE_INDEX
from mtl.modeling.encoder import load_encoder, transformer_of
from mtl.modeling.heads import HEADS, Head
from mtl.modeling.layers import Below, beginning_above, find_embeddings_and_layers, output_below, rounding
from mtl.tasks import TaskSpec


class MultiTaskModel(nn.Module):
    """A sentence encoder and its heads.

    Args:
        encoder: Transformer -> pooling [-> projection] [-> LayerNorm] [-> Normalize].
        heads: Task key -> head.
        tasks: The tasks in the order of the heads.

    Attributes:
        precision: The type the Transformer multiplies in; weights, pooling and heads are always float32.
        handed: The type of what its layers hand to each other, float32 or `precision`.
        below: The lowest layers, if what they give is known before for the rows that are computed.
        changed: Parts whose weights are not, or not for long, those of the base encoder: they learn in this run, or
            did in an earlier one.
    """

    def __init__(self, encoder: SentenceTransformer, heads: Mapping[str, Head], tasks: Iterable[TaskSpec]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.tasks = tuple(tasks)
        self.precision = self.handed = torch.float32
        self.below: Below | None = None
        self.changed: frozenset[str] = frozenset()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def head(self, key: str) -> Head:
        """Return the head of a task."""
        return cast(Head, self.heads[key])

    @property
    def reads_tokens(self) -> bool:
        """Whether a head looks at the vectors of single tokens."""
        return any(self.head(key).reads == "token_embeddings" for key in self.heads)

    def encode(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the encoder once.

        Args:
            features: `input_ids`, `attention_mask` … Shape: each (B, T). With `below`, shape (B, T, D), only the layers
                above these run. With a `sentence_embedding` that was computed before, shape (B, D), and the token
                vectors if a head reads them, there is nothing left to run.

        Returns:
            The features, without `below`, and with `token_embeddings`, shape (B, T, D), and `sentence_embedding`, shape
            (B, D).
        """
        device = self.device
        features = {name: sent(value, device) for name, value in features.items()}
        if "sentence_embedding" in features:
            return features
        transformer, *rest = self.encoder
        with self._above(features.pop("below", None)), self._handing_on(), self._autocast():
            features = transformer(features)
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in rest:
            features = module(features)
        return features

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def _handing_on(self) -> AbstractContextManager[None]:
        return nullcontext() if self.handed == torch.float32 else rounding(self._stack[0], self.handed)

    def _above(self, vectors: Tensor | None) -> AbstractContextManager[None]:
        if vectors is None or self.below is None:
            return nullcontext()
        return beginning_above(self.layers, self.below, vectors.to(self.handed))

    @cached_property
    def _stack(self) -> tuple[nn.Module, list[nn.Module]]:
        embeddings, layers = find_embeddings_and_layers(transformer_of(self.encoder))
        return embeddings, list(layers)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers of the Transformer, bottom first."""
        return self._stack[1]

    def output_below(self, features: dict[str, Tensor], count: int) -> tuple[Tensor, bool]:
        """Run the lowest `count` layers; see `mtl.modeling.layers.output_below`."""
        return output_below(self.layers, count, lambda: self.encode(features))

    def forward(self, features: dict[str, Tensor], tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Compute the logits of any subset of tasks from one encoder pass.

        Args:
            features: The encoder's inputs. Shape: each (B, T).
            tasks: Task keys; None means all, an empty list none.

        Returns:
            Task key -> logits. Shape: each (B, C), for entities (B, T, C).
        """
        wanted = list(self.heads) if tasks is None else list(tasks)
        return self.answer(self.encode(features), wanted) if wanted else {}

    def answer(self, encoded: dict[str, Tensor], tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Ask the heads about what `encode` returned.

        Returns:
            Task key -> logits. Shape: each (B, C), for entities (B, T, C).
        """
        return {key: self.head(key)(encoded) for key in (self.heads if tasks is None else tasks)}

    def losses(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the loss of every task that has a label in this batch; the others are absent.

        Args:
            logits: Task key -> logits. Shape: (B, C), for entities (B, T, C).
            labels: Task key -> class indices. Shape: (B,), for entities (B, T).
        """
        return {
            key: self.head(key).loss(values, sent(labels[key], values.device))
            for key, values in logits.items()
            if bool((labels[key] != IGNORE_INDEX).any())
        }

    def train(self, mode: bool = True) -> MultiTaskModel:
        """Switch to training, except what is frozen: it stays in evaluation mode, without dropout.

        So a frozen part computes the same whether or not the rest is training.
        """
        super().train(mode)
        if mode:
            parameters = list(self.named_parameters(remove_duplicate=False))
            weighing, learning = (set(_paths(parameters, learn)) for learn in (False, True))
            _rest(self, "", weighing, learning)
        return self


def _paths(parameters: Iterable[tuple[str, nn.Parameter]], learn: bool) -> Iterator[str]:
    """Name the modules that have weights within; or, of them, those in which any learns."""
    for name, parameter in parameters:
        while name and (parameter.requires_grad or not learn):
            name = name.rpartition(".")[0]
            yield name


def _rest(module: nn.Module, path: str, weighing: set[str], learning: set[str]) -> None:
    """Switch the topmost modules that have weights, none of which learns, to evaluation mode."""
    for name, child in module.named_children():
        below = f"{path}.{name}" if path else name
        if below in learning:
            _rest(child, below, weighing, learning)
        elif below in weighing:
            child.eval()


def sent(value: Tensor, device: torch.device) -> Tensor:
    """Send values to a device; to a GPU from pinned memory, so that nothing waits for it. Shape: any; it stays."""
    pinned = value.pin_memory() if device.type == "cuda" and value.device.type == "cpu" else value
    return pinned.to(device, non_blocking=True)


def build_head(task: TaskSpec, config: TaskConfig, *, sentence_size: int, token_size: int) -> Head:
    """Make a task's head with fresh weights.

    Args:
        task: What it predicts.
        config: How.
        sentence_size: Width of a sentence embedding.
        token_size: Width of the Transformer's token vectors.
    """
    kind = HEADS[task.kind]
    return kind(
        token_size if kind.reads == "token_embeddings" else sentence_size,
        task.labels,
        shape=config.head,
        dropout=config.dropout,
        loss=config.loss,
        focal_gamma=config.focal_gamma,
        label_smoothing=config.label_smoothing,
        class_weights=config.class_weights,
    )


def build_model(config: RunConfig, tasks: Iterable[TaskSpec]) -> MultiTaskModel:
    """Load the encoder and make a fresh head for every task; the same seed gives the same weights.

    Raises:
        CheckpointError: The encoder cannot be loaded.
    """
    torch.manual_seed(config.training.seed)
    encoder = load_encoder(
        config.encoder.name,
        pooling=config.encoder.pooling,
        projection=config.encoder.projection,
        layer_norm=config.encoder.layer_norm,
        normalize=config.encoder.normalize,
        max_length=config.encoder.max_length,
    )
    tasks = tuple(tasks)
    sizes = {"sentence_size": embedding_size(encoder), "token_size": token_size(encoder)}
    heads = {task.key: build_head(task, config.tasks.get(task.name, TaskConfig()), **sizes) for task in tasks}
    return MultiTaskModel(encoder, heads, tasks)


def embedding_size(encoder: SentenceTransformer) -> int:
    """Return D, the width of a sentence embedding.

    Raises:
        ValueError: No module of the encoder says its width.
    """
    size = encoder.get_embedding_dimension()
    if size is None:
        raise ValueError("the encoder does not say how wide its embeddings are")
    return size


def token_size(encoder: SentenceTransformer) -> int:
    """Return the width of the Transformer's token vectors."""
    transformer: Any = encoder[0]
    return int(transformer.get_embedding_dimension())
