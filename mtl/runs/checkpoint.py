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

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtl.config import RunConfig
from mtl.config_text import load_config, to_yaml
from mtl.errors import CheckpointError
from mtl.modeling.encoder import encoder_sha256, file_sha256
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.runs.files import atomic_folder, write_json
from mtl.tasks import TaskSpec
from mtl.training.components import components, parameter_names, pretrained_parts

FORMAT = 2  # 1 had no temperatures
READABLE = (1, 2)
WEIGHTS, TASKS, CONFIG, MANIFEST = "model.safetensors", "tasks.json", "config.yaml", "manifest.json"


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
        (new / CONFIG).write_text(to_yaml(config), encoding="utf-8")
        files = {
            name: {"size": (new / name).stat().st_size, "sha256": file_sha256(new / name)}
            for name in (WEIGHTS, TASKS, CONFIG)
        }
        write_json(
            new / MANIFEST,
            {
                "format": FORMAT,
                "base": {"name": config.encoder.name, "sha256": base_sha256},
                "epoch": made.epoch,
                "step": made.step,
                "validated": made.validated,
                "scores": made.scores,
                "files": files,
            },
        )


def _saved_parts(model: MultiTaskModel) -> Iterable[str]:
    """Name the parts that differ from the base encoder: those that learn or have learnt, and those not in it."""
    from_base = pretrained_parts(model)
    return [name for name in components(model) if name not in from_base or name in model.changed]


def _temperatures(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name in state if name.startswith("heads.") and name.endswith(".temperature")]


def _title(folder: Path, article: str = "The") -> str:
    """Name a checkpoint by its run, for a sentence; a page shows no path of its machine."""
    return f"{article} checkpoint of {folder.parent.name}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check a checkpoint's manifest and the checksums of its files.

    Raises:
        CheckpointError: No checkpoint, a newer format, or a file that is not what was written.
    """
    damaged = CheckpointError(f"{_title(folder)} has no readable manifest; it is damaged.")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder.parent.name} holds no checkpoint.") from None
    except (OSError, ValueError):
        raise damaged from None
    match manifest:
        case {"format": version} if version not in READABLE:
            raise CheckpointError(f"{_title(folder)} has format {version}; this version reads {FORMAT} and older ones.")
        case {"format": _, "base": {"sha256": str()}, "scores": dict(), "files": dict(files)}:
            pass
        case _:
            raise damaged
    for name in (WEIGHTS, TASKS, CONFIG):
        found = files.get(name)
        if not isinstance(found, dict) or file_sha256(folder / name) != found.get("sha256"):
            raise CheckpointError(f"{name} of {_title(folder, 'the')} is damaged: its checksum does not match.")
    return manifest


def load_checkpoint(folder: Path) -> tuple[MultiTaskModel, RunConfig, dict[str, Any]]:
    """Rebuild a model from a checkpoint, in evaluation mode on the CPU.

    Returns:
        The model, the configuration of its run, and the manifest.

    Raises:
        CheckpointError: The checkpoint is damaged, or its base encoder is missing or another one.
    """
    manifest = read_manifest(folder)
    config = load_config(folder / CONFIG)
    tasks = [TaskSpec.model_validate(task) for task in json.loads((folder / TASKS).read_text(encoding="utf-8"))]
    model = build_model(config, tasks)
    if encoder_sha256(model.encoder) != manifest["base"]["sha256"]:
        raise CheckpointError(
            f"{_title(folder)} was trained on another version of {config.encoder.name} than the one here."
        )
    try:
        saved = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The weights of {_title(folder, 'the')} cannot be read ({error}).") from None
    state = model.state_dict()
    for name, value in saved.items():
        if name not in state or state[name].shape != value.shape:
            raise CheckpointError(f"{_title(folder)} does not fit its encoder: {name} has another shape.")
    required = set(parameter_names(model, set(components(model)) - pretrained_parts(model)))
    if required - saved.keys():
        raise CheckpointError(f"{_title(folder)} lacks the weights {min(required - saved.keys())}.")
    model.load_state_dict(saved, strict=False)
    model.changed = frozenset(name for name in components(model) if set(parameter_names(model, [name])) <= saved.keys())
    return model.eval(), config, manifest
