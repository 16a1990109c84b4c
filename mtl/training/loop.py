"""The training loop: a generator of events. To cancel is to stop iterating; to save is between two events."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mtl.config import RunConfig, TaskConfig
from mtl.data.batching import Batch, Tokenised, by_token_budget, shuffled_buckets
from mtl.data.splitting import Examples, Splits
from mtl.modeling.encoder import max_length_of
from mtl.modeling.multitask import MultiTaskModel, embedding_size
from mtl.training.components import ParameterGroup, freeze, freeze_warnings, parameter_groups, snapshot
from mtl.training.events import EpochEnd, EvaluationStep, Event, RunBegin, RunEnd, StepEnd
from mtl.training.metrics import Evaluation, Meter
from mtl.training.numerics import settle
from mtl.training.schedules import rate_factor
from mtl.training.weighting import FixedWeighting

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


class Diverged(ArithmeticError):
    """A loss, a gradient or a weight is not finite."""


def train(
    model: MultiTaskModel, splits: Splits, config: RunConfig, *, cache_dir: Path | None = None
) -> Iterator[Event]:
    """Fine-tune the model on all tasks at once.

    Args:
        model: Trained in place; after `RunEnd` it holds the best weights.
        splits: Training, validation and test examples.
        config: Resolved (`mtl.config.resolve`).
        cache_dir: Where the measurement of the fastest numerics is kept.

    Yields:
        `RunBegin`; for each step `StepEnd`; for each epoch `EpochEnd`; `RunEnd`. `EvaluationStep` in between.
    """
    run = Setup(model, splits, config, cache_dir)
    yield run.begin
    if not run.shared:
        yield from embed_once(model, run.train)
        yield from embed_once(model, run.validation)
    torch.manual_seed(run.seed)  # dropout; the weights were drawn when the model was built
    best, best_epoch, best_value, stale, step, reason = snapshot(model), None, -math.inf, 0, 0, "all epochs done"
    try:
        for epoch in range(1, run.epochs + 1):
            model.train()
            meter = Meter(model.tasks, run.loss_weights)
            for batch in run.train.batches(run.order(epoch)):
                step += 1
                yield take_step(run, batch, meter, step, epoch)
            scored = yield from evaluation(model, run.validation, run.loss_weights, "validation")
            _check_finite(run.learning, scored, step)
            value = _selection(scored, config.training.select_by, epoch)
            improved = value > best_value  # strictly: the earliest wins a tie
            if improved:
                best, best_epoch, best_value = snapshot(model), epoch, value
            stale = 0 if improved else stale + 1
            yield EpochEnd(epoch, step, meter.evaluation(), scored, improved, stale)
            if stale >= run.patience:
                reason = f"no improvement for {run.patience} epochs"
                break

        restore(model, best)
        model.precision = torch.float32  # the test is scored as the predictor will compute
        test = yield from evaluation(model, run.test, run.loss_weights, "test")
        _check_finite(run.learning, test, step)
    except Diverged as error:
        restore(model, best)
        yield RunEnd("diverged", str(error), best_epoch, None)
        return
    yield RunEnd("done", reason, best_epoch, test)


@torch.no_grad()
def embed_once(model: MultiTaskModel, rows: Tokenised) -> Iterator[Event]:
    """Compute the embeddings of all rows, once: nothing in the encoder learns, so every epoch would repeat them.

    The batches are in order of length, whatever the seed, so two runs compute the same bits.
    """
    model.eval()
    found = torch.empty(len(rows), embedding_size(model.encoder))
    done = 0
    for batch in rows.batches(by_token_budget(rows.lengths)):
        found[batch.indices] = model.encode(batch.features)["sentence_embedding"].cpu()
        done += len(batch.indices)
        yield EvaluationStep("embedding", done, len(rows))
    rows.embeddings = found


class Setup:
    """Everything `train` prepares before the first step; the preflight measures with it.

    Args:
        model: Moved to its device, switched to the settled numerics and frozen in part.
        splits: Tokenised here.
        config: Resolved.
        cache_dir: Where the measurement of the fastest numerics is kept.

    Raises:
        ValueError: The configuration is not resolved.
    """

    def __init__(self, model: MultiTaskModel, splits: Splits, config: RunConfig, cache_dir: Path | None) -> None:
        training = config.training
        if not isinstance(training.epochs, int) or None in (training.batch_size, training.patience, training.warmup):
            raise ValueError("resolve the configuration before training")
        self.model, self.training = model, training
        self.numerics = settle(model, training, cache_dir)
        self.groups = parameter_groups(model, config)
        freeze(model, self.groups)
        self.optimizer = _optimizer(self.groups, config)
        self.learning = [p for group in self.groups if group.trainable for p in group.parameters]
        heads = {id(p) for p in model.heads.parameters()}
        self.shared = [p for p in self.learning if id(p) not in heads]
        self.loss_weights = {t.key: config.tasks.get(t.name, TaskConfig()).loss_weight for t in model.tasks}
        self.weighting = FixedWeighting(self.loss_weights)
        self.train = tokenised(model, splits.train)
        self.validation, self.test = tokenised(model, splits.validation), tokenised(model, splits.test)
        self.seed, self.epochs = training.seed, training.epochs
        self.batch_size, self.patience = int(training.batch_size or 1), int(training.patience or 1)
        self.steps = self.epochs * math.ceil(len(self.train) / self.batch_size)

    def order(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch; they depend on the seed and the epoch alone."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return shuffled_buckets(self.train.lengths, self.batch_size, generator)

    def set_rates(self, step: int) -> dict[str, float]:
        """Give every group its rate of this step (1 for the first) and return those of the parts that learn."""
        warmup = self.training.warmup or 0.0
        factor = rate_factor(self.training.schedule, step - 1, steps=self.steps, warmup=warmup)
        for group, settings in zip(self.groups, self.optimizer.param_groups, strict=True):
            settings["lr"] = group.learning_rate * factor
        return {group.component: group.learning_rate * factor for group in self.groups if group.trainable}

    @property
    def begin(self) -> RunBegin:
        """The first event, with what a person should know before waiting."""
        frozen = {group.component for group in self.groups if not group.trainable}
        heads = [f"head.{task.name}" for task in self.model.tasks if f"head.{task.key}" in frozen]
        warnings = freeze_warnings(bool(self.learning), heads)
        if not len(self.validation):
            warnings.append("There are no validation rows, so the last epoch is kept instead of the best.")
        return RunBegin(
            steps=self.steps,
            epochs=self.epochs,
            rows={"train": len(self.train), "validation": len(self.validation), "test": len(self.test)},
            parameters=sum(group.size for group in self.groups),
            trainable=sum(p.numel() for p in self.learning),
            numerics=self.numerics.as_text(),
            warnings=tuple(warnings),
        )


def take_step(run: Setup, batch: Batch, meter: Meter, step: int, epoch: int) -> StepEnd:
    """Learn from one batch.

    Raises:
        Diverged: A loss or a gradient is not finite; the weights are as before.
    """
    rates = run.set_rates(step)
    logits = run.model(batch.features)
    losses = run.model.losses(logits, batch.labels)
    weights = run.weighting.backward(losses, run.shared)
    norm = _clip(run.learning, run.training.clip)
    values = {key: loss.item() for key, loss in losses.items()}
    if not all(map(math.isfinite, [*values.values(), norm or 0.0])):
        raise Diverged(f"A loss or a gradient was not finite in step {step}; try smaller learning rates.")
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    meter.add(logits, batch.labels, values)
    name = {task.key: task.name for task in run.model.tasks}
    return StepEnd(
        step=step,
        epoch=epoch,
        loss=sum(value * weights[key] for key, value in values.items()),
        losses={name[key]: value for key, value in values.items()},
        weights={name[key]: weight for key, weight in weights.items()},
        learning_rates=rates,
        gradient_norm=norm,
    )


def evaluate(model: MultiTaskModel, examples: Examples, weights: dict[str, float] | None = None) -> Evaluation | None:
    """Score a model on examples: `evaluation` without the steps in between."""
    steps = evaluation(model, tokenised(model, examples), weights or dict.fromkeys(model.heads, 1.0), "test")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@torch.no_grad()
def evaluation(
    model: MultiTaskModel, rows: Tokenised, weights: dict[str, float], side: str
) -> Generator[Event, None, Evaluation | None]:
    """Score the model in evaluation mode, batch by batch, and return the `Evaluation` with all logits.

    Without any rows the result is None: no score is claimed.
    """
    if not len(rows):
        return None
    model.eval()
    meter = Meter(model.tasks, weights)
    kept: dict[str, list[Tensor]] = {key: [] for key in model.heads}
    order: list[int] = []
    for batch in rows.batches(by_token_budget(rows.lengths)):
        logits = model(batch.features)
        losses = {key: loss.item() for key, loss in model.losses(logits, batch.labels).items()}
        meter.add(logits, batch.labels, losses)
        order += batch.indices
        for key, values in logits.items():
            kept[key].append(values.cpu())
        yield EvaluationStep(side, len(order), len(rows))
    back = torch.tensor(order).argsort()
    result = meter.evaluation()
    result.logits.update({task.name: torch.cat(kept[task.key])[back] for task in model.tasks if kept[task.key]})
    return result


def tokenised(model: MultiTaskModel, examples: Examples) -> Tokenised:
    """Tokenise examples and encode their labels as this model's heads want them."""
    encoders = {task.key: (task.name, model.head(task.key).encode) for task in model.tasks}
    return Tokenised(examples, model.encoder.tokenizer, max_length_of(model.encoder), encoders)


