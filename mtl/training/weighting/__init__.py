"""How the losses of several tasks become one step. To add a way: a class with its paper and a line in `WEIGHTINGS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from mtl.choices import Weighting as WeightingName
from mtl.config import RunConfig, TaskConfig
from mtl.tasks import TaskSpec
from mtl.training.demands import check_installed, cost
from mtl.training.weighting.base import TaskWeights, Weighting
from mtl.training.weighting.gradnorm import GradNormWeighting
from mtl.training.weighting.losses import (
    DynamicTaskPrioritisation,
    DynamicWeightAverage,
    FixedWeighting,
    RampWeighting,
    RandomWeighting,
    UncertaintyWeighting,
)

__all__ = ["WEIGHTINGS", "FixedWeighting", "TaskWeights", "Weighting", "build_weighting", "cost"]


def _equal(run: TaskWeights) -> Weighting:
    return FixedWeighting(dict.fromkeys(run.weights, 1.0), clip=run.clip)


def _log_classes(run: TaskWeights) -> Weighting:
    """Divide each loss by that of guessing, so that all start at about 1."""
    weights = {key: weight / math.log(run.outputs[key]) for key, weight in run.weights.items()}
    return FixedWeighting(weights, clip=run.clip)


def _surgery(name: str) -> Callable[[TaskWeights], Weighting]:
    def build(run: TaskWeights) -> Weighting:
        from mtl.training.weighting.surgery import SURGERIES

        return SURGERIES[name](run)

    return build


WEIGHTINGS: dict[WeightingName, Callable[[TaskWeights], Weighting]] = {
    "fixed": lambda run: FixedWeighting(run.weights, clip=run.clip),
    "equal": _equal,
    "log_classes": _log_classes,
    "uncertainty": lambda run: UncertaintyWeighting(run.weights, clip=run.clip),
    "dwa": lambda run: DynamicWeightAverage(run.weights, temperature=run.options.temperature, clip=run.clip),
    "dtp": lambda run: DynamicTaskPrioritisation(
        run.weights, gamma=run.options.gamma, smoothing=run.options.smoothing, clip=run.clip
    ),
    "ramp": lambda run: RampWeighting(run.weights, run.final, epochs=run.epochs, clip=run.clip),
    "random": lambda run: RandomWeighting(run.weights, seed=run.seed, clip=run.clip),
    "gradnorm": lambda run: GradNormWeighting(run.weights, alpha=run.options.alpha, clip=run.clip),
    "pcgrad": _surgery("pcgrad"),
    "mgda": _surgery("mgda"),
    "imtl_g": _surgery("imtl_g"),
    "upgrad": _surgery("upgrad"),
    "cagrad": _surgery("cagrad"),
    "nash_mtl": _surgery("nash_mtl"),
}


def build_weighting(tasks: Sequence[TaskSpec], outputs: Mapping[str, int], config: RunConfig) -> Weighting:
    """Build the weighting that a configuration asks for.

    Args:
        tasks: Those that learn.
        outputs: Task key -> C, the width of its logits.
        config: Resolved (`mtl.config.resolve`).

    Raises:
        ConfigError: It needs a library that is not installed.
        ValueError: The configuration is not resolved.
    """
    training = config.training
    if not isinstance(training.epochs, int):
        raise ValueError("resolve the configuration before training")
    check_installed(training.weighting)
    own = {task.key: config.tasks.get(task.name, TaskConfig()) for task in tasks}
    weights = {key: task.loss_weight for key, task in own.items()}
    final = {key: task.final_loss_weight for key, task in own.items()}
    run = TaskWeights(
        weights=weights,
        final={key: weights[key] if value is None else value for key, value in final.items()},
        outputs=outputs,
        epochs=training.epochs,
        seed=training.seed,
        clip=training.clip_per_task,
        options=training.weighting_options,
    )
    return WEIGHTINGS[training.weighting](run)
