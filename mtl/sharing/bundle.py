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

from mtl.config import DEFAULT_ENCODER, RunConfig
from mtl.config_text import to_yaml
from mtl.inference.predictor import Predictor
from mtl.modeling.pooling import AttentionPooling
from mtl.training.components import NEW_PARTS, encoder_components

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
    (folder / "README.md").write_text(_card(predictor.config, predictor, name, notes), encoding="utf-8")
    return notes


def _without_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with file names instead of the paths of this machine."""
    files = tuple(Path(file).name for file in config.data.files)
    encoder = Path(config.encoder.name).name if Path(config.encoder.name).is_dir() else config.encoder.name
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"files": files}),
            "encoder": config.encoder.model_copy(update={"name": encoder}),
        }
    )


def _tensors(modules: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """List the weights of named modules as `<module>.<weight>`."""
    return {
        f"{name}.{parameter}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for parameter, value in module.state_dict().items()
    }


POOLING_FILE = "pooling.safetensors"

_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
{base_model}tags: [sentence-transformers, multi-task-learning, text-classification]
---
# {name}

A sentence encoder fine-tuned from {base} together with {count} task heads.
Embeddings have {size} dimensions; texts are cut at {max_length} tokens.

| task | classes | validation accuracy | validation macro F1 |
|---|---|---|---|
{table}

```python
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer(".")          # this folder
embeddings = encoder.encode(["a sentence"])
```

A linear head is one matrix and one vector; its probabilities are the softmax of `W @ embedding + b`:

```python
import json
from pathlib import Path
from safetensors.numpy import load_file

heads = load_file("heads.safetensors")
tasks = json.loads(Path("tasks.json").read_text(encoding="utf-8"))
for task in tasks:
    layers = sorted(k for k in heads if k.startswith(task["key"] + ".") and k.endswith("weight"))
    if len(layers) == 1:                       # a linear head; an "mlp" head has a GELU between its two layers
        weight, bias = heads[layers[0]], heads[layers[0].replace("weight", "bias")]
        logits = embeddings @ weight.T + bias
        print(task["name"], [task["labels"][i] for i in logits.argmax(axis=1)])
```

{notes}

`run_config.yaml` is the configuration of the run that made it.
"""


def _card(config: RunConfig, predictor: Predictor, name: str, notes: list[str]) -> str:
    scores, base = predictor.manifest["scores"], config.encoder.name
    is_folder = base != DEFAULT_ENCODER and Path(base).is_dir()  # of this machine: no one else's business

    def row(task: str, classes: int) -> str:
        found = scores.get(task, {})
        cells = [f"{found[m]:.3f}" if m in found else "not measured" for m in ("accuracy", "macro_f1")]
        return f"| {task.replace('|', '/')} | {classes} | {' | '.join(cells)} |"

    return _CARD.format(
        base=f"the local folder {Path(base).name}" if is_folder else f"[{base}](https://huggingface.co/{base})",
        base_model="" if is_folder else f"base_model: {base}\n",
        name=name,
        count=len(predictor.tasks),
        size=predictor.embedding_size,
        max_length=predictor.model.encoder.max_seq_length,
        table="\n".join(row(task.name, len(task.labels)) for task in predictor.tasks),
        notes="\n\n".join(notes),
    )
