"""The plan of a run before it is created, made by the code that trains; what is slow is kept while the form changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.choices import DEFAULT_ENCODER
from mtl.config import DataConfig, EncoderConfig, RunConfig, TaskConfig, TrainingConfig, task_specs
from mtl.config_text import load_config
from mtl.data.preparing import Division, Prepared, Understood, read_weights
from mtl.data.reading import is_missing
from mtl.errors import CheckpointError, ConfigError, UserError
from mtl.runs.inheriting import adopt, inherit, inherited, is_learnt_on
from mtl.runs.limits import check_encoder
from mtl.runs.store import Run, check_source
from mtl.ui.context import AppContext
from mtl.ui.train.checks import near_groups
from mtl.ui.uploads import prepared_data

if TYPE_CHECKING:
    from mtl.data.tokens import TokenCounts
    from mtl.reports.exposure import Exposure
    from mtl.training.plan import RatePlan

MINILM_LAYERS = 6
SAMPLED_BY = ("seed", "epochs", "batch_size", "sampling", "row_sampling", "sampling_options", "curriculum")


@dataclass(frozen=True)
class Planned:
    """A plan, and the run that it is of.

    Attributes:
        prepared: The data and the configuration.
        plan: What learns when, and how fast.
        exposure: What the run would see.
        frozen: Heads that stay as they are at their random start.
        notes: What comes from the run that it starts from.
    """

    prepared: Prepared
    plan: RatePlan
    exposure: Exposure
    frozen: tuple[str, ...]
    notes: tuple[str, ...]


class Same:
    """Something too large to compare: it is equal to nothing but itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def plan_run(
    context: AppContext, config: RunConfig, files: Sequence[Sequence[str]], *, near: bool, token: str = ""
) -> Planned:
    """Plan a run as `RunStore.create` and then `Setup` will.

    Args:
        context: The server's.
        config: As the person gave it.
        files: Path of each CSV file, and what the person calls it.
        near: Whether to look for near duplicates, if they are to stay together.
        token: The visitor's secret, which opens the run that is learnt on from.

    Raises:
        UserError: The file or the configuration cannot be used.
    """
    from mtl.training.components import planned_sizes  # torch: only once there is a plan
    from mtl.training.plan import RatePlan

    source = _source(context, config, token)
    earlier = _tasks(source) if source else {}
    groups = _near_groups(files, config) if near else ()
    prepared = prepared_data(files, inherit(config, source.config) if source else config, groups)
    own = adopt(prepared.config, earlier) if source else prepared.config
    kept = {name: task for name, task in earlier.items() if name not in own.tasks}
    everything = own.model_copy(update={"tasks": own.tasks | kept})
    steps, exposure = _seen(Same(prepared.understood), Same(prepared.division), _sampled(own))
    plan = RatePlan(planned_sizes(encoder(own.encoder.name), everything), own, task_specs(everything), steps)
    loaded = [name for name, task in own.tasks.items() if is_learnt_on(task, earlier.get(name))]
    fresh = {task.name: f"head.{task.key}" for task in task_specs(own) if task.name not in loaded}
    return Planned(
        replace(prepared, config=own),
        plan,
        exposure,
        frozen=tuple(name for name, head in fresh.items() if head not in plan.ever_learning),
        notes=inherited(source.title or source.name, loaded, list(fresh), list(kept)) if source else (),
    )


def _source(context: AppContext, config: RunConfig, token: str) -> Run | None:
    """Open the run that is learnt on from.

    Raises:
        ConfigError: There is no such run, or it is another visitor's: the same words.
        CheckpointError: It has no checkpoint.
    """
    name = config.training.start_from
    if not name:
        return None
    try:
        run = context.open(name, token)
    except CheckpointError:
        raise ConfigError("training.start_from: there is no such run.") from None
    check_source(run)
    return run


