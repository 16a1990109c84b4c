"""What the configuration of a run takes over from the run that it learns on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.config import RunConfig, TaskConfig


def inherit(config: RunConfig, source: RunConfig) -> RunConfig:
    """Take over the encoder of the run that is learnt on from, whatever the configuration says of it."""
    return config.model_copy(update={"encoder": source.encoder})


def adopt(config: RunConfig, source: Mapping[str, TaskConfig]) -> RunConfig:
    """Take over the order of the labels and the shape of the heads that are learnt on from.

    Args:
        config: Prepared, so that kinds and labels are known.
        source: Task name -> its configuration in the earlier run.
    """
    tasks = {name: _adopted(task, source.get(name)) for name, task in config.tasks.items()}
    return config.model_copy(update={"tasks": tasks})


def _adopted(task: TaskConfig, old: TaskConfig | None) -> TaskConfig:
    same = old and (old.kind or "classification") == task.kind and set(old.labels or ()) == set(task.labels or ())
    return task.model_copy(update={"labels": old.labels, "head": old.head}) if old and same else task


def is_learnt_on(task: TaskConfig, old: TaskConfig | None) -> bool:
    """Say whether a head goes on from the earlier one; `adopt` came before."""
    return old is not None and (task.kind, task.labels) == (old.kind or "classification", old.labels)


def inherited(name: str, loaded: Sequence[str], fresh: Sequence[str], kept: Sequence[str]) -> tuple[str, ...]:
    """Say what a run takes over, for people.

    Args:
        name: Of the run that is learnt on from.
        loaded: Tasks whose heads go on.
        fresh: Tasks with a new head.
        kept: Tasks that the new data does not have.
    """
    sentences = [f"It learns on from {name}, with its encoder."]
    for what, names in (
        ("Heads that are learnt on from there", loaded),
        ("New heads", fresh),
        ("Heads that are kept as they are and still answer", kept),
    ):
        sentences += [f"{what}: {', '.join(names)}."] if names else []
    return tuple(sentences)
