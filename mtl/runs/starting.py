"""The model a run starts with: fresh, or learnt on from an earlier run's checkpoint.

From a checkpoint come the encoder and the heads whose task and labels are the same. A task with other labels gets a
new head; the head of a task that the new data does not have is kept as it is and still answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mtl.config import RunConfig, task_specs
from mtl.errors import UserError
from mtl.runs.inheriting import inherited, is_learnt_on
from mtl.runs.store import Run
from mtl.tasks import task_keys

if TYPE_CHECKING:
    from mtl.data.splitting import Examples
    from mtl.modeling.multitask import MultiTaskModel


@dataclass(frozen=True)
class Earlier:
    """The run that was learnt on from, to see what became of its tasks.

    Attributes:
        name: Of the run.
        tasks: Names of its tasks whose heads are still there.
        examples: Its validation rows; None if it does not have them any more.
    """

    name: str
    tasks: tuple[str, ...]
    examples: Examples | None


@dataclass(frozen=True)
class Start:
    """What a run starts with.

    Attributes:
        model: Its weights are those of the first step.
        base_sha256: `encoder_sha256` of the pretrained encoder at the bottom of it all.
        config: What a checkpoint of this run is saved with: the run's own, and the tasks that were kept.
        earlier: The run that was learnt on from.
        notes: What a person should know.
    """

    model: MultiTaskModel
    base_sha256: str
    config: RunConfig
    earlier: Earlier | None = None
    notes: tuple[str, ...] = field(default=())


def start_model(config: RunConfig, source: Run | None) -> Start:
    """Build the model of a run.

    Args:
        config: The run's, resolved.
        source: The run that is learnt on from, or None.

    Raises:
        CheckpointError: The encoder or the checkpoint cannot be loaded.
    """
    from mtl.modeling.encoder import encoder_sha256
    from mtl.modeling.multitask import build_model

    if source is None:
        model = build_model(config, task_specs(config))
        return Start(model, encoder_sha256(model.encoder), config)
    return _learn_on(config, source)


def _learn_on(config: RunConfig, source: Run) -> Start:
    import torch

    from mtl.modeling.multitask import MultiTaskModel, build_head, embedding_size, token_size
    from mtl.runs.checkpoint import load_checkpoint

    old, old_config, manifest = load_checkpoint(source.best)
    torch.manual_seed(config.training.seed)  # the new heads
    sizes = {"sentence_size": embedding_size(old.encoder), "token_size": token_size(old.encoder)}
    known = {task.name: task for task in old.tasks}
    new = {task.name: task for task in task_specs(config)}
    kept = {name: task for name, task in known.items() if name not in new}
    keys = task_keys([*new, *kept])
    tasks = [task.model_copy(update={"key": keys[name]}) for name, task in (new | kept).items()]
    loaded = [name for name in new if is_learnt_on(config.tasks[name], old_config.tasks.get(name))]
    heads = {}
    for task in tasks:
        if task.name in loaded or task.name in kept:
            heads[task.key] = old.head(known[task.name].key)
        else:
            heads[task.key] = build_head(task, config.tasks[task.name], **sizes)
    model = MultiTaskModel(old.encoder, heads, tasks)
    model.changed = frozenset(part for part in old.changed if not part.startswith("head."))
    model.changed |= {f"head.{keys[name]}" for name in (*loaded, *kept)}
    everything = config.model_copy(update={"tasks": config.tasks | {name: old_config.tasks[name] for name in kept}})
    still = tuple(name for name in known if name in loaded or name in kept)
    earlier = Earlier(source.name, still, _validation_rows(source))
    fresh = [name for name in new if name not in loaded]
    notes = inherited(source.title or source.name, loaded, fresh, list(kept))
    return Start(model, manifest["base"]["sha256"], everything, earlier, notes)


def _validation_rows(source: Run) -> Examples | None:
    """Return the validation rows of an earlier run; None if its data is not there any more."""
    from mtl.data.preparing import cut

    try:
        found = cut(source.table(), source.config, source.split()).validation
    except (UserError, OSError, ValueError, KeyError):
        return None
    return found if len(found) else None


def score_earlier(model: MultiTaskModel, earlier: Earlier) -> dict[str, Any]:
    """Score the tasks of the earlier run on its own validation rows. Task name -> scores; empty without rows."""
    from mtl.training.evaluation import evaluate

    found = evaluate(model, earlier.examples) if earlier.examples is not None else None
    return {name: scores for name, scores in found.scores.items() if name in earlier.tasks} if found else {}
