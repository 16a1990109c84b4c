"""The embedding does not rot: how far training moves the embeddings of fixed texts, and whether they stay apart.

B texts, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from mtl.data.batching import by_token_budget, pad, tokenise
from mtl.modeling.encoder import max_length_of
from mtl.modeling.multitask import MultiTaskModel, embedding_size

LEAST_ANCHORS, MOST_ANCHORS = 32, 128
SHARE = 8  # one text in eight: embedding them takes about 4 % of an epoch, which is a forward and a backward pass
# Any two texts nearly alike: on such embeddings neither a search nor a threshold works.
COLLAPSED_COSINE = 0.9
# Some encoders start that way (Ethayarajh 2019, arXiv:1909.00512) and are none the worse for training. One minus the
# mean cosine is the variance of the embeddings; with a quarter of it left, distances are half of what they were.
COLLAPSED_SPREAD = 0.25


@dataclass(frozen=True)
class EmbeddingHealth:
    """What training has done to the embeddings of the anchors so far.

    Attributes:
        drift: One minus the mean cosine of an anchor's embedding now with that of the start: 0 unmoved, 1 unrelated.
        random_cosine: Mean cosine of two different anchors, now.
        start_random_cosine: The same at the start.
        collapsed: Whether all texts look alike now and did not at the start.
    """

    drift: float
    random_cosine: float
    start_random_cosine: float
    collapsed: bool


class Anchors:
    """Fixed texts that are embedded at the start and looked at again after each epoch.

    Args:
        model: As it is at the start; its state and its mode stay as they are.
        texts: To draw from; equal ones count once.
        seed: Of the draw: two runs of a seed have the same anchors. The global random numbers are left alone.

    Attributes:
        texts: The anchors, from 32 to 128 different texts as far as there are so many.
        start: Their embeddings at the start, of length 1. Shape: (B, D), float64.
    """

    def __init__(self, model: MultiTaskModel, texts: Sequence[str], *, seed: int) -> None:
        different = list(dict.fromkeys(texts))
        order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed)).tolist()
        count = min(MOST_ANCHORS, max(LEAST_ANCHORS, len(different) // SHARE))
        self.texts = tuple(different[i] for i in order[:count])
        self._tokens = tokenise(self.texts, model.encoder.tokenizer, max_length_of(model.encoder))
        self.start = self._embed(model)

    def look(self, model: MultiTaskModel) -> EmbeddingHealth | None:
        """Embed the anchors again and compare.

        Returns:
            None with fewer than two anchors, or where an embedding is not finite.
        """
        if len(self.texts) < 2:
            return None
        now = self._embed(model)
        # half the squared distance of unit vectors: one minus the cosine, and exactly 0 for what did not move
        drift = float((now - self.start).square().sum(dim=1).mean() / 2)
        alike, alike_at_start = mean_cosine(now), mean_cosine(self.start)
        if not math.isfinite(drift + alike):
            return None
        return EmbeddingHealth(drift, alike, alike_at_start, is_collapsed(alike, alike_at_start))

    @torch.no_grad()
    def _embed(self, model: MultiTaskModel) -> Tensor:
        """Return the anchors' embeddings of length 1. Shape: (B, D), float64 on the CPU."""
        found = torch.empty(len(self.texts), embedding_size(model.encoder), dtype=torch.float64)
        lengths = [len(ids) for ids in self._tokens["input_ids"]]
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            for chosen in by_token_budget(lengths):
                tokens = {name: [rows[i] for i in chosen] for name, rows in self._tokens.items()}
                encoded = model.encode(pad(tokens, model.encoder.tokenizer))
                found[chosen] = encoded["sentence_embedding"].cpu().double()
        finally:
            for module, mode in modes:
                module.training = mode
        return normalize(found, dim=1)


def mean_cosine(units: Tensor) -> float:
    """Return the mean cosine over all pairs of different rows.

    Args:
        units: At least two vectors of length 1. Shape: (B, D).
    """
    count = len(units)
    # the squared length of the sum holds each pair twice, and each vector with itself
    return float((units.sum(dim=0).square().sum() - units.square().sum()) / (count * (count - 1)))


def is_collapsed(random_cosine: float, start_random_cosine: float) -> bool:
    """Say whether texts that were told apart at the start look alike now."""
    lost = 1 - random_cosine < COLLAPSED_SPREAD * (1 - start_random_cosine)
    return random_cosine > COLLAPSED_COSINE and lost


def closeness_loss(embeddings: Tensor, start: Tensor) -> Tensor:
    """Return how far embeddings have turned away: the mean of one minus the cosine. Only the first get a gradient.

    Args:
        embeddings: Of the model that learns. Shape: (B, D).
        start: Of the same texts, from the model at the start. Shape: (B, D).
    """
    return (1 - cosine_similarity(embeddings.float(), start.detach().float(), dim=1)).mean()