def _tasks(run: Run) -> dict[str, TaskConfig]:
    return _tasks_cached(run.best, (run.best / "manifest.json").stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _tasks_cached(best: Path, changed: int) -> dict[str, TaskConfig]:
    return load_config(best / "config.yaml").tasks


def _near_groups(files: Sequence[Sequence[str]], config: RunConfig) -> tuple[tuple[int, ...], ...] | None:
    """Look for near duplicates if they are to stay together; only the texts and the encoder decide which they are."""
    if config.data.split.near_duplicates is None:
        return None
    data = config.data.model_copy(update={"weight_column": None})
    texts = RunConfig(data=data, encoder=EncoderConfig(name=config.encoder.name))
    return _near(tuple((path, name) for path, name in files), texts.model_dump_json())


@lru_cache(maxsize=2)
def _near(files: tuple[tuple[str, str], ...], config: str) -> tuple[tuple[int, ...], ...] | None:
    return near_groups(files, RunConfig.model_validate_json(config))


def _sampled(config: RunConfig) -> str:
    """Keep of a resolved configuration what the sampling depends on."""
    training = {name: getattr(config.training, name) for name in SAMPLED_BY}
    reduced = RunConfig(
        data=DataConfig(weight_column=config.data.weight_column),
        tasks={name: TaskConfig(kind=task.kind) for name, task in config.tasks.items()},
        training=TrainingConfig(**training),
    )
    return reduced.model_dump_json()


@lru_cache(maxsize=4)
def _seen(understood: Same, division: Same, sampled: str) -> tuple[list[int], Exposure]:
    """Run the sampler on the training rows; return the steps of each epoch, and what the run would see."""
    from mtl.reports.exposure import exposure
    from mtl.training.sampling import build_sampler

    config = RunConfig.model_validate_json(sampled)
    found: Understood = understood.value
    split: Division = division.value
    rows, column = split.split.train, config.data.weight_column
    classes = {task.key: _classes(found, task.name, rows) for task in task_specs(config)}
    labelled = {key: [name is not None for name in cells] for key, cells in classes.items()}
    numbers = read_weights(found.table, column) if column else None
    weights = None if numbers is None else [numbers[row] for row in rows]
    sampler = build_sampler(labelled, classes, [1] * len(rows), config, weights=weights)
    epochs = config.training.epochs
    assert isinstance(epochs, int)  # it is resolved
    return [sampler.steps(epoch) for epoch in range(1, epochs + 1)], exposure(sampler, labelled, epochs)


def _classes(understood: Understood, task: str, rows: Sequence[int]) -> list[str | None]:
    """Return the class of each row, for entities whether it has any; None where it is not labelled."""
    if task in understood.entities:
        spans = [understood.entities[task].spans[row] for row in rows]
        return [None if found is None else str(bool(found)) for found in spans]
    cells = understood.table.columns[task]
    return [None if is_missing(cells[row]) else cells[row] for row in rows]


@lru_cache(maxsize=8)
def encoder(name: str) -> Any:
    """Load an encoder once to count and to tokenise; its pooling does not matter for that."""
    from mtl.modeling.encoder import load_encoder

    return load_encoder(name)


def layer_count(name: str) -> int:
    """Count an encoder's layers; of one that cannot be loaded, or not on this page, say what the default one has."""
    if name == DEFAULT_ENCODER:
        return MINILM_LAYERS
    from mtl.training.components import encoder_components

    try:
        check_encoder(RunConfig(encoder=EncoderConfig(name=name or DEFAULT_ENCODER)))
        return sum(part.startswith("layer.") for part in encoder_components(encoder(name)))
    except UserError:
        return MINILM_LAYERS


def tokens(settings: EncoderConfig, texts: list[str]) -> TokenCounts:
    """Say how long the texts are for an encoder, and how much of them it knows."""
    return _tokens(settings.name, settings.max_length, Same(texts))


@lru_cache(maxsize=4)
def _tokens(name: str, max_length: int | None, texts: Same) -> TokenCounts:
    from mtl.data.tokens import count_tokens

    loaded = encoder(name)
    return count_tokens(texts.value, loaded.tokenizer, max_length or loaded.max_seq_length)
