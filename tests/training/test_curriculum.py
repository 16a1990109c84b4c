from __future__ import annotations

import warnings

import numpy as np
import pytest

from mtl.training.curriculum import first_epochs, row_difficulty, share


def clusters(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw vectors around one direction per class."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return (5 * np.eye(16)[truth] + rng.normal(size=(len(truth), 16))).astype(np.float32), truth


def test_share_grows_along_a_line_and_is_whole_after_its_epochs() -> None:
    assert [share(epoch, start=0.25, epochs=3) for epoch in range(1, 6)] == [0.25, 0.5, 0.75, 1, 1]
    assert share(1, start=1, epochs=2) == 1


def test_first_epochs_take_the_same_share_of_every_group() -> None:
    groups = np.array([[True]] * 10 + [[False]] * 7 + [[True]] * 10)
    difficulty = np.concatenate([np.arange(10), np.arange(100, 107), np.arange(10, 20)])
    found = first_epochs(groups, difficulty, start=0.1, epochs=3, seed=0)
    # 0.1, 0.4 and 0.7 of 20 and of 7, rounded up
    assert [int((found[groups[:, 0]] <= epoch).sum()) for epoch in (1, 2, 3, 4)] == [2, 8, 14, 20]
    assert [int((found[~groups[:, 0]] <= epoch).sum()) for epoch in (1, 2, 3, 4)] == [1, 3, 5, 7]
    for group in (groups[:, 0], ~groups[:, 0]):
        assert (np.diff(found[group][np.argsort(difficulty[group])]) >= 0).all()


def test_first_epochs_round_up_what_is_not_whole_only() -> None:
    found = first_epochs(np.ones((100, 1)), np.arange(100), start=0.07, epochs=1, seed=0)
    assert (found == 1).sum() == 7  # 0.07 * 100 = 7.000000000000001


def test_first_epochs_between_equals_are_random_but_repeatable() -> None:
    groups, same = np.ones((100, 1), dtype=bool), np.zeros(100)
    first, again, other = (first_epochs(groups, same, start=0.5, epochs=1, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert 10 < (first[:50] == 1).sum() < 40  # not the first half of the file
    assert first_epochs(np.zeros((0, 2)), np.zeros(0), start=0.5, epochs=1, seed=0).tolist() == []


def test_difficulty_is_high_for_wrong_labels_and_low_for_clear_ones() -> None:
    vectors, truth = clusters([60, 60, 60])
    labels = [f"class {number}" for number in truth]
    wrong = list(range(0, 180, 20))
    for row in wrong:
        labels[row] = f"class {(truth[row] + 1) % 3}"
    found = row_difficulty(vectors, {"topic": labels}, seed=0)
    assert found.shape == (180,)
    assert set(np.argsort(found)[-len(wrong) :].tolist()) == set(wrong)
    assert found[wrong].min() > 1 > np.delete(found, wrong).mean()
    # their length does not matter
    assert found == pytest.approx(row_difficulty(10 * vectors, {"topic": labels}, seed=0), rel=1e-3)
    assert (found != row_difficulty(vectors, {"topic": labels}, seed=1)).any()


def test_difficulty_is_the_mean_over_the_tasks_of_a_row() -> None:
    vectors, truth = clusters([40, 40])
    rng = np.random.default_rng(1)
    clear = [str(number) if row % 4 else None for row, number in enumerate(truth)]
    noise = [str(rng.integers(8)) if row % 3 else None for row in range(80)]
    one, other = (row_difficulty(vectors, {"task": column}, seed=0) for column in (clear, noise))
    both = row_difficulty(vectors, {"clear": clear, "noise": noise}, seed=0)
    for row in range(80):
        known = [found[row] for found, column in ((one, clear), (other, noise)) if column[row] is not None]
        if known:
            assert both[row] == pytest.approx(np.mean(known))
    rest = [row for row in range(80) if row % 12 == 0]
    assert both[rest] == pytest.approx(np.median(np.delete(both, rest)))
    # a task that cannot be learnt costs what a guess costs, however many classes it has
    assert np.mean([other[row] for row in range(80) if row % 3]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "a", "b", "b", None, "c"],
        ["a", "b", "c", "d", "e", "f"],
        ["a", "a", "a", "a", "a", "a"],
        [None] * 6,
        ["a", None, None, None, None, "b"],
    ],
)
def test_difficulty_of_few_rows_is_that_of_a_guess(labels: list[str | None]) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert row_difficulty(vectors, {"topic": labels}, seed=0).tolist() == [1.0] * 6
        assert row_difficulty(vectors, {}, seed=0).tolist() == [1.0] * 6


def test_difficulty_of_a_rare_class_is_that_of_a_guess_and_the_others_are_measured() -> None:
    vectors, truth = clusters([30, 30, 4])
    vectors[0] = 0  # an embedding without a direction
    found = row_difficulty(vectors, {"topic": [str(number) for number in truth]}, seed=0)
    assert found[-4:].tolist() == [1.0] * 4
    assert found[:60].mean() < 0.8
    assert np.isfinite(found).all()


def test_difficulty_of_very_many_rows_learns_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.training.curriculum.MAX_TRAINING_ROWS", 12)
    vectors, truth = clusters([60, 60, 5])
    found = row_difficulty(vectors, {"topic": [str(number) for number in truth]}, seed=0)
    assert np.isfinite(found).all()
    assert found[:120].mean() < 1
