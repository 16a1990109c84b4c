"""Everything a run prepares before its first step; the loop trains with it and the preflight measures with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mtl.config import RunConfig, TaskConfig
from mtl.data.batching import IGNORE_INDEX, Batch, Tokenised
from mtl.data.splitting import Splits
from mtl.modeling.multitask import MultiTaskModel
from mtl.modeling.ways import computing, true_to
from mtl.tasks import TaskSpec
from mtl.training.boundary import embed_once, keep_below, lowest
from mtl.training.components import (
    components,
    freeze_warnings,
    let_learn,
    parameter_groups,
    part_sizes,
    snapshot,
)
from mtl.training.conflict import Conflict, interval, is_look, measure
from mtl.training.curriculum import row_difficulty
from mtl.training.drift import Anchors, closeness_loss
from mtl.training.evaluation import embeddings_of, tokenised
from mtl.training.events import Event, RunBegin
from mtl.training.metrics import Evaluation, main_scores
from mtl.training.numerics import Numerics, again, settle
from mtl.training.plan import RatePlan
from mtl.training.sampling import Draw, Sampler, build_sampler
from mtl.training.selection import Chooser
from mtl.training.weighting import build_weighting

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


class Setup:
    """A run before its first step.

    Args:
        model: Moved to its device, switched to the settled numerics and frozen in part.
        splits: Training, validation and test examples.
        config: Resolved.
        cache_dir: Where the measurement of the fastest numerics is kept.
        numerics: Settled earlier; None settles them.

    Raises:
        ValueError: The configuration is not resolved.
        ConfigError: It names a part that does not exist, or a method that is not installed.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        splits: Splits,
        config: RunConfig,
        cache_dir: Path | None,
        numerics: Numerics | None = None,
    ) -> None:
        training = config.training
        if not isinstance(training.epochs, int) or None in (training.batch_size, training.patience, training.warmup):
            raise ValueError("resolve the configuration before training")
        self.model, self.config, self.training = model, config, training
        self.seed, self.epochs, self.batch_size = training.seed, training.epochs, int(training.batch_size or 1)
        self.numerics = settle(model, training, cache_dir) if numerics is None else again(model, numerics)
        self._splits, self.train = splits, tokenised(model, splits.train)
        self.loss_weights = {task.key: self._task(task).loss_weight for task in model.tasks}
        self.score_weights = {task.name: self._task(task).score_weight for task in model.tasks}
        self.main = main_scores(model.tasks, config)
        self.sampler = self._sampler()
        steps = [self.sampler.steps(epoch) for epoch in range(1, self.epochs + 1)]
        self.plan = RatePlan(part_sizes(components(model)), config, model.tasks, steps)
        self.steps = self.plan.steps
        self.groups = parameter_groups(model, config)
        outputs = {key: model.head(key).outputs for key in model.heads}
        self.weighting = build_weighting(self.tasks, outputs, config).to(model.device)
        self.optimizer = self._optimizer()
        self._look_every = interval(
            training.conflict_every,
            len(self.tasks),
            self.steps,
            shared=self.shares,
        )
        self.parts = 1  # of a batch, when the memory is not enough for all of it
        self.anchors: Anchors | None = None
        self.start: Tensor | None = None
        self.folder = None if cache_dir is None else cache_dir / "frozen"
        self._kept_phase = 0  # of the plan, for which the rows keep what does not change
        for task in self.tasks:
            self.model.head(task.key).weigh_classes(_flat(self.train.labels[task.key]))
        model.changed |= self.plan.ever_learning
        self.enter(1)

    @cached_property
    def validation(self) -> Tokenised:
        """The rows that choose the checkpoint; tokenised when they are first needed, so that the steps begin sooner."""
        return tokenised(self.model, self._splits.validation)

    @cached_property
    def test(self) -> Tokenised:
        """The rows of the final test, likewise."""
        return tokenised(self.model, self._splits.test)

    @property
    def tasks(self) -> tuple[TaskSpec, ...]:
        """The tasks of this run; heads of earlier runs, which are kept as they are, aside."""
        return tuple(task for task in self.model.tasks if task.name in self.config.tasks)

    @property
    def keys(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(task.key for task in self.tasks)

    def _task(self, task: TaskSpec) -> TaskConfig:
        return self.config.tasks.get(task.name, TaskConfig())

    def _sampler(self, difficulty: np.ndarray | None = None) -> Sampler:
        labelled = {task.key: _labelled(self.train, task.key) for task in self.tasks}
        classes = {task.key: classes_of(self.train, task.key) for task in self.tasks}
        weights = self.train.examples.weights or None
        return build_sampler(labelled, classes, self.train.lengths, self.config, weights=weights, difficulty=difficulty)

    def _optimizer(self) -> torch.optim.Optimizer:
        """Give the optimizer every group, frozen ones too: without a gradient they are passed over."""
        settings: list[dict[str, object]] = [
            {"params": list(group.parameters), "lr": 0.0, "weight_decay": group.weight_decay} for group in self.groups
        ]
        own = list(self.weighting.parameters())
        if own:
            rate = self.training.weighting_options.learning_rate
            settings.append({"params": own, "lr": rate, "weight_decay": 0.0})
        fused = self.model.device.type in {"cpu", "cuda", "mps"}
        return OPTIMIZERS[self.training.optimizer](settings, fused=fused)

    @property
    def shares(self) -> bool:
        """Whether anything that the tasks share ever learns."""
        return bool(self._shared_names(self.plan.ever_learning))

    @staticmethod
    def _shared_names(names: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in names if not name.startswith("head."))

    @property
    def needs_start(self) -> bool:
        """Whether the run needs to know the embeddings of the training rows before anything has learnt."""
        return bool(self.training.curriculum or self.training.stay_close)

    def prepare_rows(self) -> Iterator[Event]:
        """Compute, once, what the encoder says of the rows before it learns, as far as the run needs it."""
        if self.shares:
            self.anchors = Anchors(self.scorer(), self.train.examples.texts, seed=self.seed)
            if self.needs_start:
                self.start = yield from embeddings_of(self.scorer(), self.train)
            return
        yield from self.keep_frozen(1)
        if self.needs_start:
            self.start = self.train.embeddings
            if self.start is None:  # they were too many to be kept
                self.start = yield from embeddings_of(self.scorer(), self.train)

    def keep_frozen(self, epoch: int) -> Iterator[Event]:
        """When a phase of the plan begins, let the rows keep what the parts give that do not learn in it.

        It depends on the weights alone, so a run that goes on within a phase computes the same again.
        """
        if (phase := self.plan.phase(epoch)) == self._kept_phase:
            return
        for rows in (self.train, self.validation) if self._kept_phase else ():
            rows.embeddings = rows.token_embeddings = rows.below = None
        self._kept_phase, self.model.below = phase, None
        scorer = self.scorer()
        if not self.plan.shares(epoch):
            for rows in (self.train, self.validation):
                yield from embed_once(scorer, rows, self.folder)
        elif below := lowest(scorer, self.plan.kept_layers(epoch)):
            for rows in (self.train, self.validation):
                yield from keep_below(scorer, rows, below.count, self.model.precision, self.folder)
            self.model.below = below

    def scorer(self) -> MultiTaskModel:
        """Return the model as it computes what teaches nothing: with its weights of now, faster than a step would."""
        self.model.eval()
        if self.train.embeddings is not None and self.validation.embeddings is not None:
            return self.model  # its encoder has nothing left to compute
        return computing(self.model, self.numerics.encoding)

    def predictor(self) -> MultiTaskModel:
        """Return the model as a checkpoint of it will compute: likewise, if that is true to float32."""
        self.model.eval()
        self.model.precision = self.model.handed = torch.float32
        return true_to(self.model, self.numerics.encoding)

    def order_rows(self) -> None:
        """Order the rows by difficulty if there is a curriculum; `prepare_rows` came before."""
        if self.training.curriculum:
            assert self.start is not None
            classes = {
                task.key: classes_of(self.train, task.key) for task in self.tasks if task.kind == "classification"
            }
            self.sampler = self._sampler(row_difficulty(self.start.numpy(), classes, seed=self.seed))

    def end_epoch(self, epoch: int, trained: Evaluation, scored: Evaluation | None) -> dict[str, float]:
        """Tell the weighting how an epoch went, and return the main scores by task key, for the sampler."""
        found = scored.main_scores if scored else {}
        scores = {task.key: found[task.name] for task in self.tasks if task.name in found}
        losses = {task.key: trained.losses[task.name] for task in self.tasks if task.name in trained.losses}
        self.weighting.end_epoch(epoch, losses, scores)
        return scores

    def chooser(self) -> Chooser:
        """Return a fresh judge of the epochs."""
        training = self.training
        return Chooser(
            self.plan,
            select_by=training.select_by,
            weights=self.score_weights,
            patience=int(training.patience or 1),
            in_phases=training.patience_in_phases,
        )

    def enter(self, epoch: int) -> None:
        """Let the parts of an epoch's phase learn, and switch the model to training."""
        learning = self.plan.learning(epoch)
        let_learn(self.model, self.groups, learning)
        self._parts: dict[str, list[nn.Parameter]] = defaultdict(list)
        for group in self.groups:
            if group.component in self._shared_names(learning):
                self._parts[group.component] += group.parameters
        self.shared = [parameter for part in self._parts.values() for parameter in part]
        self.model.train()

    def draws(self, epoch: int, scores: Mapping[str, float]) -> list[Draw]:
        """Return the batches of an epoch; they depend on the seed, the epoch and the last validation scores alone.

        Args:
            epoch: 1 for the first.
            scores: Task key -> main score after the epoch before.
        """
        return self.sampler.epoch(epoch, scores)

    def batch(self, draw: Draw) -> Batch:
        """Cut out one batch."""
        return self.train.batch(draw.rows, None if draw.task is None else (draw.task,))

    def divide_batches(self) -> None:
        """Encode batches in twice as many parts from now on, and forget what a step that failed has left."""
        self.parts *= 2
        self.optimizer.zero_grad(set_to_none=True)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def set_rates(self, step: int, epoch: int) -> dict[str, float]:
        """Give every group its rate of this step (1 for the first) and return those of the parts that learn."""
        rates = self.plan.rates(step, epoch)
        for group, settings in zip(self.groups, self.optimizer.param_groups, strict=False):
            settings["lr"] = rates.get(group.component, 0.0)
        return rates

    def look_at_conflict(
        self, losses: Mapping[str, Tensor], encoded: dict[str, Tensor], batch: Batch, step: int
    ) -> Conflict | None:
        """Compare the tasks' gradients, every so many steps; before the step's own backward pass."""
        if not is_look(step, self._look_every):
            return None
        if batch.tasks is not None:  # it teaches one task; what would the others say of its rows?
            with torch.random.fork_rng():  # their dropout must not change what the run draws
                others = [key for key in self.keys if key not in batch.tasks]
                losses = {**losses, **self.model.losses(self.model.answer(encoded, others), batch.labels)}
        return measure(losses, self._parts, {task.key: task.name for task in self.tasks})

    def hold_close(self, encoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Add the gradient of the term that keeps embeddings near those of the start, if it is wanted."""
        if self.training.stay_close and self.start is not None and self.shared:
            start = self.start[batch.indices].to(self.model.device)
            term = closeness_loss(encoded["sentence_embedding"], start)
            (self.training.stay_close * term).backward(retain_graph=True)

    def snapshot(self) -> dict[str, Tensor]:
        """Copy the weights that learn in any epoch."""
        return snapshot(self.model, self.plan.ever_learning)

    @property
    def begin(self) -> RunBegin:
        """The first event, with what a person should know before waiting."""
        plan = self.plan
        ever = plan.ever_learning
        warnings = plan.warnings
        fresh = [f"head.{task.name}" for task in self.tasks if f"head.{task.key}" not in ever | self.model.changed]
        if ever:
            warnings += freeze_warnings(fresh)
        if not len(self._splits.validation):
            warnings.append("There are no validation rows, so the last epoch is kept instead of the best.")
        return RunBegin(
            steps=self.steps,
            epochs=self.epochs,
            rows={name: len(getattr(self._splits, name)) for name in ("train", "validation", "test")},
            parameters=sum(group.size for group in self.groups),
            trainable=sum(plan.sizes[name] for name in ever),
            numerics=self.numerics.as_text(),
            warnings=tuple(warnings),
            plan=plan.as_dict(),
        )


def _labelled(rows: Tokenised, key: str) -> list[bool]:
    labels = rows.labels[key]
    if isinstance(labels, Tensor):
        return (labels != IGNORE_INDEX).tolist()
    return [bool((row != IGNORE_INDEX).any()) for row in labels]


def classes_of(rows: Tokenised, key: str) -> list[str | None]:
    """Return the class of each row, for entities whether it has any; None where it is not labelled."""
    labels = rows.labels[key]
    if isinstance(labels, Tensor):
        return [None if label == IGNORE_INDEX else str(label) for label in labels.tolist()]
    return [
        str(bool((row > 0).any())) if known else None for row, known in zip(labels, _labelled(rows, key), strict=True)
    ]


def _flat(labels: Tensor | list[Tensor]) -> Tensor:
    return labels if isinstance(labels, Tensor) else torch.cat([*labels, torch.empty(0, dtype=torch.long)])
