"""What a head answered, as plain values: for JSON, and for the cells of a table."""

from __future__ import annotations

import json
from typing import Any

from mtl.modeling.heads import EntityPrediction, Prediction

Answer = Prediction | EntityPrediction


def as_values(answer: Answer, text: str) -> dict[str, Any]:
    """Return an answer as JSON values: a class with its probabilities, or a list of entities in the text."""
    if isinstance(answer, Prediction):
        return {"label": answer.label, "confidence": answer.confidence, "probabilities": answer.probabilities}
    return {
        "entities": [
            {
                "start": entity.start,
                "end": entity.end,
                "label": entity.label,
                "text": text[entity.start : entity.end],
                "confidence": entity.confidence,
            }
            for entity in answer.entities
        ]
    }


def as_cells(answer: Answer, text: str) -> tuple[str, float | None]:
    """Return an answer as two cells of a table: what was predicted, and how sure the head is.

    Entities are written as they are read: `[{"start": 0, "end": 4, "label": "PER", "text": "Anna"}]`; their
    confidence is the mean over them, and there is none where there is no entity.
    """
    if isinstance(answer, Prediction):
        return answer.label, round(answer.confidence, 4)
    spans = [{"start": e.start, "end": e.end, "label": e.label, "text": text[e.start : e.end]} for e in answer.entities]
    confidence = sum(e.confidence for e in answer.entities) / len(spans) if spans else None
    cell = json.dumps(spans, ensure_ascii=False, separators=(",", ":"))
    return cell, None if confidence is None else round(confidence, 4)


def brief(answer: Answer, text: str) -> dict[str, Any]:
    """Return an answer as JSON values for a terminal: without the other classes, and rounded."""
    values = as_values(answer, text)
    if "entities" in values:
        return {"entities": [entity | {"confidence": round(entity["confidence"], 4)} for entity in values["entities"]]}
    return {"label": values["label"], "confidence": round(values["confidence"], 4)}


def in_words(values: dict[str, Any]) -> str:
    """Say a brief answer in a line."""
    if "entities" not in values:
        return f"{values['label']} ({values['confidence']:.2f})"
    found = [f"{entity['text']} {entity['label']} ({entity['confidence']:.2f})" for entity in values["entities"]]
    return "; ".join(found) or "none"
