"""Answer with a checkpoint: one pass of the encoder gives the embeddings and every head's prediction.

N and M texts, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl.config import RunConfig
from mtl.data.batching import Encoding, by_token_budget, pad, tokenise_with_offsets
from mtl.errors import CheckpointError, UserError
from mtl.inference.answers import Answer
from mtl.modeling.encoder import max_length_of
from mtl.modeling.multitask import MultiTaskModel
from mtl.runs.checkpoint import load_checkpoint
from mtl.runs.store import open_run
from mtl.training.numerics import best_device

CHUNK = 4096
BLOCK = 1024


class Predictor:
    """A loaded checkpoint; safe to use from several threads, since nothing in it changes.

    Args:
        model: In evaluation mode.
        config: The configuration of its run.
        manifest: Where in the run it was made.
    """

    def __init__(self, model: MultiTaskModel, config: RunConfig, manifest: dict[str, Any]) -> None:
        self.model, self.config, self.manifest = model.eval().to(best_device()), config, manifest
        self.tasks = model.tasks

    @classmethod
    def load(cls, run: str | Path) -> Predictor:
        """Load the checkpoint of a run folder, such as `checkpoints/starter`.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        folder = open_run(run)
        if not folder.has_checkpoint:
            raise CheckpointError(f"The run {run} has no checkpoint: it ended before its first step.")
        return cls(*load_checkpoint(folder.best))

    def run(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Encode texts once and ask the heads.

        Args:
            texts: N texts.
            tasks: Task names; None means all, an empty list none.

        Returns:
            The embeddings, shape (N, D), and for each text its predictions by task name.

        Raises:
            UserError: There is no such task.
        """
        wanted = [task for task in self.tasks if tasks is None or task.name in set(tasks)]
        missing = set(tasks or ()) - {task.name for task in wanted}
        if missing:
            known = ", ".join(task.name for task in self.tasks)
            raise UserError(f'This checkpoint has no task "{min(missing)}"; it has {known}.')
        vectors = np.empty((len(texts), self.embedding_size), dtype=np.float32)
        answers: list[dict[str, Answer]] = [{} for _ in texts]
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            tokenizer = self.model.encoder.tokenizer
            tokens, offsets = tokenise_with_offsets(chunk, tokenizer, max_length_of(self.model.encoder))
            for indices in by_token_budget([len(ids) for ids in tokens["input_ids"]]):
                rows = {name: [values[i] for i in indices] for name, values in tokens.items()}
                with torch.inference_mode():
                    encoded = self.model.encode(pad(rows, tokenizer))
                    vectors[[start + i for i in indices]] = encoded["sentence_embedding"].cpu().numpy()
                    encoding = Encoding(tuple(chunk[i] for i in indices), tuple(offsets[i] for i in indices))
                    for task in wanted:
                        head = self.model.head(task.key)
                        for i, answer in zip(indices, head.decode(head(encoded), encoding), strict=True):
                            answers[start + i][task.name] = answer
        return vectors, answers

    @property
    def embedding_size(self) -> int:
        """D, the width of a sentence embedding."""
        return int(self.model.encoder.get_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return sentence embeddings. Shape: (N, D)."""
        return self.run(texts, [])[0]

    def predict(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> list[dict[str, Answer]]:
        """Return, for each text, the prediction of each task by its name."""
        return self.run(texts, tasks)[1]

    def similarity(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """Return the cosine similarity of every pair. Shape: (N, M)."""
        return unit(self.embed(left)) @ unit(self.embed(right)).T

    def search(self, query: str, texts: Sequence[str], k: int = 5) -> list[tuple[int, float]]:
        """Return the indices and cosine similarities of the k texts nearest to a query, the nearest first."""
        if not texts:
            return []
        wanted = unit(self.embed([query]))[0]
        scores = np.concatenate([unit(self.embed(texts[i : i + BLOCK])) @ wanted for i in range(0, len(texts), BLOCK)])
        order = np.argsort(-scores, kind="stable")[:k]
        return [(int(index), float(scores[index])) for index in order]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale each row to length 1; a row of zeros stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
