"""What an exact continuation of a run needs, beside its configuration and its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class State:
    """A run between two events.

    Attributes:
        tensors: Weights that learn, the optimizer's moments, what the weighting keeps, the random states.
        best: The best weights so far; empty until an epoch has ended.
        values: Everything else, as plain JSON.
    """

    tensors: dict[str, Tensor]
    best: dict[str, Tensor]
    values: dict[str, Any]
