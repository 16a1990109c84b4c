"""Save and load what was trained: safetensors and JSON, a manifest with checksums, no pickle anywhere.

A checkpoint folder holds

    model.safetensors   the weights that differ from the base encoder: every part that learnt, and every new part;
                        and the temperature of every head
    tasks.json          the tasks in the order of the heads
    config.yaml         the run's configuration, which names the base encoder
    manifest.json       format, the base encoder's hash, where in the run it was made, sizes and SHA-256

Frozen parts of the encoder are not saved: they are the base encoder's, whose hash must match at load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtl.config import RunConfig
from mtl.config_text import load_config, to_yaml
from mtl.errors import CheckpointError
from mtl.modeling.encoder import encoder_sha256
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.runs.files import atomic_folder, write_atomic, write_json
from mtl.runs.manifest import MANIFEST, read_manifest, seal
from mtl.tasks import TaskSpec, task_keys
from mtl.training.components import components, parameter_names, pretrained_parts

FORMAT = 3
SEALED_SINCE = 3  # before, the manifest itself had no checksum
WEIGHTS, TASKS, CONFIG = "model.safetensors", "tasks.json", "config.yaml"


def _add_temperatures(saved: dict[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Format 1 had no temperatures: its heads are as sure as their logits say."""
    saved.update({name: torch.ones_like(state[name]) for name in _temperatures(state)})


# Format -> what makes the weights of that format those of the next one. Each takes the saved weights, which it
# changes, and those of a fresh model.
MIGRATIONS: dict[int, Callable[[dict[str, Tensor], Mapping[str, Tensor]], None]] = {
    1: _add_temperatures,
    2: lambda saved, state: None,
}


@dataclass(frozen=True)
class Made:
    """Where in a run a checkpoint was made.

    Attributes:
        epoch: Last finished epoch.
        step: Last finished step.
        validated: Whether its scores were measured; False for weights kept at a stop in mid-epoch.
        scores: Task name -> metric -> value on the validation rows; empty if not validated.
    """

    epoch: int
    step: int
    validated: bool
    scores: dict[str, dict[str, float]]


def save_checkpoint(folder: Path, model: MultiTaskModel, config: RunConfig, base_sha256: str, made: Made) -> None:
    """Write a checkpoint in the place of an older one.

    Args:
        folder: Usually `best` of a run folder.
        model: The weights to keep.
        config: The run's, resolved, with every task that has a head.
        base_sha256: `encoder_sha256` of the encoder before training.
        made: Where in the run this is.
    """
    state = model.state_dict()
    names = [*parameter_names(model, _saved_parts(model)), *_temperatures(state)]
    with atomic_folder(folder) as new:
        save_file({name: state[name].detach().cpu().contiguous() for name in names}, new / WEIGHTS)
        write_json(new / TASKS, [task.model_dump(mode="json") for task in model.tasks])
        write_atomic(new / CONFIG, to_yaml(config))
        base = {"name": config.encoder.name, "sha256": base_sha256}
        seal(new, {"format": FORMAT, "base": base, **asdict(made)})


def _saved_parts(model: MultiTaskModel) -> Iterable[str]:
    """Name the parts that differ from the base encoder: those that learn or have learnt, and those not in it."""
    from_base = pretrained_parts(model)
    return [name for name in components(model) if name not in from_base or name in model.changed]


def _temperatures(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name in state if name.startswith("heads.") and name.endswith(".temperature")]


def _title(folder: Path, article: str = "The") -> str:
    """Name a checkpoint by its run, for a sentence; a page shows no path of its machine."""
    return f"{article} checkpoint of {folder.parent.name}"


def read_checkpoint_manifest(folder: Path) -> dict[str, Any]:
    """Read and check a checkpoint's manifest and the checksums of its files.

    Raises:
        CheckpointError: No checkpoint, a newer format, or a file that is not what was written.
    """
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder.parent.name} holds no checkpoint.")
    manifest = read_manifest(folder, _title(folder), (*MIGRATIONS, FORMAT), sealed_since=SEALED_SINCE)
    for name in (WEIGHTS, TASKS, CONFIG):
        if name not in manifest["files"]:
            raise CheckpointError(f"{name} of {_title(folder, 'the')} is damaged: its checksum does not match.")
    match manifest:
        case {"base": {"sha256": str()}, "scores": dict(), "epoch": int(), "step": int(), "validated": bool()}:
            return manifest
        case _:
            raise CheckpointError(f"{_title(folder)} has no readable manifest; it is damaged.")


def made_of(folder: Path) -> Made | None:
    """Say where in its run a checkpoint was made; None if there is none that is whole."""
    try:
        manifest = read_checkpoint_manifest(folder)
    except CheckpointError:
        return None
    return Made(**{field.name: manifest[field.name] for field in fields(Made)})


def weights_of(manifest: Mapping[str, Any]) -> str:
    """Name the weights of a checkpoint, those of its base encoder included, by their hashes."""
    return f"{manifest['base']['sha256'][:16]} {manifest['files'][WEIGHTS]['sha256'][:16]}"


def _read_tasks(folder: Path, config: RunConfig) -> list[TaskSpec]:
    """Read the tasks in the order of the heads; they are the configuration's, under the keys that those names get."""
    try:
        tasks = TypeAdapter(list[TaskSpec]).validate_json((folder / TASKS).read_bytes())
    except (OSError, ValueError):
        raise CheckpointError(f"{TASKS} of {_title(folder, 'the')} is no list of tasks; it is damaged.") from None
    names = [task.name for task in tasks]
    if set(names) != config.tasks.keys() or [task.key for task in tasks] != list(task_keys(names).values()):
        raise CheckpointError(f"{TASKS} of {_title(folder, 'the')} does not fit its {CONFIG}; it is damaged.")
    return tasks


def load_checkpoint(folder: Path) -> tuple[MultiTaskModel, RunConfig, dict[str, Any]]:
    """Rebuild a model from a checkpoint, in evaluation mode on the CPU.

    Returns:
        The model, the configuration of its run, and the manifest.

    Raises:
        CheckpointError: The checkpoint is damaged, or its base encoder is missing or another one.
    """
    manifest = read_checkpoint_manifest(folder)
    config = load_config(folder / CONFIG)
    model = build_model(config, _read_tasks(folder, config))
    if encoder_sha256(model.encoder) != manifest["base"]["sha256"]:
        raise CheckpointError(
            f"{_title(folder)} was trained on another version of {config.encoder.name} than the one here."
        )
    try:
        saved = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The weights of {_title(folder, 'the')} cannot be read ({error}).") from None
    state = model.state_dict()
    for version in range(manifest["format"], FORMAT):
        MIGRATIONS[version](saved, state)
    for name, value in saved.items():
        if name not in state or state[name].shape != value.shape:
            raise CheckpointError(f"{_title(folder)} does not fit its encoder: {name} has another shape.")
    required = set(parameter_names(model, set(components(model)) - pretrained_parts(model)))
    if required - saved.keys():
        raise CheckpointError(f"{_title(folder)} lacks the weights {min(required - saved.keys())}.")
    model.load_state_dict(saved, strict=False)
    model.changed = frozenset(name for name in components(model) if set(parameter_names(model, [name])) <= saved.keys())
    return model.eval(), config, manifest
