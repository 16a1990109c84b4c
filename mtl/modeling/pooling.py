"""From token vectors to one vector per text: mean, max and cls are sentence-transformers' own, attention is ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer.modules.pooling import Pooling
from torch import nn

from mtl.choices import Pooling as PoolingName

HUB_OPTIONS = frozenset({"subfolder", "token", "cache_folder", "revision", "local_files_only"})


class AttentionPooling(Module):
    """A learned weighted average of the token vectors (additive attention with one query; Lin et al. 2017,
    arXiv:1703.03130, with a single hop and a linear score).

    The score starts at zero for every token, so before training this is mean pooling.
    """  # noqa: D205

    config_keys = ["embedding_dimension"]

    def __init__(self, embedding_dimension: int) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.score = nn.Linear(embedding_dimension, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding` to the features.

        Args:
            features: With `token_embeddings`, shape (B, T, D), and `attention_mask`, shape (B, T).
            kwargs: Ignored; sentence-transformers passes what other modules understand.
        """
        tokens = features["token_embeddings"]
        scores = self.score(tokens).squeeze(-1)
        scores = scores.masked_fill(features["attention_mask"] == 0, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        features["sentence_embedding"] = torch.einsum("bt,btd->bd", weights, tokens)
        return features

    def get_embedding_dimension(self) -> int:
        """Return D, which pooling leaves as it is."""
        return self.embedding_dimension

    def save(self, output_path: str, *args: object, safe_serialization: bool = True, **kwargs: object) -> None:
        """Write the configuration and the weights, as sentence-transformers' modules do."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> Self:
        """Read what `save` wrote; the inherited method would leave the weights at their start."""
        where = {name: value for name, value in kwargs.items() if name in HUB_OPTIONS}
        module = super().load(model_name_or_path, *args, **kwargs)
        return cls.load_torch_weights(model_name_or_path, model=module, **where)


POOLINGS: dict[PoolingName, Callable[[int], Module]] = {
    "mean": lambda size: Pooling(size, "mean"),
    "cls": lambda size: Pooling(size, "cls"),
    "max": lambda size: Pooling(size, "max"),
    "attention": AttentionPooling,
}
