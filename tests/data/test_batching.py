from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.data.batching import BUCKET_BATCHES, IGNORE_INDEX, Tokenised, by_token_budget, shuffled_buckets, tokenise
from mtl.data.splitting import Examples, Splits
from mtl.modeling.multitask import MultiTaskModel
from mtl.training.evaluation import tokenised

LENGTHS = st.lists(st.integers(2, 300), max_size=200)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def padded(lengths: list[int], batches: list[list[int]]) -> int:
    """Count the tokens of all batches, padding included."""
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)


@settings(max_examples=50, deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(1, 40), seed=st.integers(0, 9))
def test_batching_buckets_hold_every_row_once(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = shuffled_buckets(lengths, batch_size, seeded(seed))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert len(batches) == -(-len(lengths) // batch_size)


def test_batching_buckets_depend_on_the_seed_alone() -> None:
    lengths = [random.Random(0).randint(2, 60) for _ in range(300)]
    first = shuffled_buckets(lengths, 8, seeded(1))
    torch.manual_seed(99)
    assert shuffled_buckets(lengths, 8, seeded(1)) == first
    assert shuffled_buckets(lengths, 8, seeded(2)) != first


def test_batching_buckets_waste_little_on_padding() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(2, 60) for _ in range(2_000)]
    shuffled = rng.sample(range(2_000), 2_000)
    careless = [shuffled[i : i + 32] for i in range(0, 2_000, 32)]
    waste = padded(lengths, shuffled_buckets(lengths, 32, seeded(0))) / sum(lengths) - 1
    assert waste < 0.05 < padded(lengths, careless) / sum(lengths) - 1


def test_batching_buckets_mix_rows_from_a_window_of_fifty_batches() -> None:
    lengths = [5] * (2 * BUCKET_BATCHES * 4)
    batches = shuffled_buckets(lengths, 4, seeded(0))
    spread = [max(batch) - min(batch) for batch in batches]
    assert sum(spread) / len(spread) > len(lengths) / 4, "neighbours of the file are not neighbours in a batch"


@settings(max_examples=50, deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 1_000))
def test_batching_by_token_budget_respects_it_and_holds_every_text_once(lengths: list[int], budget: int) -> None:
    batches = by_token_budget(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or padded(lengths, [batch]) <= budget


def test_batching_by_token_budget_fills_a_batch_before_the_next() -> None:
    assert by_token_budget([3, 2, 9, 2, 3], budget=6) == [[1, 3], [0, 4], [2]]


@pytest.fixture
def rows(tiny_model: MultiTaskModel, tiny_splits: Splits) -> Tokenised:
    return tokenised(tiny_model, tiny_splits.train)


def test_batching_pads_to_the_longest_of_the_batch(rows: Tokenised) -> None:
    shortest = min(range(len(rows)), key=rows.lengths.__getitem__)
    longest = max(range(len(rows)), key=rows.lengths.__getitem__)
    batch = rows.batch([shortest, longest])
    assert batch.features["input_ids"].shape == (2, rows.lengths[longest])
    assert batch.features["attention_mask"].sum(dim=1).tolist() == [rows.lengths[shortest], rows.lengths[longest]]
    assert rows.batch([shortest]).features["input_ids"].shape == (1, rows.lengths[shortest])


def test_batching_keeps_texts_and_labels_together(rows: Tokenised, tiny_model: MultiTaskModel) -> None:
    batch = rows.batch([7, 2, 11])
    assert batch.indices == [7, 2, 11]
    tokenizer: Any = tiny_model.encoder.tokenizer
    labels = {task.name: task.labels for task in tiny_model.tasks}
    for position, index in enumerate(batch.indices):
        text = tokenizer.decode(batch.features["input_ids"][position], skip_special_tokens=True)
        assert text.replace(" ", "") == rows.examples.texts[index].replace(" ", "")
        for task in ("topic", "mood"):
            label, cell = int(batch.labels[task][position]), rows.examples.cells[task][index]
            assert (labels[task][label] if label != IGNORE_INDEX else "") == cell


def test_batching_iterates_an_epoch(rows: Tokenised) -> None:
    order = shuffled_buckets(rows.lengths, 8, seeded(0))
    assert [batch.indices for batch in rows.batches(order)] == order


def test_batching_cuts_long_texts(tiny_model: MultiTaskModel) -> None:
    tokenizer = tiny_model.encoder.tokenizer
    tokens = tokenise(["the team won the game today", "snow"], tokenizer, 5)
    assert [len(ids) for ids in tokens["input_ids"]] == [5, 3]
    assert tokens["input_ids"][0][-1] == tokenizer.sep_token_id


def test_batching_of_no_texts_is_empty(tiny_model: MultiTaskModel) -> None:
    rows = tokenised(tiny_model, Examples((), {"topic": (), "mood": ()}, ()))
    assert len(rows) == 0
    assert list(rows.batches(by_token_budget(rows.lengths))) == []
