"""Choices made by a short measurement, kept per machine: the same machine then makes them again without one."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from mtl.modeling.encoder import transformer_of

MOST_KEPT = 1000  # choices in one file; the oldest make room


def machine_and_encoder(encoder: SentenceTransformer, *further: object) -> str:
    """Name what a measurement is about: this machine with so many threads, this shape of an encoder, and the rest."""
    parts = [
        platform.node(),
        platform.processor() or platform.machine(),
        torch.__version__,
        str(torch.get_num_threads()),
        torch.backends.cpu.get_cpu_capability(),
        transformer_of(encoder).config.to_json_string(),
        *map(repr, further),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def kept_choice(
    file: Path | None, key: str, is_valid: Callable[[Any], bool], measure: Callable[[], Sequence[str]]
) -> list[str]:
    """Return the choice kept under a key; if there is none, or it is spoilt, measure and keep it.

    Args:
        file: JSON, other keys in it stay; None measures anew.
        key: From `machine_and_encoder`.
        is_valid: Says whether what was kept is a choice at all.
        measure: Makes the choice.
    """
    known: dict[str, Any] = _read(file) if file else {}
    if not is_valid(known.get(key)):
        known = dict(list(known.items())[-MOST_KEPT:]) | {key: list(measure())}
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
            temporary.write_text(json.dumps(known, indent=1), encoding="utf-8")
            temporary.replace(file)
    return list(known[key])


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or spoilt: it is measured again
        return {}
    return found if isinstance(found, dict) else {}
