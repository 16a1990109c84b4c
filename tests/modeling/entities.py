"""A head of entities and its answers, shared by the tests."""

from __future__ import annotations

import json

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.data.batching import IGNORE_INDEX, Encoding
from mtl.data.entities import Span
from mtl.modeling.heads import TokenClassificationHead

TYPES = ("LOC", "ORG", "PER")
OUT, B_LOC, I_LOC, B_ORG, I_ORG, B_PER, I_PER = range(7)


def head(types: tuple[str, ...] = TYPES) -> TokenClassificationHead:
    """Make a head."""
    torch.manual_seed(0)
    return TokenClassificationHead(4, types, dropout=0.0)


def cell_of(spans: list[Span]) -> str:
    """Write spans as a cell."""
    return json.dumps([{"start": span.start, "end": span.end, "label": span.label} for span in spans])


def certain(tags: list[Tensor], outputs: int = 7, margin: float = 20.0) -> Tensor:
    """Make logits that say these tags; garbage where there is none. Shape: (B, T, C)."""
    length = max(map(len, tags))
    logits = torch.randn(len(tags), length, outputs, generator=torch.Generator().manual_seed(0)) * 50
    for row, values in zip(logits, tags, strict=True):
        labelled = values != IGNORE_INDEX
        row[: len(values)][labelled] = F.one_hot(values[labelled], outputs) * margin
    return logits


def decoded(made: TokenClassificationHead, logits: Tensor, encoding: Encoding) -> list[list[Span]]:
    """Decode into spans."""
    answers = made.decode(logits, encoding)
    return [[Span(entity.start, entity.end, entity.label) for entity in answer.entities] for answer in answers]
