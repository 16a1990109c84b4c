from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl.modeling.encoder import transformer_of
from mtl.modeling.multitask import MultiTaskModel
from mtl.training.drift import MOST_ANCHORS, Anchors, EmbeddingHealth, closeness_loss, is_collapsed, mean_cosine
from tests.conftest import MOODS, THINGS

TEXTS = [f"the {thing} was {mood}" for thing in (*THINGS["food"], *THINGS["weather"]) for mood in MOODS.values()]


class Moved(nn.Module):
    """Stands last in an encoder and moves its embeddings as a test wants."""

    def __init__(self, matrix: Tensor, shift: Tensor | float) -> None:
        super().__init__()
        self.matrix, self.shift = matrix, shift

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Replace the embedding. Shape: (B, D)."""
        return features | {"sentence_embedding": features["sentence_embedding"] @ self.matrix + self.shift}


def moved(model: MultiTaskModel, matrix: Tensor, shift: Tensor | float = 0.0) -> MultiTaskModel:
    changed = copy.deepcopy(model)
    changed.encoder.add_module("moved", Moved(matrix, shift))
    return changed


def look(anchors: Anchors, model: MultiTaskModel) -> EmbeddingHealth:
    found = anchors.look(model)
    assert found is not None
    return found


@pytest.fixture
def anchors(tiny_model: MultiTaskModel) -> Anchors:
    return Anchors(tiny_model, TEXTS, seed=0)


def test_drift_is_exactly_zero_at_the_start(tiny_model: MultiTaskModel, anchors: Anchors) -> None:
    found = look(anchors, tiny_model)
    assert found.drift == 0.0
    assert found.random_cosine == found.start_random_cosine
    assert not found.collapsed


def test_drift_start_is_what_the_encoder_gives(tiny_model: MultiTaskModel, anchors: Anchors) -> None:
    expected = tiny_model.encoder.encode(list(anchors.texts))
    np.testing.assert_allclose(anchors.start.numpy(), expected, atol=1e-5)
    cosines = expected @ expected.T
    pairs = cosines[~np.eye(len(expected), dtype=bool)]
    assert look(anchors, tiny_model).start_random_cosine == pytest.approx(pairs.mean(), abs=1e-5)


def test_drift_of_a_rotation(tiny_model: MultiTaskModel, anchors: Anchors) -> None:
    """Turning every plane of two dimensions by 60 degrees turns each embedding by 60, and no two against each other."""
    turn = torch.tensor(
        [[math.cos(math.pi / 3), math.sin(math.pi / 3)], [-math.sin(math.pi / 3), math.cos(math.pi / 3)]]
    )
    found = look(anchors, moved(tiny_model, torch.block_diag(*[turn] * 8)))
    assert found.drift == pytest.approx(0.5, abs=1e-6)
    assert found.random_cosine == pytest.approx(found.start_random_cosine, abs=1e-6)
    assert not found.collapsed


@pytest.mark.parametrize(("factor", "drift"), [(3.0, 0.0), (-1.0, 2.0)])
def test_drift_looks_at_directions_not_at_lengths(
    tiny_model: MultiTaskModel, anchors: Anchors, factor: float, drift: float
) -> None:
    assert look(anchors, moved(tiny_model, factor * torch.eye(16))).drift == pytest.approx(drift, abs=1e-9)


def test_drift_of_other_weights(tiny_model: MultiTaskModel, anchors: Anchors) -> None:
    changed = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for parameter in transformer_of(changed.encoder).encoder.parameters():
            parameter.mul_(1.1)
    now = changed.encoder.encode(list(anchors.texts))
    expected = 1 - (now * anchors.start.numpy()).sum(axis=1).mean()
    assert expected > 1e-3, "the premise"
    assert look(anchors, changed).drift == pytest.approx(expected, abs=1e-5)
    assert look(anchors, tiny_model).drift == 0.0, "a look changes nothing"


def test_drift_sees_a_collapse(tiny_model: MultiTaskModel) -> None:
    """What all texts share is small at first, and grows until nothing else is left."""
    common = torch.tensor(tiny_model.encoder.encode(TEXTS)).mean(dim=0)
    anchors = Anchors(moved(tiny_model, torch.eye(16), -common), TEXTS, seed=0)
    seen = [look(anchors, moved(tiny_model, torch.eye(16), shift)) for shift in (-common, -0.9 * common, 9 * common)]
    assert [found.collapsed for found in seen] == [False, False, True]
    assert seen[0].random_cosine < 0 < seen[1].random_cosine < 0.9 < seen[2].random_cosine
    assert len({found.start_random_cosine for found in seen}) == 1


@pytest.mark.parametrize(
    ("now", "start", "collapsed"),
    [
        (0.95, 0.05, True),
        (0.89, 0.05, False),  # alike, but there are still differences
        (0.95, 0.95, False),  # an encoder whose embeddings are narrow from the start
        (0.97, 0.95, False),
        (0.99, 0.95, True),  # a fifth of what it had
        (0.3, 0.9, False),
        (1.0, 1.0, False),
    ],
)
def test_drift_collapse_is_judged_against_the_start(now: float, start: float, collapsed: bool) -> None:
    assert is_collapsed(now, start) is collapsed


def test_drift_mean_cosine_is_over_all_pairs_of_different_rows() -> None:
    rows = torch.nn.functional.normalize(torch.randn(9, 5, generator=torch.Generator().manual_seed(0)), dim=1).double()
    expected = [float(rows[i] @ rows[j]) for i in range(9) for j in range(9) if i != j]
    assert mean_cosine(rows) == pytest.approx(sum(expected) / 72, abs=1e-6)


def test_drift_anchors_are_drawn_by_the_seed(tiny_model: MultiTaskModel) -> None:
    texts = TEXTS
    first = Anchors(tiny_model, texts, seed=3)
    torch.manual_seed(99)
    again = Anchors(tiny_model, texts, seed=3)
    assert first.texts == again.texts
    assert torch.equal(first.start, again.start)
    assert first.texts != Anchors(tiny_model, texts, seed=4).texts
    assert set(first.texts) <= set(texts)


@pytest.mark.parametrize(("there_are", "anchors"), [(20, 20), (200, 32), (400, 50), (2_000, MOST_ANCHORS)])
def test_drift_anchors_are_few_and_different(tiny_model: MultiTaskModel, there_are: int, anchors: int) -> None:
    texts = [f"the game was {number}" for number in range(there_are)] * 2
    found = Anchors(tiny_model, texts, seed=0).texts
    assert len(found) == len(set(found)) == anchors
    assert set(found) <= set(texts)
    assert found != tuple(texts[:anchors])


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "one", "one"]])
def test_drift_of_fewer_than_two_texts_is_unknown(tiny_model: MultiTaskModel, texts: list[str]) -> None:
    assert Anchors(tiny_model, texts, seed=0).look(tiny_model) is None


def test_drift_of_two_texts(tiny_model: MultiTaskModel) -> None:
    anchors = Anchors(tiny_model, ["the soup was great", "snow"], seed=0)
    assert look(anchors, tiny_model).random_cosine == pytest.approx(float(anchors.start[0] @ anchors.start[1]))


def test_drift_of_weights_that_are_not_finite_is_unknown(tiny_model: MultiTaskModel, anchors: Anchors) -> None:
    assert anchors.look(moved(tiny_model, torch.full((16, 16), math.nan))) is None


@pytest.mark.parametrize("training", [True, False])
def test_drift_leaves_mode_gradients_and_random_numbers_alone(tiny_model: MultiTaskModel, training: bool) -> None:
    tiny_model.train(training)
    tiny_model.head("topic").eval()  # as a frozen head is
    before = {name: module.training for name, module in tiny_model.named_modules()}
    assert set(before.values()) == {training, False}
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    anchors = Anchors(tiny_model, TEXTS, seed=0)
    drift = look(anchors, tiny_model).drift
    assert drift == 0.0, "without dropout"
    assert {name: module.training for name, module in tiny_model.named_modules()} == before
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
    assert not anchors.start.requires_grad
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_drift_restores_the_mode_after_an_error(
    tiny_model: MultiTaskModel, anchors: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(features: dict[str, Tensor]) -> dict[str, Tensor]:
        raise RuntimeError("out of memory")

    tiny_model.train()
    monkeypatch.setattr(tiny_model, "encode", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        anchors.look(tiny_model)
    assert tiny_model.training


def test_drift_closeness_loss_by_hand() -> None:
    """Cosines 0.6 and -1, whatever the lengths: (0.4 + 2) / 2."""
    embeddings = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    start = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    assert float(closeness_loss(embeddings, start)) == pytest.approx(1.2)
    assert float(closeness_loss(start, 7 * start)) == pytest.approx(0, abs=1e-6)


def test_drift_closeness_loss_pulls_the_first_towards_the_second() -> None:
    """At unit length and a right angle the gradient of one minus the cosine is minus the other vector."""
    embeddings = torch.tensor([[1.0, 0.0]], requires_grad=True)
    start = torch.tensor([[0.0, 1.0]], requires_grad=True)
    closeness_loss(embeddings, start).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.tolist() == [[0.0, -1.0]]
    assert start.grad is None


def test_drift_closeness_loss_leads_back() -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(4, 6, generator=generator)
    embeddings = nn.Parameter(torch.randn(4, 6, generator=generator))
    values = []
    for _ in range(200):
        loss = closeness_loss(embeddings, start)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        embeddings.data -= gradient
        values.append(loss.item())
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.5 > 0.01 > values[-1]