def _optimizer(groups: Sequence[ParameterGroup], config: RunConfig) -> torch.optim.Optimizer:
    """Give the optimizer every group, frozen ones too: without a gradient they are passed over."""
    fused = all(p.device.type in {"cpu", "cuda", "mps"} for g in groups for p in g.parameters)
    settings = [
        {"params": list(group.parameters), "lr": group.learning_rate, "weight_decay": group.weight_decay}
        for group in groups
    ]
    return OPTIMIZERS[config.training.optimizer](settings, fused=fused)


def _clip(parameters: Sequence[nn.Parameter], limit: float | None) -> float | None:
    """Scale the gradients down to the limit and return their norm before that; None if there are none."""
    given = [parameter for parameter in parameters if parameter.grad is not None]
    if not given:
        return None
    return float(nn.utils.clip_grad_norm_(given, math.inf if limit is None else limit))


def _check_finite(learning: Sequence[nn.Parameter], scored: Evaluation | None, step: int) -> None:
    """Notice a last step that spoilt the weights, before they could become the best.

    Raises:
        Diverged: A weight or the loss they lead to is not finite.
    """
    if not all(bool(parameter.isfinite().all()) for parameter in learning) or (
        scored is not None and not math.isfinite(scored.loss)
    ):
        raise Diverged(f"The weights were not usable after step {step}; try smaller learning rates.")


def _selection(scored: Evaluation | None, select_by: str, epoch: int) -> float:
    """Return what makes a checkpoint the best, higher being better; without validation the last epoch is."""
    if scored is None or scored.mean_score is None:
        return float(epoch)
    return scored.mean_score if select_by == "mean_score" else -scored.loss


def restore(model: MultiTaskModel, best: dict[str, Tensor]) -> None:
    """Put weights back that `snapshot` copied."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in best:
                parameter.copy_(best[name])
