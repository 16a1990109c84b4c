"""What a weighting demands of a step and of the installation; nothing here imports torch, so that a page can ask."""

from __future__ import annotations

from importlib.util import find_spec

from mtl.choices import WEIGHTING_EXTRAS, Weighting
from mtl.errors import ConfigError

TORCHJD = "0.18.0"
# These look at each task's own gradient of the shared weights, so every task has a backward pass of its own.
GRADIENT_METHODS: frozenset[Weighting] = frozenset(
    ("gradnorm", "pcgrad", "mgda", "imtl_g", "upgrad", "cagrad", "nash_mtl")
)


def cost(weighting: str, tasks: int, *, clip_per_task: bool) -> float:
    """Say how many backward passes of the whole model a step takes at most.

    Args:
        weighting: `training.weighting`.
        tasks: K; with all of them in a batch.
        clip_per_task: Whether `training.clip_per_task` is set.

    Returns:
        1 where the losses are summed before the pass; K where each task's gradient is looked at or clipped. A batch of
        one task, and a step in which nothing shared learns, take 1 whatever the method.
    """
    apart = clip_per_task or weighting in GRADIENT_METHODS
    return float(max(1, tasks)) if apart else 1.0


def check_installed(weighting: Weighting) -> None:
    """Refuse a weighting whose libraries are not there.

    Raises:
        ConfigError: Naming what is missing and how to install it.
    """
    modules, extra = WEIGHTING_EXTRAS.get(weighting, ((), ""))
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"training.weighting: {weighting} needs {' and '.join(missing)}, which this installation lacks. "
            f'Install it with pip install "torchjd[{extra}]=={TORCHJD}", or choose another weighting.'
        )
