"""How fast could this processor be? Its own measured peak of matrix products, and how much of it a piece of work uses.

    python benchmarks/peak.py

Products of the sizes of the work (a batch of 1,024 tokens through a layer that is 384 wide and 1,536 inside) and a
large square one, in float32 through PyTorch's default library and through oneDNN, and in bfloat16; the best of each
counts. It takes some seconds.

B texts, T tokens of a text.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from mtl.training.numerics import best_device

SIZES = ((1024, 384, 1536), (1024, 1536, 384), (2048, 2048, 2048))  # rows, inner, columns
LEAST_SECONDS = 0.25  # for each size and way
MAX_ERROR = 1e-5  # relative; oneDNN may be told to round to bfloat16 by the same switch on some processors


@dataclass(frozen=True)
class Peak:
    """The most that was measured, in GFLOP/s."""

    float32: float
    bfloat16: float

    def __or__(self, other: Peak) -> Peak:
        """Take the better of two measurements: a peak is what was ever reached."""
        return Peak(max(self.float32, other.float32), max(self.bfloat16, other.bfloat16))

    def __str__(self) -> str:
        return f"Measured peak: {self.float32:,.0f} GFLOP/s in float32, {self.bfloat16:,.0f} in bfloat16."

    def share(self, effort: Effort) -> str:
        """Say how much of each peak some work reached."""
        reached = effort.flops / effort.seconds / 1e9
        shares = f"{reached / self.float32:.2f} / {reached / self.bfloat16:.2f}"
        if effort.goal is not None:
            met = reached >= effort.goal * self.bfloat16
            shares += f" (goal {effort.goal:g} of bfloat16: {'met' if met else 'NOT MET'})"
        if effort.ratio is not None:
            shares += f"; at that peak it would be {effort.ratio * self.bfloat16 / reached:.1f} x"
        return shares


@dataclass(frozen=True)
class Effort:
    """How many operations took how long.

    Attributes:
        flops: Of the matrix products alone.
        seconds: Of all the work.
        goal: Share of the peak in bfloat16 that is wanted; None: none is.
        ratio: How many times as fast as its peer this was; None: not to be told what is possible at most.
    """

    flops: float
    seconds: float
    goal: float | None = None
    ratio: float | None = None


def measure_peak() -> Peak:
    """Measure the peak of the device that the app would use."""
    device = best_device()
    float32 = bfloat16 = 0.0
    with torch.inference_mode():
        for rows, inner, columns in SIZES:
            left = torch.randn(rows, inner, device=device)
            right = torch.randn(columns, inner, device=device)
            flops = 2 * rows * inner * columns
            exact = F.linear(left, right)
            float32 = max(float32, flops / _fastest(partial(F.linear, left, right)))
            with _one_dnn():
                if float((F.linear(left, right) - exact).abs().max() / exact.abs().max()) < MAX_ERROR:
                    float32 = max(float32, flops / _fastest(partial(F.linear, left, right)))
            low, weights = left.bfloat16(), right.bfloat16()
            bfloat16 = max(bfloat16, flops / _fastest(partial(F.linear, low, weights)))
    return Peak(float32 / 1e9, bfloat16 / 1e9)


@contextmanager
def _one_dnn() -> Iterator[None]:
    """Send float32 products to oneDNN instead of the default library, where PyTorch has it."""
    backend: Any = torch.backends.mkldnn
    if not backend.is_available():
        yield
        return
    settings = backend.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _fastest(product: Callable[[], Tensor]) -> float:
    """Return the seconds of the fastest of many products."""
    product()
    best, end = float("inf"), time.perf_counter() + LEAST_SECONDS
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        found = product()
        if found.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def forward_flops(config: Any, lengths: Sequence[int], layers: int | None = None) -> float:
    """Count the operations of the matrix products that texts need, padding aside.

    Args:
        config: A Transformer's own: how many layers of which widths.
        lengths: Tokens of each text.
        layers: How many of the layers; None: all.
    """
    hidden, inside = config.hidden_size, config.intermediate_size
    depth = config.num_hidden_layers if layers is None else layers
    products = 4 * hidden * hidden + 2 * hidden * inside  # query, key, value and output; into the middle and out
    attention = 2 * hidden * sum(length * length for length in lengths)  # scores, and what they weigh
    return float(depth * 2 * (products * sum(lengths) + attention))


def training_flops(config: Any, lengths: Sequence[int], frozen: int = 0, *, kept: bool = False) -> float:
    """Count the operations of one epoch of training: forward, and backward twice that, except where nothing learns.

    Args:
        config: As above.
        lengths: Tokens of each text.
        frozen: Layers from the bottom that do not learn, and so have no backward pass.
        kept: Whether what the frozen ones give is computed once, outside this epoch.
    """
    learning = forward_flops(config, lengths, config.num_hidden_layers - frozen)
    below = 0.0 if kept else forward_flops(config, lengths, frozen)
    return 3 * learning + below


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    print(measure_peak())
    return 0


if __name__ == "__main__":
    sys.exit(main())
