"""The kinds of heads. To add one: a file here and a line in `HEADS`."""

from mtl.modeling.heads.base import Entity, EntityPrediction, Head, Prediction
from mtl.modeling.heads.classification import ClassificationHead
from mtl.modeling.heads.losses import LOSSES
from mtl.modeling.heads.token_classification import TokenClassificationHead
from mtl.tasks import TaskKind

HEADS: dict[TaskKind, type[Head]] = {
    "classification": ClassificationHead,
    "token_classification": TokenClassificationHead,
}

__all__ = [
    "HEADS",
    "LOSSES",
    "ClassificationHead",
    "Entity",
    "EntityPrediction",
    "Head",
    "Prediction",
    "TokenClassificationHead",
]
