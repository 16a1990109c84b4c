"""A batch that is too large for the memory, encoded in parts.

Each part's activations are computed again when its gradient is (Chen et al. 2016, arXiv:1604.06174), so only one
part is in memory at a time and the gradients add up. The losses, and all that weightings make of them, are those of
the whole batch: the effective batch size stays.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mtl.modeling.multitask import MultiTaskModel


def encode(model: MultiTaskModel, features: dict[str, Tensor], parts: int) -> dict[str, Tensor]:
    """Encode a batch in so many parts; in one it is `model.encode`.

    Args:
        model: Its encoder runs once for each part, and once more in the backward pass.
        features: The encoder's inputs. Shape: each (B, T); or what it gave before, which needs no parts.
        parts: At most B.

    Returns:
        As `MultiTaskModel.encode`.
    """
    if parts == 1 or "sentence_embedding" in features:
        return model.encode(features)
    rows = next(iter(features.values())).shape[0]
    size = -(-rows // parts)
    pieces = [
        checkpoint(
            model.encode, {name: value[first : first + size] for name, value in features.items()}, use_reentrant=False
        )
        for first in range(0, rows, size)
    ]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
