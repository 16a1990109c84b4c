from __future__ import annotations

import copy
import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.choices import HEAD_HELP, SCORES, HeadShape, Loss
from mtl.data.batching import IGNORE_INDEX, Encoding
from mtl.errors import DataError
from mtl.modeling.heads import HEADS, LOSSES, ClassificationHead, EntityPrediction, Head, Prediction
from mtl.tasks import TaskKind

LABELS = ("negative", "neutral", "positive")
KINDS = pytest.mark.parametrize("kind", HEADS)
# two texts of three and two tokens, and what they are labelled with
ENCODING = Encoding(("a b c", "a b"), (((0, 1), (2, 3), (4, 5)), ((0, 1), (2, 3))))
CELLS: dict[TaskKind, list[str]] = {
    "classification": ["neutral", ""],
    "token_classification": ["B-neutral I-neutral O", ""],
}


def make(kind: TaskKind, **options: Any) -> Head:
    """Make a head of three labels on four dimensions, without dropout."""
    torch.manual_seed(0)
    return HEADS[kind](4, LABELS, **{"dropout": 0.0, **options})


def head(**options: Any) -> ClassificationHead:
    """Make a head of classes."""
    made = make("classification", **options)
    assert isinstance(made, ClassificationHead)
    return made


def features_of(made: Head, texts: int = 2, tokens: int = 3) -> dict[str, Tensor]:
    """Make what a head reads."""
    shape = {"sentence_embedding": (texts, 4), "token_embeddings": (texts, tokens, 4)}[made.reads]
    return {made.reads: torch.randn(shape, generator=torch.Generator().manual_seed(1))}


def targets(made: Head, kind: TaskKind) -> Tensor:
    """Encode the cells as a batch has them. Shape: (2,) or (2, 3)."""
    found = made.encode(CELLS[kind], ENCODING)
    if isinstance(found, Tensor):
        return found
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=IGNORE_INDEX)


# ------------------------------------------------------------------------------------------------------ every kind


def test_heads_are_all_kinds_of_the_configuration() -> None:
    assert set(HEADS) == set(get_args(TaskKind)) == set(SCORES)


@KINDS
def test_heads_know_every_shape_of_the_configuration(kind: TaskKind) -> None:
    assert set(HEAD_HELP) == set(get_args(HeadShape))
    assert len(list(make(kind, shape="linear").parameters())) == 2
    assert len(list(make(kind, shape="mlp").parameters())) == 4


@KINDS
@pytest.mark.parametrize("shape", get_args(HeadShape))
def test_heads_make_as_many_logits_as_they_say(kind: TaskKind, shape: HeadShape) -> None:
    made = make(kind, shape=shape)
    features = features_of(made)
    assert made(features).shape == (*features[made.reads].shape[:-1], made.outputs)
    assert len(made.output_names) == made.outputs
    assert made.labels == LABELS


@KINDS
def test_heads_give_targets_that_fit_their_logits(kind: TaskKind) -> None:
    made = make(kind)
    labels = targets(made, kind)
    assert labels.dtype == torch.long
    assert labels.shape == made(features_of(made)).shape[:-1]
    assert 0 <= labels[0].max() < made.outputs
    assert bool((labels[1] == IGNORE_INDEX).all())


@KINDS
@pytest.mark.parametrize("loss", LOSSES)
def test_heads_compute_the_loss_they_were_made_with(kind: TaskKind, loss: Loss) -> None:
    made = make(kind, loss=loss, focal_gamma=3.0, label_smoothing=0.2, class_weights="balanced")
    labels, logits = targets(made, kind), made(features_of(made))
    made.weigh_classes(torch.tensor([0, 0, 0, 1, 2, IGNORE_INDEX]))
    labelled = labels != IGNORE_INDEX
    expected = LOSSES[loss](
        logits[labelled], labels[labelled], class_weights=made.class_weights, label_smoothing=0.2, gamma=3.0
    )
    assert made.class_weights is not None
    assert made.loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    # and each of the options matters
    unlike = [
        make(kind, loss=loss, focal_gamma=3.0, label_smoothing=0.0),
        make(kind, loss={"focal": "cross_entropy", "cross_entropy": "focal"}[loss], focal_gamma=3.0),
    ]
    for other in unlike:
        assert other.loss(logits, labels).item() != pytest.approx(expected.item(), rel=1e-3)


@KINDS
@pytest.mark.parametrize("loss", LOSSES)
def test_heads_give_what_has_no_label_no_gradient(kind: TaskKind, loss: Loss) -> None:
    made = make(kind, loss=loss)
    labels = targets(made, kind)
    logits = made(features_of(made)).detach().requires_grad_()
    made.loss(logits, labels).backward()
    assert logits.grad is not None
    missing = labels == IGNORE_INDEX
    assert bool((logits.grad[missing] == 0).all())
    assert bool((logits.grad[~missing] != 0).all())


