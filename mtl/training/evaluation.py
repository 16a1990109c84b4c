"""Passes over examples that teach nothing: scoring them, and embedding them once."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import torch
from torch import Tensor

from mtl.config import RunConfig
from mtl.data.batching import Tokenised, by_token_budget, token_budget
from mtl.data.splitting import Examples
from mtl.modeling.encoder import max_length_of
from mtl.modeling.multitask import MultiTaskModel, embedding_size
from mtl.training.events import EvaluationStep, Event, Side
from mtl.training.metrics import Evaluation, Meter, main_scores


def evaluate(model: MultiTaskModel, examples: Examples, config: RunConfig | None = None) -> Evaluation | None:
    """Score a model on examples: `evaluation` without the steps in between."""
    weights = {t.key: config.tasks[t.name].loss_weight if config else 1.0 for t in model.tasks}
    main = main_scores(model.tasks, config)
    steps = evaluation(model, tokenised(model, examples), weights, main, "test")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@torch.no_grad()
def evaluation(
    model: MultiTaskModel, rows: Tokenised, weights: Mapping[str, float], main: Mapping[str, str], side: Side
) -> Generator[Event, None, Evaluation | None]:
    """Score the model in evaluation mode, batch by batch, and return the `Evaluation` with everything kept.

    Without any rows the result is None: no score is claimed.

    Args:
        model: What is scored.
        rows: The examples.
        weights: Task key -> factor of its loss in the sum.
        main: Task name -> the score that counts.
        side: What the rows are, for whoever watches.
    """
    if not len(rows):
        return None
    model.eval()
    meter = Meter(model, weights, main, keep=True)
    done = 0
    for batch in rows.batches(by_token_budget(rows.lengths, token_budget(model.device))):
        logits = model(batch.features)
        losses = {key: loss.item() for key, loss in model.losses(logits, batch.labels).items()}
        meter.add(batch, logits, losses)
        done += len(batch.indices)
        yield EvaluationStep(side, done, len(rows))
    return meter.evaluation()


@torch.no_grad()
def embeddings_of(model: MultiTaskModel, rows: Tokenised) -> Generator[Event, None, Tensor]:
    """Embed all rows by the model as it is.

    The batches are in order of length, whatever the seed, so two runs compute the same bits.

    Args:
        model: Switched to evaluation mode.
        rows: N texts.

    Returns:
        The embeddings. Shape: (N, D).
    """
    model.eval()
    found = torch.empty(len(rows), embedding_size(model.encoder))
    done = 0
    for batch in rows.batches(by_token_budget(rows.lengths, token_budget(model.device))):
        found[batch.indices] = model.encode(batch.features)["sentence_embedding"].cpu()
        done += len(batch.indices)
        yield EvaluationStep("embedding", done, len(rows))
    return found


def tokenised(model: MultiTaskModel, examples: Examples) -> Tokenised:
    """Tokenise examples and encode their labels as this model's heads want them; a task they lack counts as empty."""
    missing = {task.name: ("",) * len(examples) for task in model.tasks if task.name not in examples.cells}
    if missing:
        examples = Examples(examples.texts, {**examples.cells, **missing}, examples.rows, examples.weights)
    heads = {task.key: (task.name, model.head(task.key)) for task in model.tasks}
    return Tokenised(examples, model.encoder.tokenizer, max_length_of(model.encoder), heads)
