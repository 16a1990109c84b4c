"""The README of an exported checkpoint: what it is, how good it is, and code that uses it without this app."""

from __future__ import annotations

import inspect
from pathlib import Path

from mtl.choices import DEFAULT_ENCODER, SCORE_NAMES, SCORES
from mtl.config import RunConfig, TaskConfig
from mtl.data import entities
from mtl.inference.predictor import Predictor
from mtl.modeling.heads import token_classification
from mtl.tasks import TaskKind, TaskSpec

ANSWERS: dict[TaskKind, str] = {"classification": "one of {}", "token_classification": "entities of {}"}
LABELS: dict[TaskKind, tuple[str, str]] = {
    "classification": ("class", "classes"),
    "token_classification": ("type", "types"),
}
TAGS: dict[TaskKind, str] = {"classification": "text-classification", "token_classification": "token-classification"}

_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
{base_model}tags: [{tags}]
---
# {name}

A sentence encoder fine-tuned from {base} together with {count} task heads.
Embeddings have {size} dimensions; texts are cut at {max_length} tokens.

| task | answers | on the validation rows |
|---|---|---|
{table}

## Embeddings

```python
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer(".")          # this folder
texts = ["a sentence"]
embeddings = encoder.encode(texts, convert_to_tensor=True)
```

## Heads

A linear head is one matrix and one vector; an mlp head has a hidden layer before it, with a GELU between the two. The
logits are divided by the head's temperature, which makes its probabilities honest and changes no answer:

```python
import json
from pathlib import Path

from safetensors.torch import load_file
from torch.nn.functional import gelu, linear, softmax

tasks = json.loads(Path("tasks.json").read_text(encoding="utf-8"))
weights = load_file("heads.safetensors", device=str(encoder.device))


def probabilities(task, vectors):
    layers = sorted({{name.rpartition(".")[0] for name in weights if name.startswith(task["key"] + ".layers.")}})
    for layer in layers:
        vectors = vectors if layer == layers[0] else gelu(vectors)
        vectors = linear(vectors, weights[layer + ".weight"], weights[layer + ".bias"])
    return softmax(vectors / weights[task["key"] + ".temperature"], dim=-1)
```
{sections}
{notes}

`run_config.yaml` is the configuration of the run that made it.
"""

_CLASSES = """
### A class for each text

It reads the embedding; its outputs are the task's labels, in their order:

```python
for task in tasks:
    if task["kind"] == "classification":
        best = probabilities(task, embeddings).argmax(dim=-1).tolist()
        print(task["name"], [task["labels"][number] for number in best])
```
"""

_ENTITIES = """
### Entities in each text

It reads the vector of every token and gives each a tag. Output 0 is O, no entity; then come B- and I- of each label,
B- for the first word of an entity and I- for those after it. Only the first token of a word counts; which that is, and
where an entity ends in the text, follows from the tokens' offsets and is in `entities.py` beside this file:

```python
import torch
from entities import counted_tokens, end_of_entity


def find(task, text, offsets, vectors):
    sure, tags = (values.tolist() for values in probabilities(task, vectors).max(dim=-1))
    found, going_on = [], None               # the tag that would go on with the last entity
    for token, start, end in counted_tokens(text, offsets):
        tag = tags[token]
        if tag and tag == going_on:          # I-
            one = found[-1]
            one["end"] = end_of_entity(text, one["start"], start, end)
            one["confidence"] = min(one["confidence"], sure[token])
        elif tag:                            # B-, or an I- that goes on with nothing
            label = task["labels"][(tag - 1) // 2]
            end = end_of_entity(text, start, start, end)
            found.append({"start": start, "end": end, "label": label, "confidence": sure[token]})
        going_on = tag + tag % 2 if tag else None
    return found


inputs = encoder.tokenizer(
    texts, padding=True, truncation=True, max_length=encoder.max_seq_length,
    return_offsets_mapping=True, return_tensors="pt",
)
offsets = inputs.pop("offset_mapping").tolist()
with torch.inference_mode():
    vectors = encoder[0](dict(inputs.to(encoder.device)))["token_embeddings"]
for task in tasks:
    if task["kind"] == "token_classification":
        for text, places, rows in zip(texts, offsets, vectors):
            found = find(task, text, places, rows)
            print(task["name"], [(text[one["start"] : one["end"]], one["label"]) for one in found])
```
"""

_SECTIONS: dict[TaskKind, str] = {"classification": _CLASSES, "token_classification": _ENTITIES}

_RULE = '''"""Which tokens have a tag, and where an entity ends: by the characters that the tokens stand for."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

Offsets = list[tuple[int, int]]
Counted = list[tuple[int, int, int]]
_UNSPACED = re.compile({unspaced!r})
_PAIRS = {pairs!r}
_NEVER_LAST = frozenset({never_last!r})


{functions}

end_of_entity = _end
'''


def card(config: RunConfig, predictor: Predictor, name: str, notes: list[str]) -> str:
    """Write the README.

    Args:
        config: Of the run.
        predictor: The checkpoint.
        name: Of the folder.
        notes: What sentence-transformers cannot express, a sentence each.
    """
    base = config.encoder.name
    is_folder = base != DEFAULT_ENCODER and Path(base).is_dir()  # of this machine: no one else's business
    kinds = [kind for kind in SCORES if any(task.kind == kind for task in predictor.tasks)]
    return _CARD.format(
        base=f"the local folder {Path(base).name}" if is_folder else f"[{base}](https://huggingface.co/{base})",
        base_model="" if is_folder else f"base_model: {base}\n",
        tags=", ".join(["sentence-transformers", "multi-task-learning", *(TAGS[kind] for kind in kinds)]),
        name=name,
        count=len(predictor.tasks),
        size=predictor.embedding_size,
        max_length=predictor.model.encoder.max_seq_length,
        table="\n".join(_row(task, config, predictor) for task in predictor.tasks),
        sections="".join(_SECTIONS[kind] for kind in kinds),
        notes="\n\n".join(notes),
    )


def _row(task: TaskSpec, config: RunConfig, predictor: Predictor) -> str:
    """Describe a task, its score that counts before the others."""
    main = config.tasks.get(task.name, TaskConfig()).main_score or SCORES[task.kind][0]
    order = [main, *(score for score in SCORES[task.kind] if score != main)]
    found = predictor.manifest["scores"].get(task.name, {})
    scores = [f"{SCORE_NAMES[score]} {found[score]:.3f}" for score in order if score in found]
    count = len(task.labels)
    answers = ANSWERS[task.kind].format(f"{count} {LABELS[task.kind][count > 1]}")
    return f"| {task.name.replace('|', '/')} | {answers} | {', '.join(scores) or 'not measured'} |"


def entities_code() -> str:
    """Write the module `entities`, for a machine without this app: the rule of the heads themselves, not a copy."""
    rule = token_classification
    functions = (entities.in_word, rule.counted_tokens, rule._end, rule._is_beyond)
    return _RULE.format(
        unspaced=entities._UNSPACED.pattern,
        pairs=rule._PAIRS,
        never_last="".join(sorted(rule._NEVER_LAST)),
        functions="\n\n".join(inspect.getsource(function) for function in functions).rstrip() + "\n",
    )
