"""How long a run takes, from a few of its batches, taken as `train` takes them."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch

from mtl.data.batching import Tokenised, by_token_budget, token_budget
from mtl.data.token_store import TokenStore
from mtl.modeling.multitask import MultiTaskModel, embedding_size, token_size
from mtl.training.boundary import (
    can_embed_once,
    can_keep,
    embed_once,
    keep_below,
    lowest,
    store_for,
)
from mtl.training.evaluation import evaluation, tokenised
from mtl.training.events import Event, Side
from mtl.training.loop import take_step
from mtl.training.metrics import Meter
from mtl.training.setup import Setup

STEP_BATCHES, LEAST_BATCHES, STEP_ROUNDS, STEP_SECONDS = 8, 5, 3, 3.0
EVALUATION_BATCHES = 3


@dataclass(frozen=True)
class Seconds:
    """What takes how long.

    Attributes:
        step: One optimizer step, the mean over an epoch.
        validation: Scoring the validation rows, after every epoch and once more at the end.
        test: Scoring the test rows, once.
        embedding: Embedding training and validation rows once, if nothing in the encoder learns; else 0.
        run: All of it, if the run is not stopped early; without loading libraries and weights, without saving.
    """

    step: float
    validation: float
    test: float
    embedding: float
    run: float


@dataclass(frozen=True)
class LongestBatch:
    """The batch with the most tokens that goes through the encoder; memory and time have their peak there.

    Attributes:
        rows: Texts.
        tokens: Of its longest text, to which the others are padded.
    """

    rows: int
    tokens: int


def longest_batch(run: Setup) -> LongestBatch:
    """Find the largest batch that goes through the encoder: of the steps, or of the one pass that embeds."""
    order = (
        [draw.rows for draw in run.draws(1, {})]
        if run.shares
        else by_token_budget(run.train.lengths, token_budget(run.model.device))
    )
    sizes = [(len(batch), tokens) for batch, tokens in zip(order, _tokens(run.train, order), strict=True)]
    return LongestBatch(*max(sizes, key=math.prod))


def measure(run: Setup) -> Seconds:
    """Go through a run in the order of `train`, with a few batches of each kind.

    Raises:
        Diverged: A loss or a gradient is not finite.
    """
    embedding = _before(run)
    torch.manual_seed(run.seed)
    step = _step_seconds(run)
    validation = _evaluation_seconds(run, run.validation, "validation")
    test = _evaluation_seconds(run, run.test, "test")
    whole = embedding + (run.epochs + 1) * validation + run.steps * step + test
    return Seconds(step, validation, test, embedding, whole)


def _before(run: Setup) -> float:
    """Return the seconds of what is computed once, before the first step; the run gets stand-ins for it."""
    seconds = 0.0
    if run.needs_start and run.shares:
        seconds += _few_batches(run.scorer(), run.train, lambda sample: embed_once(run.scorer(), sample))
        run.start = _stand_ins(run.model, len(run.train))
    if not run.plan.shares(1):
        return seconds + _embed(run, run.train) + _embed(run, run.validation)
    scorer = run.scorer()
    if below := lowest(scorer, run.plan.kept_layers(1)):
        seconds += sum(_keep_below(run, scorer, rows, below.count) for rows in (run.train, run.validation))
        run.model.below = below
    return seconds


def _stand_ins(model: MultiTaskModel, count: int) -> torch.Tensor:
    """Make vectors of length 1, written out in full as the real ones: time and memory do not depend on values."""
    size = embedding_size(model.encoder)
    return torch.full((count, size), size**-0.5)


def _step_seconds(run: Setup) -> float:
    """Return the mean seconds of the steps of the first epoch, from those of a few lengths."""
    draws = run.draws(1, {})
    order = [draw.rows for draw in draws]
    tokens = _tokens(run.train, order)
    by_length = sorted(range(len(order)), key=tokens.__getitem__)
    largest = max(by_length, key=lambda i: len(order[i]) * tokens[i])
    meter = Meter(run.model, run.loss_weights, run.main)
    run.model.train()

    def seconds_of(number: int) -> float:
        start = time.perf_counter()
        # always step 1, so at the rates of a first step, and never past the end of the schedule
        take_step(run, run.batch(draws[number]), meter, 1, 1)
        return time.perf_counter() - start

    first = seconds_of(by_length[len(order) // 2])  # a warm-up, which makes the optimizer's state: not counted
    few = max(LEAST_BATCHES, min(STEP_BATCHES, int(STEP_SECONDS / first)))
    some = {by_length[i] for i in _spread(len(order), few)} - {largest}
    # the largest first, so that only it has to wait for new memory, as it does in the run
    chosen = [largest, *sorted(some, key=tokens.__getitem__, reverse=True)]
    measured: dict[int, list[float]] = defaultdict(list)
    for number in chosen:
        measured[tokens[number]].append(seconds_of(number))
    end = time.perf_counter() + STEP_SECONDS
    for number in chosen * (STEP_ROUNDS - 1):  # again, as far as there is time
        if time.perf_counter() + measured[tokens[number]][0] < end:
            measured[tokens[number]].append(seconds_of(number))
    return _all(measured, tokens) / len(order)


def _embed(run: Setup, rows: Tokenised) -> float:
    """Return the seconds of embedding all rows, from those of a few batches; the rows get stand-ins for embeddings."""
    if not len(rows) or not can_embed_once(run.model, rows, run.folder):
        return 0.0
    scorer = run.scorer()
    seconds = _few_batches(scorer, rows, lambda sample: embed_once(scorer, sample))
    rows.embeddings = _stand_ins(run.model, len(rows))
    if run.model.reads_tokens:
        rows.token_embeddings = _filled(rows, run.model, torch.float32, run.folder)
    return seconds


def _keep_below(run: Setup, scorer: MultiTaskModel, rows: Tokenised, count: int) -> float:
    """Do so for what the lowest layers give."""
    dtype = run.model.precision
    if not len(rows) or not can_keep(rows, run.model, dtype, run.folder):
        return 0.0
    seconds = _few_batches(scorer, rows, lambda sample: keep_below(scorer, sample, count, dtype))
    rows.below = _filled(rows, run.model, dtype, run.folder)
    return seconds


def _filled(rows: Tokenised, model: MultiTaskModel, dtype: torch.dtype, folder: Path | None) -> TokenStore:
    store = store_for(rows, model, dtype, folder)
    for index, length in enumerate(rows.lengths):
        width = token_size(model.encoder)
        store.put(index, torch.full((length, width), width**-0.5, dtype=dtype))
    return store


def _evaluation_seconds(run: Setup, rows: Tokenised, side: Side) -> float:
    """Return the seconds of scoring all rows, from those of a few batches."""
    if not len(rows):
        return 0.0
    scorer = run.scorer()
    return _few_batches(scorer, rows, lambda sample: evaluation(scorer, sample, run.loss_weights, run.main, side))


def _few_batches(model: MultiTaskModel, rows: Tokenised, go_through: Callable[[Tokenised], Iterable[Event]]) -> float:
    """Go through a few of the batches that all rows make, and return the seconds for all of them."""
    budget = token_budget(model.device)
    order = by_token_budget(rows.lengths, budget)
    whole = order[:-1] if len(order) > EVALUATION_BATCHES else order  # the last may be a small one
    few = [row for number in _spread(len(whole), EVALUATION_BATCHES) for row in whole[number]]
    for _ in range(2):  # the first pass warms up, the second counts
        sample = tokenised(model, rows.examples.take(few))
        if rows.embeddings is not None:
            sample.embeddings = rows.embeddings[few]
        for name in ("token_embeddings", "below"):
            if (store := getattr(rows, name)) is not None:
                setattr(sample, name, store.some(few))
        clock = [time.perf_counter()]
        clock += [time.perf_counter() for _ in go_through(sample)]
    measured: dict[int, list[float]] = defaultdict(list)
    # the rows of whole batches of this order make the same batches again
    for tokens, (start, end) in zip(
        _tokens(sample, by_token_budget(sample.lengths, budget)), pairwise(clock), strict=True
    ):
        measured[tokens].append(end - start)
    return _all(measured, _tokens(rows, order))


def _tokens(rows: Tokenised, order: Sequence[Sequence[int]]) -> list[int]:
    """Return the length of each batch: the tokens of its longest text."""
    return [max(rows.lengths[i] for i in batch) for batch in order]


def _spread(count: int, most: int) -> list[int]:
    """Choose at most `most` numbers below `count`, first and last among them, closer together towards the end.

    There the lengths lie far apart, and the time rises faster than the length.
    """
    if count <= most:
        return list(range(count))
    return sorted({round((count - 1) * (1 - (1 - part / (most - 1)) ** 2)) for part in range(most)})


def _all(measured: Mapping[int, Sequence[float]], tokens: Sequence[int]) -> float:
    """Sum up the seconds of all batches: between two measured lengths the time is a power of the length.

    Args:
        measured: Length in tokens -> seconds of batches of that length; the median counts.
        tokens: Length of every batch.
    """
    lengths = sorted(measured)
    seconds = [max(median(measured[length]), 1e-9) for length in lengths]
    return float(np.exp(np.interp(np.log(tokens), np.log(lengths), np.log(seconds))).sum())