@KINDS
def test_heads_weigh_classes_only_if_asked_to(kind: TaskKind) -> None:
    plain, weighing = make(kind), make(kind, class_weights="balanced")
    for made in (plain, weighing):
        assert made.class_weights is None
        made.weigh_classes(torch.tensor([0, 0, 0, 1, IGNORE_INDEX]))
    assert plain.class_weights is None
    assert weighing.class_weights is not None
    # n / (C n_c) of the two classes that occur, 1 for the others
    assert weighing.class_weights.tolist() == pytest.approx([4 / 6, 4 / 2, *[1] * (weighing.outputs - 2)])
    copied = copy.deepcopy(weighing).class_weights
    assert copied is not None and copied.tolist() == weighing.class_weights.tolist()


@KINDS
def test_heads_keep_their_temperature_but_not_their_class_weights(kind: TaskKind) -> None:
    made, other = make(kind, class_weights="balanced"), make(kind, class_weights="balanced")
    made.weigh_classes(torch.tensor([0, 1, 1]))
    made.temperature.fill_(2.5)
    assert "temperature" in made.state_dict() and "class_weights" not in made.state_dict()
    assert "temperature" not in dict(made.named_parameters())
    other.load_state_dict(made.state_dict())
    assert other.temperature.item() == 2.5
    assert other.temperature.shape == ()


def confidences(answers: Any) -> list[float]:
    """List how sure a head is of what it found."""
    if isinstance(answers[0], Prediction):
        return [answer.confidence for answer in answers]
    return [entity.confidence for answer in answers for entity in answer.entities]


def found(answers: Any) -> list[Any]:
    """List what a head found."""
    if isinstance(answers[0], Prediction):
        return [answer.label for answer in answers]
    return [(entity.start, entity.end, entity.label) for answer in answers for entity in answer.entities]


@KINDS
def test_heads_are_less_sure_of_the_same_at_a_higher_temperature(kind: TaskKind) -> None:
    made = make(kind)
    logits = torch.randn(2, *([3] if made.reads == "token_embeddings" else []), made.outputs) * 3
    cold = made.decode(logits, ENCODING)
    made.temperature.fill_(1000.0)
    warm = made.decode(logits, ENCODING)
    assert found(cold) == found(warm) != []
    assert all(high > low for high, low in zip(confidences(cold), confidences(warm), strict=True))
    assert confidences(warm) == pytest.approx([1 / made.outputs] * len(confidences(warm)), rel=0.02)
    made.temperature.fill_(1e9)  # where probabilities are all alike
    assert found(made.decode(logits, ENCODING)) == found(cold)


@KINDS
def test_heads_decode_into_one_answer_a_text(kind: TaskKind) -> None:
    made = make(kind)
    answers = made.decode(made(features_of(made)).detach(), ENCODING)
    assert len(answers) == 2
    assert {type(answer) for answer in answers} <= {Prediction, EntityPrediction}


@KINDS
def test_heads_decode_half_precision_in_full(kind: TaskKind) -> None:
    made = make(kind)
    logits = torch.randn(2, *([3] if made.reads == "token_embeddings" else []), made.outputs).bfloat16()
    assert made.decode(logits, ENCODING) == made.decode(logits.float(), ENCODING)


@KINDS
def test_heads_drop_inputs_in_training_only(kind: TaskKind) -> None:
    made = make(kind, dropout=0.9)
    features = {made.reads: torch.ones_like(features_of(made)[made.reads])}
    assert torch.equal(made.eval()(features), made(features))
    torch.manual_seed(0)
    assert any(not torch.equal(made.train()(features), made.eval()(features)) for _ in range(5))


@KINDS
def test_heads_of_linear_shape_are_one_matrix(kind: TaskKind) -> None:
    made = make(kind).eval()
    features = features_of(made)
    weight, bias = made.parameters()
    assert torch.equal(made(features), F.linear(features[made.reads], weight, bias))


# --------------------------------------------------------------------------------------------------------- classes


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


def test_heads_decode_the_most_probable_class_with_its_probability() -> None:
    first, second = head().decode(torch.tensor([[0.0, 0.0, math.log(2)], [3.0, 1.0, 0.0]]))
    assert (first.label, second.label) == ("positive", "negative")
    assert first.confidence == pytest.approx(0.5)
    assert first.probabilities == pytest.approx({"negative": 0.25, "neutral": 0.25, "positive": 0.5})
    assert list(first.probabilities) == list(LABELS)


def test_heads_divide_logits_by_the_temperature() -> None:
    made = head()
    made.temperature.fill_(2.0)
    (answer,) = made.decode(torch.tensor([[0.0, 0.0, 2 * math.log(2)]]))  # as log 2 at a temperature of 1
    assert answer.probabilities == pytest.approx({"negative": 0.25, "neutral": 0.25, "positive": 0.5})


def test_heads_decode_half_precision_without_losing_the_sum() -> None:
    (prediction,) = head().decode(torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.bfloat16))
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
