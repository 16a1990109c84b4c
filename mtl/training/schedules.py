"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Callable

from mtl.choices import Schedule

SCHEDULES: dict[Schedule, Callable[[float], float]] = {
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "constant": lambda progress: 1.0,
}


def rate_factor(schedule: Schedule, step: int, *, steps: int, warmup: float) -> float:
    """Return the fraction of the peak rate used in a step.

    It rises linearly from 1/w in the first step to 1 in step w of the warm-up, then follows the schedule, which
    reaches its end one step after the last.

    Args:
        schedule: Shape after the warm-up.
        step: 0 for the first step of the run.
        steps: Steps of the whole run.
        warmup: Fraction of the steps in which the rate rises.
    """
    rising = round(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return SCHEDULES[schedule]((step - rising) / max(1, steps - rising))
