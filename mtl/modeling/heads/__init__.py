"""The kinds of heads. To add one: a file here and a line in `HEADS`."""

from mtl.modeling.heads.base import Head, Prediction
from mtl.modeling.heads.classification import ClassificationHead
from mtl.tasks import TaskKind

HEADS: dict[TaskKind, type[ClassificationHead]] = {"classification": ClassificationHead}

__all__ = ["HEADS", "ClassificationHead", "Head", "Prediction"]
