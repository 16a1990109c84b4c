"""What learns in which epoch and how fast: one object that the run follows and that the page shows before it.

Every rate is a function of the step alone, so a resumed run needs no scheduler state and cannot drift from its plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from mtl.choices import Schedule
from mtl.config import PhaseConfig, RunConfig
from mtl.tasks import TaskSpec
from mtl.training.components import fresh_parts, frozen_parts, peak_rates, resolve_learning
from mtl.training.schedules import rate_factor

FORWARD, BACKWARD_THROUGH, BACKWARD = 1.0, 1.0, 2.0  # of one layer; a backward pass also makes the weights' gradients


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs in which the same parts learn.

    Attributes:
        first_epoch: 1 for the first of the run.
        last_epoch: Included.
        peaks: Component -> peak rate, for the parts that learn.
    """

    first_epoch: int
    last_epoch: int
    peaks: dict[str, float]


class RatePlan:
    """The plan of a run.

    Args:
        sizes: Component -> number of weights, bottom first.
        config: Resolved.
        tasks: The tasks.
        epoch_steps: Optimizer steps of each epoch.

    Raises:
        ConfigError: It names a part that does not exist.
    """

    def __init__(
        self, sizes: Mapping[str, int], config: RunConfig, tasks: Sequence[TaskSpec], epoch_steps: Sequence[int]
    ) -> None:
        self.sizes, self.epochs, self.steps = dict(sizes), len(epoch_steps), sum(epoch_steps)
        self._starts = [0, *accumulate(epoch_steps)]
        self.wanted = _phases(list(sizes), config, tasks)
        self.phases = _within(self.wanted, self.epochs)
        self._warmup = config.training.warmup or 0.0
        self._curriculum = config.training.curriculum
        own = {f"head.{t.key}": config.tasks[t.name].schedule for t in tasks if t.name in config.tasks}
        self._schedules: dict[str, Schedule] = {name: own.get(name) or config.training.schedule for name in sizes}

    def first_step(self, epoch: int) -> int:
        """Return the number of an epoch's first step; both count from 1."""
        return self._starts[epoch - 1] + 1

    def epoch_of(self, step: int) -> int:
        """Return the epoch a step belongs to."""
        return next(epoch for epoch in range(1, self.epochs + 1) if step <= self._starts[epoch])

    def phase(self, epoch: int) -> int:
        """Return the number of an epoch's phase, 1 for the first."""
        return next(n for n, phase in enumerate(self.phases, start=1) if epoch <= phase.last_epoch)

    def phase_length(self, epoch: int) -> int:
        """Return how many epochs an epoch's phase has."""
        phase = self.phases[self.phase(epoch) - 1]
        return phase.last_epoch - phase.first_epoch + 1

    def learning(self, epoch: int) -> frozenset[str]:
        """Name the parts that learn in an epoch."""
        return frozenset(self.phases[self.phase(epoch) - 1].peaks)

    @property
    def ever_learning(self) -> frozenset[str]:
        """Name the parts that learn in any epoch."""
        return frozenset(name for phase in self.phases for name in phase.peaks)

    def rates(self, step: int, epoch: int | None = None) -> dict[str, float]:
        """Return the rate of each part that learns in a step, 1 for the first.

        Args:
            step: Of the run.
            epoch: Its epoch, if it is known already.
        """
        phase = self.phases[self.phase(epoch or self.epoch_of(step)) - 1]
        factors = {
            schedule: rate_factor(schedule, step - 1, steps=self.steps, warmup=self._warmup)
            for schedule in set(self._schedules.values())
        }
        return {name: peak * factors[self._schedules[name]] for name, peak in phase.peaks.items()}

    def trainable(self, epoch: int) -> int:
        """Count the weights that learn in an epoch."""
        return sum(self.sizes[name] for name in self.learning(epoch))

    def shares(self, epoch: int) -> bool:
        """Say whether anything that the tasks share learns in an epoch."""
        return any(not name.startswith("head.") for name in self.learning(epoch))

    def kept_layers(self, epoch: int) -> int:
        """Count the lowest layers whose output is computed once for all the epochs of a phase.

        These are the layers below the lowest that learns; none if something below them learns, or in a phase of a
        single epoch, where nothing would be saved.
        """
        layers, learning = [name for name in self.sizes if name.startswith("layer.")], self.learning(epoch)
        if not self.shares(epoch):
            return len(layers)
        # what belongs to no layer may be anywhere
        if learning & {"embeddings", "other"} or self.phase_length(epoch) == 1:
            return 0
        return next((depth for depth, name in enumerate(layers) if name in learning), len(layers))

    def cost(self, epoch: int) -> float:
        """Estimate the work of an epoch as a share of one with all rows in which all layers learn.

        A layer's forward pass counts 1 and its backward pass 2, of which 1 is only passing the gradient on. What lies
        below the lowest part that learns needs no backward pass, and its forward pass is made once, in the first epoch
        of a phase.
        """
        lengths = [end - start for start, end in pairwise(self._starts)]
        share = lengths[epoch - 1] / max(lengths)  # a curriculum begins with fewer rows
        layers = [name for name in self.sizes if name.startswith("layer.")]
        encoder = [name for name in self.sizes if not name.startswith("head.")]
        learning, kept = self.learning(epoch), self.kept_layers(epoch)
        lowest = next((i for i, name in enumerate(encoder) if name in learning), len(encoder))
        backward = [
            BACKWARD if name in learning else BACKWARD_THROUGH for name in layers if encoder.index(name) >= lowest
        ]
        each = share * (FORWARD * (len(layers) - kept) + sum(backward))
        once = FORWARD * kept if epoch == self.phases[self.phase(epoch) - 1].first_epoch else 0.0
        return (each + once) / ((FORWARD + BACKWARD) * len(layers))

    @property
    def warnings(self) -> list[str]:
        """Say what a person should know of this plan before they wait for it."""
        if not self.ever_learning:
            return ["Everything is frozen: nothing is learnt, and the heads keep their random start."]
        found = []
        missing = len(self.wanted) - len(self.phases)
        if missing:
            phases = "phase" if missing == 1 else "phases"
            found.append(
                f"{self.epochs} epochs are too few: the last {missing} {phases} of the unfreezing will not come."
            )
        if self._curriculum and self._curriculum.epochs >= self.epochs:
            found.append("The curriculum is as long as the run, so the hardest rows never take part.")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values: what is shown before Start and saved with the run."""
        return {
            "components": [{"name": name, "parameters": size} for name, size in self.sizes.items()],
            "epochs": [self._epoch(epoch) for epoch in range(1, self.epochs + 1)],
        }

    def _epoch(self, epoch: int) -> dict[str, Any]:
        first, last = self.first_step(epoch), self._starts[epoch]
        return {
            "epoch": epoch,
            "phase": self.phase(epoch),
            "first_step": first,
            "last_step": last,
            "trainable": self.trainable(epoch),
            "cost": round(self.cost(epoch), 4),
            "first_rates": self.rates(first, epoch),
            "middle_rates": self.rates((first + last) // 2, epoch),
            "last_rates": self.rates(last, epoch),
        }


def _phases(names: list[str], config: RunConfig, tasks: Sequence[TaskSpec]) -> list[tuple[int, dict[str, float]]]:
    """List the phases as (epochs, component -> peak rate); the last one lasts to the end, whatever it says."""
    frozen = frozen_parts(names, config, tasks)
    if config.training.phases:
        wanted = [(resolve_learning(names, phase.learn, tasks), phase) for phase in config.training.phases]
    elif config.training.unfreezing:
        wanted = _progressive(names, config)
    else:
        wanted = [(frozenset(names), PhaseConfig())]
    found = []
    for learning, phase in wanted:
        rates = peak_rates(names, config, tasks, phase)
        found.append((phase.epochs, {name: rates[name] for name in names if name in learning - frozen}))
    return found


def _progressive(names: list[str], config: RunConfig) -> list[tuple[frozenset[str], PhaseConfig]]:
    """Write progressive unfreezing out as phases: heads, some layers more at a time, at last all."""
    options, training = config.training.unfreezing, config.training
    assert options is not None and training.encoder_learning_rate is not None
    heads = fresh_parts(names)
    layers = [name for name in names if name.startswith("layer.")]
    found = [(heads, PhaseConfig(epochs=options.heads_epochs))] if options.heads_epochs else []
    for count in range(options.layers, len(layers) + options.layers, options.layers):
        found.append((heads | frozenset(layers[-count:]), PhaseConfig(epochs=options.epochs)))
    rate = options.last_learning_rate and min(options.last_learning_rate, training.encoder_learning_rate)
    last = PhaseConfig(epochs=options.epochs, encoder_learning_rate=rate, layer_decay=options.last_decay)
    return [*found, (frozenset(names), last)]


def _within(wanted: Iterable[tuple[int, dict[str, float]]], epochs: int) -> list[Phase]:
    """Lay the phases out over the epochs there are."""
    found: list[Phase] = []
    for length, peaks in wanted:
        first = found[-1].last_epoch + 1 if found else 1
        if first <= epochs:
            found.append(Phase(first, min(first + length - 1, epochs), peaks))
    return [*found[:-1], Phase(found[-1].first_epoch, epochs, found[-1].peaks)]
