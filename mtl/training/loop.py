"""The training loop: a generator of events. To cancel is to stop iterating; to save is between two events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mtl.config import RunConfig
from mtl.data.batching import Batch
from mtl.data.splitting import Splits
from mtl.modeling.multitask import MultiTaskModel
from mtl.training.calibration import fit_temperature
from mtl.training.course import Course, restore
from mtl.training.evaluation import evaluation
from mtl.training.events import EpochEnd, Event, RunEnd, StepEnd
from mtl.training.memory import is_out_of_memory
from mtl.training.metrics import Evaluation, Meter
from mtl.training.numerics import Numerics
from mtl.training.parts import encode
from mtl.training.setup import Setup
from mtl.training.state import State


class Diverged(ArithmeticError):
    """A loss, a gradient or a weight is not finite."""


def train(
    model: MultiTaskModel,
    splits: Splits,
    config: RunConfig,
    *,
    cache_dir: Path | None = None,
    notes: Sequence[str] = (),
    numerics: Numerics | None = None,
    resume: State | None = None,
) -> Iterator[Event]:
    """Fine-tune the model on all tasks at once.

    Args:
        model: Trained in place; after `RunEnd` it holds the best weights.
        splits: Training, validation and test examples.
        config: Resolved (`mtl.config.resolve`).
        cache_dir: Where the measurement of the fastest numerics is kept.
        notes: What else a person should know before waiting for it.
        numerics: How an earlier part of this run computed; None settles it.
        resume: Where an earlier part of this run was; the model is as it was before its first step.

    Yields:
        `RunBegin`, unless the run is resumed; for each step `StepEnd`; for each epoch `EpochEnd`; `RunEnd`.
        `EvaluationStep` in between.
    """
    run = Setup(model, splits, config, cache_dir, numerics)
    if resume is None:
        yield replace(run.begin, warnings=(*notes, *run.begin.warnings))
    yield from run.prepare_rows()
    run.order_rows()
    course = Course(run)
    if resume is not None:
        course.resume(resume)
    try:
        while (epoch := course.epoch) is not None:
            yield from run.keep_frozen(epoch)
            for step, draw in enumerate(course.enter(epoch), start=course.step + 1):
                yield course.passed(take_step(run, run.batch(draw), course.meter, step, epoch))
            trained = course.meter.evaluation()
            scorer = run.scorer()
            scored = yield from evaluation(scorer, run.validation, run.loss_weights, run.main, "validation")
            _check_finite(run, scored, course.step)
            health = run.anchors.look(scorer) if run.anchors else None
            choice = course.choose(scored, epoch, run.end_epoch(epoch, trained, scored))
            yield course.ended(
                EpochEnd(
                    epoch=epoch,
                    step=course.step,
                    train=trained,
                    validation=scored,
                    improved=choice.improved,
                    epochs_without_improvement=choice.stale,
                    best_tasks=choice.best_tasks,
                    phase=run.plan.phase(epoch),
                    embedding=health,
                )
            )

        restore(model, course.best)
        predictor = run.predictor()
        validation = yield from evaluation(predictor, run.validation, run.loss_weights, run.main, "validation")
        temperatures = calibrate(model, validation)
        test = yield from evaluation(predictor, run.test, run.loss_weights, run.main, "test")
        _check_finite(run, test, course.step)
    except Diverged as error:
        restore(model, course.best)
        yield RunEnd("diverged", str(error), course.best_epoch, None, None, {})
        return
    yield RunEnd("done", course.reason, course.best_epoch, validation, test, temperatures)


def take_step(run: Setup, batch: Batch, meter: Meter, step: int, epoch: int) -> StepEnd:
    """Learn from one batch; if the memory is not enough, in more and more parts.

    Raises:
        Diverged: A loss or a gradient is not finite; the weights are as before.
    """
    while True:
        try:
            return _learn(run, batch, meter, step, epoch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or run.parts >= len(batch.indices):
                raise
        # not in the handler, which holds on to the memory of what failed
        run.divide_batches()


def _learn(run: Setup, batch: Batch, meter: Meter, step: int, epoch: int) -> StepEnd:
    rates = run.set_rates(step, epoch)
    encoded = encode(run.model, batch.features, run.parts)
    logits = run.model.answer(encoded, batch.tasks or run.keys)
    losses = run.model.losses(logits, batch.labels)
    conflict = run.look_at_conflict(losses, encoded, batch, step)
    run.hold_close(encoded, batch)
    weights = run.weighting.backward(losses, run.shared)
    norm = _clip(run)
    numbers = torch.stack([loss.detach() for loss in losses.values()] + ([] if norm is None else [norm]))
    # the device itself passes over a step that is not finite: until all of it is asked for, nothing waits for a GPU
    run.optimizer.found_inf = (~numbers.isfinite().all()).float()  # type: ignore[attr-defined]
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    known = numbers.tolist()
    if not all(map(math.isfinite, known)):
        raise Diverged(f"A loss or a gradient was not finite in step {step}; try smaller learning rates.")
    values = dict(zip(losses, known, strict=False))
    meter.add(batch, logits, values)
    name = {task.key: task.name for task in run.tasks}
    return StepEnd(
        step=step,
        epoch=epoch,
        loss=sum(value * weights[key] for key, value in values.items()),
        losses={name[key]: value for key, value in values.items()},
        weights={name[key]: weight for key, weight in weights.items()},
        learning_rates=rates,
        gradient_norm=None if norm is None else known[-1],
        conflict=conflict,
        parts=run.parts,
    )


def calibrate(model: MultiTaskModel, validation: Evaluation | None) -> dict[str, float]:
    """Fit each head's temperature on validation rows, store it in the head, and return it by task name."""
    if validation is None:
        return {}
    found = {name: fit_temperature(logits, validation.labels[name]) for name, logits in validation.logits.items()}
    for task in model.tasks:
        if task.name in found and task.name in validation.scores:
            model.head(task.key).temperature.fill_(found[task.name])
    return found


def _clip(run: Setup) -> Tensor | None:
    """Scale the gradients down to the limit and return their norm before that, shape (); None if there are none."""
    given = [parameter for group in run.groups for parameter in group.parameters if parameter.grad is not None]
    if not given:
        return None
    limit = run.training.clip
    return nn.utils.clip_grad_norm_(given, math.inf if limit is None else limit)


def _check_finite(run: Setup, scored: Evaluation | None, step: int) -> None:
    """Notice a last step that spoilt the weights, before they could become the best.

    Raises:
        Diverged: A weight or the loss they lead to is not finite.
    """
    learning: Sequence[nn.Parameter] = [p for group in run.groups for p in group.parameters if p.requires_grad]
    if not all(bool(parameter.isfinite().all()) for parameter in learning) or (
        scored is not None and not math.isfinite(scored.loss)
    ):
        raise Diverged(f"The weights were not usable after step {step}; try smaller learning rates.")
