from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from mtl.config import HEAD_HELP, HeadShape
from mtl.data.batching import IGNORE_INDEX
from mtl.errors import DataError
from mtl.modeling.heads import HEADS, ClassificationHead
from mtl.tasks import TaskKind

LABELS = ("negative", "neutral", "positive")


def head(shape: HeadShape = "linear", dropout: float = 0.0) -> ClassificationHead:
    torch.manual_seed(0)
    return ClassificationHead(4, LABELS, shape=shape, dropout=dropout)


def test_heads_are_all_of_known_kinds() -> None:
    assert set(HEADS) <= set(get_args(TaskKind))


def test_heads_know_every_shape_of_the_configuration() -> None:
    assert set(HEAD_HELP) == set(get_args(HeadShape))
    assert len(list(head("linear").parameters())) == 2
    assert len(list(head("mlp").parameters())) == 4


@pytest.mark.parametrize("shape", get_args(HeadShape))
def test_heads_make_a_logit_per_class(shape: HeadShape) -> None:
    assert head(shape)({"sentence_embedding": torch.randn(5, 4)}).shape == (5, 3)


def test_heads_encode_an_empty_cell_as_missing() -> None:
    assert head().encode(["positive", "", "negative", "  "]).tolist() == [2, IGNORE_INDEX, 0, IGNORE_INDEX]


def test_heads_refuse_an_unknown_label() -> None:
    with pytest.raises(DataError, match='"Positive" is not one of the labels negative, neutral, positive'):
        head().encode(["positive", "Positive"])


def test_heads_average_the_loss_over_labelled_rows_only() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [5.0, -1.0, 3.0], [0.0, 0.0, 0.0]])
    # by hand: -log softmax is log(e^2 + 2) - 2 in the first row and log 3 in the last; the middle one has no label
    by_hand = (math.log(math.e**2 + 2) - 2 + math.log(3)) / 2
    assert head().loss(logits, torch.tensor([0, IGNORE_INDEX, 1])).item() == pytest.approx(by_hand, rel=1e-6)


def test_heads_give_a_row_without_a_label_no_gradient() -> None:
    logits = torch.randn(3, 3, requires_grad=True)
    head().loss(logits, torch.tensor([1, IGNORE_INDEX, 2])).backward()
    assert logits.grad is not None
    assert bool((logits.grad[1] == 0).all())
    assert bool((logits.grad[[0, 2]] != 0).all())


def test_heads_decode_the_most_probable_class_with_its_probability() -> None:
    first, second = head().decode(torch.tensor([[0.0, 0.0, math.log(2)], [3.0, 1.0, 0.0]]))
    assert (first.label, second.label) == ("positive", "negative")
    assert first.confidence == pytest.approx(0.5)
    assert first.probabilities == pytest.approx({"negative": 0.25, "neutral": 0.25, "positive": 0.5})
    assert list(first.probabilities) == list(LABELS)


def test_heads_decode_half_precision_without_losing_the_sum() -> None:
    (prediction,) = head().decode(torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.bfloat16))
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_heads_drop_inputs_in_training_only() -> None:
    features = {"sentence_embedding": torch.ones(1, 4)}
    module = head(dropout=0.9)
    assert torch.equal(module.eval()(features), module(features))
    torch.manual_seed(0)
    assert any(not torch.equal(module.train()(features), module.eval()(features)) for _ in range(5))


def test_heads_of_linear_shape_are_one_matrix() -> None:
    module, embeddings = head().eval(), torch.randn(2, 4)
    weight, bias = module.parameters()
    assert torch.equal(module({"sentence_embedding": embeddings}), F.linear(embeddings, weight, bias))
