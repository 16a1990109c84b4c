"""What happens in a run, in order: `RunBegin`, then `StepEnd`s and an `EpochEnd` per epoch, then `RunEnd`.

Events hold no clock and no path, so two runs of one configuration have equal events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from mtl.training.conflict import Conflict
from mtl.training.drift import EmbeddingHealth
from mtl.training.metrics import Evaluation
from mtl.training.state import State

Capture = Callable[[], State] | None
Outcome = Literal["done", "diverged"]
Side = Literal["validation", "test", "embedding"]


@dataclass(frozen=True)
class RunBegin:
    """The run is set up.

    Attributes:
        steps: Optimizer steps, if the run is not stopped early.
        epochs: Passes over the training rows, likewise.
        rows: Examples of train, validation and test.
        parameters: Weights of all parts.
        trainable: Weights that learn.
        numerics: Device, precision, attention and threads.
        warnings: What a person should know before waiting for it.
        plan: What learns in which epoch, and how fast (`mtl.training.plan.RatePlan.as_dict`).
    """

    steps: int
    epochs: int
    rows: dict[str, int]
    parameters: int
    trainable: int
    numerics: dict[str, str]
    warnings: tuple[str, ...]
    plan: dict[str, Any]


@dataclass(frozen=True)
class StepEnd:
    """One optimizer step.

    Attributes:
        step: 1 for the first.
        epoch: 1 for the first.
        loss: Weighted sum of the losses.
        losses: Task name -> loss of this batch, for tasks labelled in it.
        weights: Task name -> its factor in the sum.
        learning_rates: Component -> rate of this step; only what learns.
        gradient_norm: Before clipping; None if nothing learns.
        conflict: What the tasks' gradients do to each other, in the steps in which that is looked at.
        parts: How many the batch was encoded in; more than 1 where the memory is not enough.
        capture: Returns all that a continuation needs, until the next event is asked for.
    """

    step: int
    epoch: int
    loss: float
    losses: dict[str, float]
    weights: dict[str, float]
    learning_rates: dict[str, float]
    gradient_norm: float | None
    conflict: Conflict | None = None
    parts: int = 1
    capture: Capture = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class EvaluationStep:
    """A batch is done that is no training step: a chance to stop, and to show progress.

    Attributes:
        side: `validation` or `test`, or `embedding` while the texts of a frozen encoder are embedded.
        done: Texts so far.
        total: Of all.
    """

    side: Side
    done: int
    total: int


@dataclass(frozen=True)
class EpochEnd:
    """One pass over the training rows and one over the validation rows.

    Attributes:
        train: Collected while training, so with dropout on and over changing weights.
        validation: None if there are no validation rows.
        improved: Whether this is the best checkpoint so far.
        epochs_without_improvement: Counts up to the patience.
        best_tasks: The tasks whose main score is their best so far.
        phase: Number of the phase in a plan of unfreezing, 1 for the first.
        embedding: Whether the embedding is still one; None if nothing in the encoder learns.
        capture: As in `StepEnd`.
    """

    epoch: int
    step: int
    train: Evaluation
    validation: Evaluation | None
    improved: bool
    epochs_without_improvement: int
    best_tasks: tuple[str, ...] = ()
    phase: int = 1
    embedding: EmbeddingHealth | None = None
    capture: Capture = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class RunEnd:
    """The run is over; the model holds its best weights.

    Attributes:
        outcome: `done`, or `diverged` when a loss or a gradient was not finite.
        reason: In plain words.
        best_epoch: Whose weights were kept; None if no epoch ended.
        validation: Scored again with the best weights, in float32.
        test: Scored once, with the best weights; None if there are no test rows or the run diverged.
        temperatures: Task name -> what its logits are divided by, fitted on the validation rows.
    """

    outcome: Outcome
    reason: str
    best_epoch: int | None
    validation: Evaluation | None
    test: Evaluation | None
    temperatures: dict[str, float]


Event = RunBegin | StepEnd | EvaluationStep | EpochEnd | RunEnd
EVENTS = (RunBegin, StepEnd, EvaluationStep, EpochEnd, RunEnd)


def as_json(value: Any) -> Any:
    """Turn an event into plain JSON values; logits stay behind."""
    if isinstance(value, Evaluation):
        return {
            "loss": value.loss,
            "losses": value.losses,
            "scores": value.scores,
            "counts": value.counts,
            "mean_score": value.mean_score,
            "main": value.main,
        }
    if isinstance(value, EVENTS):
        return {"event": type(value).__name__} | _fields(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return list(value) if isinstance(value, tuple) else value


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: as_json(getattr(value, one.name)) for one in fields(value) if one.compare}
