"""What the parts that do not learn give for each text, computed once for as long as they do not.

A frozen part computes in evaluation mode, so what it gives depends on the text alone. The pass that computes it is
always the same one (rows in order of length and position, a fixed number of tokens a batch), so two runs, or a run and
its continuation, compute the same bits; against computing it anew in every shuffled batch only the last bits differ.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from mtl.data.batching import Tokenised, by_token_budget, pad, token_budget, tokenise
from mtl.data.token_store import TokenStore, bytes_of
from mtl.modeling.encoder import max_length_of
from mtl.modeling.layers import Below, beginning_above
from mtl.modeling.multitask import MultiTaskModel, embedding_size, token_size
from mtl.training.events import EvaluationStep, Event

MOST_BYTES = 1_000_000_000  # of token vectors in memory; more of them are kept in a file
MOST_DISK_BYTES = 20_000_000_000  # in a file; more of them are computed in every epoch
ROOM = 2  # times the file's size must be free
TEXTS = ("a few words", "and some more of them, to see that nothing changes")  # to try with


@torch.no_grad()
def embed_once(model: MultiTaskModel, rows: Tokenised, folder: Path | None = None) -> Iterator[Event]:
    """Let the rows keep what the encoder says of them: nothing in it learns, so every epoch would repeat it.

    What is too large is not kept; the encoder then runs in every epoch.

    Args:
        model: As it computes what teaches nothing.
        rows: N texts; they get `embeddings` and, if a head reads them, `token_embeddings`.
        folder: Where vectors of tokens that are many are kept.
    """
    if not can_embed_once(model, rows, folder):
        return
    tokens = store_for(rows, model, torch.float32, folder) if model.reads_tokens else None
    embeddings = torch.empty(len(rows), embedding_size(model.encoder))
    done = 0
    model.eval()
    for batch in rows.batches(by_token_budget(rows.lengths, token_budget(model.device))):
        encoded = model.encode(batch.features)
        embeddings[batch.indices] = encoded["sentence_embedding"].cpu()
        if tokens is not None:
            for index, vectors in zip(batch.indices, encoded["token_embeddings"].cpu(), strict=True):
                tokens.put(index, vectors)
        done += len(batch.indices)
        yield EvaluationStep("embedding", done, len(rows))
    rows.embeddings, rows.token_embeddings = embeddings, tokens


def can_embed_once(model: MultiTaskModel, rows: Tokenised, folder: Path | None) -> bool:
    """Say whether what the encoder says of the rows can be kept: the vectors of single tokens may be too many."""
    return not model.reads_tokens or can_keep(rows, model, torch.float32, folder)


@torch.no_grad()
def keep_below(
    model: MultiTaskModel, rows: Tokenised, count: int, dtype: torch.dtype, folder: Path | None = None
) -> Iterator[Event]:
    """Let the rows keep what the lowest layers give, if that can be kept.

    Args:
        model: As it computes what teaches nothing.
        rows: N texts; they get `below`.
        count: How many layers.
        dtype: What the layers above compute in: nothing is lost by keeping it in this.
        folder: Where vectors that are many are kept.
    """
    if not can_keep(rows, model, dtype, folder):
        return
    store = store_for(rows, model, dtype, folder)
    done = 0
    model.eval()
    for batch in rows.batches(by_token_budget(rows.lengths, token_budget(model.device))):
        vectors, _ = model.output_below(batch.features, count)
        for index, one in zip(batch.indices, vectors.cpu(), strict=True):
            store.put(index, one)
        done += len(batch.indices)
        yield EvaluationStep("embedding", done, len(rows))
    rows.below = store


@torch.no_grad()
def lowest(model: MultiTaskModel, count: int) -> Below | None:
    """Say how passes begin above the lowest layers; None if that does not give what a whole pass gives.

    Some encoders hand more from layer to layer than the vectors, so it is tried.

    Args:
        model: Switched to evaluation mode.
        count: How many layers.
    """
    if not count:
        return None
    model.eval()
    features = pad(tokenise(TEXTS, model.encoder.tokenizer, max_length_of(model.encoder)), model.encoder.tokenizer)
    whole = model.encode(dict(features))["token_embeddings"]
    try:
        vectors, in_tuple = model.output_below(dict(features), count)
        below = Below(count, in_tuple)
        with beginning_above(model.layers, below, vectors):
            again = model.encode(dict(features))["token_embeddings"]
    except (ValueError, TypeError, AttributeError, IndexError, RuntimeError):
        return None
    return below if torch.equal(whole, again) else None


def can_keep(rows: Tokenised, model: MultiTaskModel, dtype: torch.dtype, folder: Path | None) -> bool:
    """Say whether a vector of every token can be kept, in memory or in a file."""
    size = bytes_of(rows.lengths, token_size(model.encoder), dtype)
    if size <= MOST_BYTES:
        return True
    if folder is None or size > MOST_DISK_BYTES:
        return False
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return shutil.disk_usage(folder).free >= ROOM * size


def store_for(rows: Tokenised, model: MultiTaskModel, dtype: torch.dtype, folder: Path | None) -> TokenStore:
    """Make room for a vector of every token, in memory or in a file."""
    width = token_size(model.encoder)
    large = bytes_of(rows.lengths, width, dtype) > MOST_BYTES
    return TokenStore(rows.lengths, width, dtype, folder if large else None)
