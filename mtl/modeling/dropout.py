"""Dropout (Srivastava et al. 2014) that is quick on a processor, where PyTorch draws its masks number by number.

A mask takes one random byte a value instead of one random float, eight bytes at a draw. They come from the same
generator as all of a run's random numbers, so the same seed gives the same masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 256  # of a byte: the probability is rounded to one of them, and never to 0 or 1
LEAST, MOST = -(2**63), None  # all 64 bits; without a lower end the sign would always be the same


class ByteDropout(nn.Module):
    """Drops values with a probability and scales the others, as `nn.Dropout` does.

    Args:
        p: The probability, which is rounded to a multiple of 1/256; what is left is scaled by the rounded one, so the
            mean stays exact.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._dropped = min(max(round(p * LEVELS), 1), LEVELS - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Drop some values in training. Shape: any; it stays."""
        if not self.training:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(LEAST, MOST)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self._dropped
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - self._dropped))

    def extra_repr(self) -> str:
        """Say the probability, as `nn.Dropout` does."""
        return f"p={self.p}"


def quicken_dropout(module: nn.Module) -> None:
    """Replace every `nn.Dropout` in a module; names and weights stay. For the CPU: a GPU draws masks quickly.

    Args:
        module: Changed in place.
    """
    for name, child in module.named_children():
        if type(child) is nn.Dropout and 0 < child.p < 1:
            setattr(module, name, ByteDropout(child.p))
        else:
            quicken_dropout(child)
