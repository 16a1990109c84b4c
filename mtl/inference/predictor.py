"""Answer with a checkpoint: one pass of the encoder gives the embeddings and every head's prediction.

N and M texts, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl.choices import Precision
from mtl.config import RunConfig
from mtl.data.batching import Encoding, Offsets, by_token_budget, pad, token_budget, tokenise, tokenise_with_offsets
from mtl.errors import CheckpointError, UserError
from mtl.inference.answers import Answer
from mtl.inference.neighbours import nearest, unit
from mtl.modeling.encoder import max_length_of
from mtl.modeling.multitask import MultiTaskModel
from mtl.modeling.ways import fastest
from mtl.runs.checkpoint import load_checkpoint, weights_of
from mtl.runs.store import open_run
from mtl.settings import settings
from mtl.tasks import TaskSpec
from mtl.training.numerics import best_device

Tokens = dict[str, list[list[int]]]
CHUNK = 4096


class Predictor:
    """A loaded checkpoint; safe to use from several threads, since nothing in it changes.

    Args:
        model: In float32.
        config: The configuration of its run.
        manifest: Where in the run it was made.
        precision: How it computes: `float32`, `bfloat16`, or `auto`, whichever is faster here if its embeddings are
            true to float32 within a cosine of 1e-4. None: as the installation's settings say.
        weights: Names the model's weights, if they are a checkpoint's as it was saved: what is known of them is kept.

    Attributes:
        model: With the checkpoint's own weights.
        way: How it computes, one of `mtl.modeling.ways.WAYS`.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        config: RunConfig,
        manifest: dict[str, Any],
        precision: Precision | None = None,
        weights: str = "",
    ) -> None:
        self.model, self.config, self.manifest = model.eval().to(best_device()), config, manifest
        self.tasks = model.tasks
        self.way, self._fast = fastest(self.model, precision or settings().precision, settings().cache_dir, weights)

    @classmethod
    def load(cls, run: str | Path, precision: Precision | None = None) -> Predictor:
        """Load the checkpoint of a run folder, such as `checkpoints/starter`.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        folder = open_run(run)
        if not folder.has_checkpoint:
            raise CheckpointError(f"The run {run} has no checkpoint: it ended before its first step.")
        model, config, manifest = load_checkpoint(folder.best)
        return cls(model, config, manifest, precision, weights_of(manifest))

    @property
    def precision(self) -> str:
        """The type of number it computes in: `float32` or `bfloat16`."""
        return self.way.split()[0]

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
            found, said = self._run(texts[start : start + CHUNK], wanted)
            vectors[start : start + CHUNK], answers[start : start + CHUNK] = found, said
        return vectors, answers

    def _run(self, texts: Sequence[str], tasks: Sequence[TaskSpec]) -> tuple[np.ndarray, list[dict[str, Answer]]]:
        """Do so for texts that are tokenised together."""
        vectors = np.empty((len(texts), self.embedding_size), dtype=np.float32)
        answers: list[dict[str, Answer]] = [{} for _ in texts]
        tokens, offsets = self._tokenise(texts, tasks)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        for indices in by_token_budget(lengths, token_budget(self.model.device)):
            features = pad({name: [values[i] for i in indices] for name, values in tokens.items()}, self._tokenizer)
            with torch.inference_mode():
                encoded = self._fast.encode(features)
                vectors[indices] = encoded["sentence_embedding"].cpu().numpy()
                logits = {task: self.model.head(task.key)(encoded) for task in tasks}
            encoding = Encoding(tuple(texts[i] for i in indices), tuple(offsets[i] for i in indices))
            for task, values in logits.items():
                for i, answer in zip(indices, self.model.head(task.key).decode(values, encoding), strict=True):
                    answers[i][task.name] = answer
        return vectors, answers

    def _tokenise(self, texts: Sequence[str], tasks: Sequence[TaskSpec]) -> tuple[Tokens, Sequence[Offsets]]:
        """Tokenise; where the tokens lie in the text is asked, which takes time, only if a task wants to know."""
        longest = max_length_of(self.model.encoder)
        if any(task.kind == "token_classification" for task in tasks):
            return tokenise_with_offsets(texts, self._tokenizer, longest)
        return tokenise(texts, self._tokenizer, longest), ((),) * len(texts)

    @property
    def _tokenizer(self) -> Any:
        return self.model.encoder.tokenizer

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
        indices, cosines = nearest(self.embed([query]), self.embed(texts), k)
        return list(zip(indices[0].tolist(), cosines[0].tolist(), strict=True))
