"""Export a checkpoint as one zip: a folder that `SentenceTransformer(path)` opens, heads and labels beside it."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from mtl.config import RunConfig
from mtl.config_text import to_yaml
from mtl.inference.predictor import Predictor
from mtl.modeling.pooling import AttentionPooling
from mtl.sharing.card import card, entities_code
from mtl.training.components import NEW_PARTS, encoder_components

POOLING_FILE = "pooling.safetensors"
ATTENTION_NOTE = (
    "This encoder pools with learned attention, which sentence-transformers has no module for: the folder holds the "
    "Transformer and, in pooling.safetensors, the attention and what follows it; SentenceTransformer(path) would pool "
    "with the mean instead. Use mtl.Predictor for the embeddings that were trained."
)
HEADS_NOTE = (
    "sentence-transformers has no notion of task heads; they are in heads.safetensors, their labels in tasks.json, "
    "and the README shows how to apply them."
)


def export_bundle(predictor: Predictor, output: Path, name: str) -> list[str]:
    """Write the zip.

    Args:
        predictor: The checkpoint.
        output: The zip file; replaced if it exists.
        name: Of the folder inside.

    Returns:
        What sentence-transformers cannot express, a sentence each.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        notes = write_folder(predictor, folder, name)
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(f".{output.name}.tmp")
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for file in sorted(folder.rglob("*")):
                    if file.is_file():
                        archive.write(file, file.relative_to(scratch))
            temporary.replace(output)
        finally:
            temporary.unlink(missing_ok=True)
    return notes


def write_folder(predictor: Predictor, folder: Path, name: str) -> list[str]:
    """Write the bundle's folder; see `export_bundle`."""
    model = predictor.model
    notes = [HEADS_NOTE]
    folder.mkdir(parents=True)
    if any(isinstance(module, AttentionPooling) for module in model.encoder):
        notes.append(ATTENTION_NOTE)
        transformer: Any = model.encoder[0]
        transformer.save(str(folder))
        parts = encoder_components(model.encoder)
        save_file(_tensors({name: parts[name] for name in NEW_PARTS.values() if name in parts}), folder / POOLING_FILE)
    else:
        model.encoder.save(str(folder), create_model_card=False)
    save_file(_tensors({key: model.head(key) for key in model.heads}), folder / "heads.safetensors")
    (folder / "tasks.json").write_text(
        json.dumps([task.model_dump(mode="json") for task in model.tasks], indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    (folder / "run_config.yaml").write_text(to_yaml(_without_paths(predictor.config)), encoding="utf-8")
    (folder / "README.md").write_text(card(predictor.config, predictor, name, notes), encoding="utf-8")
    if any(task.kind == "token_classification" for task in model.tasks):
        (folder / "entities.py").write_text(entities_code(), encoding="utf-8")
    return notes


def _without_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with file names instead of the paths of this machine."""
    files = tuple(Path(file).name for file in config.data.files)
    encoder = Path(config.encoder.name).name if Path(config.encoder.name).is_dir() else config.encoder.name
    source = config.training.start_from and Path(config.training.start_from).name
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"files": files}),
            "encoder": config.encoder.model_copy(update={"name": encoder}),
            "training": config.training.model_copy(update={"start_from": source}),
        }
    )


def _tensors(modules: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """List the weights of named modules as `<module>.<weight>`."""
    return {
        f"{name}.{parameter}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for parameter, value in module.state_dict().items()
    }
