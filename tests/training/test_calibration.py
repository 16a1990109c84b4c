from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.data.batching import IGNORE_INDEX
from mtl.training.calibration import (
    HIGHEST,
    LOWEST,
    Bin,
    calibrated,
    expected_calibration_error,
    fit_temperature,
    reliability,
)


def world(rows: int = 20_000, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are calibrated as they are: the labels are drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=generator)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)


# ------------------------------------------------------------------------------------------ temperature


@pytest.mark.parametrize("scale", [0.2, 0.7, 1.0, 3.0, 12.0])
def test_calibration_recovers_a_known_scale(scale: float) -> None:
    logits, labels = world()
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale, rel=0.03)


@pytest.mark.parametrize(("scale", "limit"), [(1e-3, LOWEST), (1e3, HIGHEST)])
def test_calibration_stays_within_its_limits(scale: float, limit: float) -> None:
    logits, labels = world(500)
    assert fit_temperature(scale * logits, labels) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_calibration_finds_the_least_loss(seed: int) -> None:
    logits, labels = world(3000, seed=seed)
    found = fit_temperature(2.5 * logits, labels)
    losses = [F.cross_entropy(2.5 * logits.double() / t, labels).item() for t in (found, found * 0.97, found * 1.03)]
    assert losses[0] < min(losses[1:])


def test_calibration_is_deterministic_and_looks_at_labelled_rows_only() -> None:
    logits, labels = world(400)
    found = fit_temperature(3 * logits, labels)
    nonsense = torch.full((50, 4), 1e6)
    unlabelled = torch.full((50,), IGNORE_INDEX)
    assert fit_temperature(torch.cat([3 * logits, nonsense]), torch.cat([labels, unlabelled])) == found


def test_calibration_does_not_depend_on_what_is_added_to_all_logits_of_a_row() -> None:
    logits, labels = world(400)
    moved = logits.double() + torch.arange(400)[:, None]
    assert fit_temperature(3 * moved, labels) == pytest.approx(fit_temperature(3 * logits.double(), labels), rel=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 19])
def test_calibration_leaves_few_rows_alone(rows: int) -> None:
    logits, labels = world(rows + 1)
    labels[0] = IGNORE_INDEX
    assert fit_temperature(5 * logits, labels) == 1.0


def test_calibration_leaves_alone_where_nothing_is_gained() -> None:
    assert fit_temperature(torch.zeros(100, 3), torch.arange(100) % 3) == 1.0
    assert fit_temperature(torch.full((100, 3), math.nan), torch.arange(100) % 3) == 1.0


def test_calibration_of_rows_that_are_all_right_does_not_ask_for_certainty() -> None:
    """Laplace's rule of succession: of 30 right answers one does not conclude that the next is certain."""
    labels = torch.arange(30) % 3
    logits = 4.0 * F.one_hot(labels, 3)
    confidence = calibrated(logits, fit_temperature(logits, labels)).max(dim=1).values
    torch.testing.assert_close(confidence, torch.full((30,), 1 - 2 / 3 / 31, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [LOWEST, 0.5, 1.0, 7.0, HIGHEST])
def test_calibration_never_changes_a_prediction(temperature: float) -> None:
    logits, _ = world(2000)
    close = torch.cat([logits, logits[:, :1] + torch.tensor([0.0, 1e-6, -1e-6, 5e-7])])
    assert torch.equal(calibrated(close, temperature).argmax(dim=1), close.argmax(dim=1))


def test_calibration_lowers_the_error_of_overconfident_logits() -> None:
    logits, labels = world()
    held_out, truth = world(seed=1)
    temperature = fit_temperature(4 * logits, labels)
    before = expected_calibration_error(calibrated(4 * held_out, 1.0), truth)
    after = expected_calibration_error(calibrated(4 * held_out, temperature), truth)
    assert before > 0.15
    assert after < 0.02


# ------------------------------------------------------------------------------------------ reliability


def test_calibration_error_by_hand() -> None:
    """Two bins of five: (0.6, 0.8] holds 0.7 right and 0.8 wrong, (0.8, 1.0] holds 0.9 right and 1.0 right."""
    probabilities = torch.tensor([[0.7, 0.3], [0.2, 0.8], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, IGNORE_INDEX])
    assert expected_calibration_error(probabilities, labels, bins=5) == pytest.approx(
        0.5 * abs(0.5 - 0.75) + 0.5 * abs(1 - 0.95)
    )
    bins = reliability(probabilities, labels, bins=5)
    assert [bin.count for bin in bins] == [0, 0, 0, 2, 2]
    assert bins[0] == Bin(0.0, 0.2, 0, None, None)
    assert (bins[3].confidence, bins[3].accuracy) == (pytest.approx(0.75), 0.5)


def test_calibration_error_is_zero_for_confidence_that_is_right_as_often_as_it_says() -> None:
    probabilities = torch.tensor([[0.75, 0.25]] * 4)
    assert expected_calibration_error(probabilities, torch.tensor([0, 0, 0, 1])) == 0.0
    assert expected_calibration_error(probabilities, torch.tensor([1, 1, 1, 1])) == pytest.approx(0.75)


def test_calibration_error_of_nothing_is_zero() -> None:
    for rows in (0, 3):
        labels = torch.full((rows,), IGNORE_INDEX)
        assert expected_calibration_error(torch.full((rows, 2), 0.5), labels) == 0.0
        assert sum(bin.count for bin in reliability(torch.full((rows, 2), 0.5), labels)) == 0


def test_calibration_bins_hold_every_prediction_once() -> None:
    logits, labels = world(5000)
    probabilities = logits.softmax(dim=1)
    bins = reliability(probabilities, labels)
    assert sum(bin.count for bin in bins) == 5000
    confidences = probabilities.double().max(dim=1).values
    for bin in bins:
        inside = (confidences > bin.low) & (confidences <= bin.high)
        assert int(inside.sum()) == bin.count
        if bin.count:
            assert bin.confidence == pytest.approx(float(confidences[inside].mean()))
