"""Export a checkpoint as one zip: a folder that `SentenceTransformer(path)` opens, heads and labels beside it."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mtl.config import RunConfig, to_yaml
from mtl.inference.predictor import Predictor
from mtl.modeling.pooling import AttentionPooling

ATTENTION_NOTE = (
    "This encoder pools with learned attention, which sentence-transformers has no module for: the folder holds the "
    "Transformer and pooling.safetensors, and SentenceTransformer(path) would pool with the mean instead. "
    "Use mtl.Predictor for the embeddings that were trained."
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
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(scratch))
        temporary.replace(output)
    return notes


def write_folder(predictor: Predictor, folder: Path, name: str) -> list[str]:
    """Write the bundle's folder; see `export_bundle`."""
    model = predictor.model
    notes = [HEADS_NOTE]
    pooling = next((module for module in model.encoder if isinstance(module, AttentionPooling)), None)
    folder.mkdir(parents=True)
    if pooling is None:
        model.encoder.save(str(folder), create_model_card=False)
    else:
        notes.append(ATTENTION_NOTE)
        transformer: Any = model.encoder[0]
        transformer.save(str(folder))
        save_file({key: value.contiguous() for key, value in pooling.state_dict().items()}, folder / POOLING_FILE)
    heads: dict[str, torch.Tensor] = {
        f"{key}.{parameter}": value.detach().cpu().contiguous()
        for key in model.heads
        for parameter, value in model.head(key).state_dict().items()
    }
    save_file(heads, folder / "heads.safetensors")
    (folder / "tasks.json").write_text(
        json.dumps([task.model_dump(mode="json") for task in model.tasks], indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    (folder / "run_config.yaml").write_text(to_yaml(predictor.config), encoding="utf-8")
    (folder / "README.md").write_text(_card(predictor.config, predictor, name, notes), encoding="utf-8")
    return notes


POOLING_FILE = "pooling.safetensors"

_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base}
tags: [sentence-transformers, multi-task-learning, text-classification]
---
# {name}

A sentence encoder fine-tuned from [{base}](https://huggingface.co/{base}) together with {count} task heads.
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
from safetensors.numpy import load_file
import numpy as np

heads, tasks = load_file("heads.safetensors"), json.load(open("tasks.json", encoding="utf-8"))
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
    scores = predictor.manifest["scores"]

    def row(task: str, classes: int) -> str:
        found = scores.get(task, {})
        cells = [f"{found[m]:.3f}" if m in found else "not measured" for m in ("accuracy", "macro_f1")]
        return f"| {task.replace('|', '/')} | {classes} | {' | '.join(cells)} |"

    return _CARD.format(
        base=config.encoder.name,
        name=name,
        count=len(predictor.tasks),
        size=predictor.embedding_size,
        max_length=predictor.model.encoder.max_seq_length,
        table="\n".join(row(task.name, len(task.labels)) for task in predictor.tasks),
        notes="\n\n".join(notes),
    )
