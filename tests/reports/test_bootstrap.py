from __future__ import annotations

import time

import numpy as np
import pytest

from mtl.choices import SCORES
from mtl.reports import bootstrap
from mtl.reports.bootstrap import class_intervals, entity_intervals
from mtl.training.metrics import class_scores


def guesses(rows: int, classes: int, *, right: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn evenly, of which so many are predicted right on average."""
    truth = generator.integers(0, classes, rows)
    wrong = (truth + generator.integers(1, classes, rows)) % classes
    return truth, np.where(generator.random(rows) < right, truth, wrong)


@pytest.mark.parametrize("seed", range(5))
def test_bootstrap_scores_a_draw_as_scikit_learn_scores_its_rows(seed: int) -> None:
    """Also where a draw has not got every class."""
    generator = np.random.default_rng(seed)
    truth, guess = guesses(12, 6, right=0.5, generator=generator)
    right, true, guessed = (np.bincount(part, minlength=6)[None] for part in (truth[truth == guess], truth, guess))
    found = {name: float(values[0]) for name, values in bootstrap._class_scores(right, true, guessed).items()}
    assert found == pytest.approx(class_scores(truth, guess))


def test_bootstrap_agrees_with_drawing_the_rows_themselves() -> None:
    generator = np.random.default_rng(0)
    truth, guess = guesses(150, 3, right=0.7, generator=generator)
    drawn = [generator.integers(0, 150, 150) for _ in range(150)]
    slow = [class_scores(truth[rows], guess[rows]) for rows in drawn]
    for name, interval in class_intervals(truth, guess, classes=3, seed=0).items():
        assert interval == pytest.approx(np.quantile([scores[name] for scores in slow], [0.025, 0.975]), abs=0.03)


def test_bootstrap_intervals_cover_what_is_true() -> None:
    generator, covered = np.random.default_rng(1), 0
    for _ in range(300):
        truth, guess = guesses(200, 3, right=0.8, generator=generator)
        low, high = class_intervals(truth, guess, classes=3, seed=0, draws=300)["accuracy"]
        covered += low <= 0.8 <= high
    assert 0.90 < covered / 300 < 0.98


def test_bootstrap_intervals_narrow_with_the_root_of_the_rows() -> None:
    widths = []
    for rows in (100, 10_000):
        truth, guess = guesses(rows, 4, right=0.8, generator=np.random.default_rng(2))
        low, high = class_intervals(truth, guess, classes=4, seed=0)["accuracy"]
        widths.append(high - low)
        assert high - low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / rows) ** 0.5, rel=0.2)
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.25)


def test_bootstrap_is_seeded_and_does_not_depend_on_the_order_of_the_rows() -> None:
    truth, guess = guesses(80, 3, right=0.6, generator=np.random.default_rng(3))
    first = class_intervals(truth, guess, classes=3, seed=5)
    assert class_intervals(truth[::-1], guess[::-1], classes=3, seed=5) == first
    assert class_intervals(truth, guess, classes=3, seed=6) != first
    assert set(first) == set(SCORES["classification"])


def test_bootstrap_in_small_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, guess = guesses(80, 3, right=0.6, generator=np.random.default_rng(4))
    whole = class_intervals(truth, guess, classes=3, seed=0)
    monkeypatch.setattr(bootstrap, "MOST_NUMBERS", 50)
    assert class_intervals(truth, guess, classes=3, seed=0) == whole


@pytest.mark.parametrize("rows", [1, 7])
def test_bootstrap_of_what_is_all_right_is_certain(rows: int) -> None:
    truth = np.arange(rows) % 3
    assert class_intervals(truth, truth, classes=5, seed=0) == dict.fromkeys(SCORES["classification"], [1.0, 1.0])


def test_bootstrap_takes_time_by_the_cells_and_not_by_the_rows() -> None:
    """A thousand draws cost less than a hundred times scoring the rows once."""
    truth, guess = guesses(100_000, 50, right=0.8, generator=np.random.default_rng(5))
    start = time.perf_counter()
    class_scores(truth, guess)
    once = time.perf_counter() - start
    start = time.perf_counter()
    class_intervals(truth, guess, classes=50, seed=0)
    assert time.perf_counter() - start < 100 * once


# ------------------------------------------------------------------------------------------ entities


def test_bootstrap_of_entities_agrees_with_drawing_the_rows_themselves() -> None:
    generator = np.random.default_rng(6)
    counts = generator.integers(0, 4, (120, 3))
    counts[:, 0] = np.minimum(counts[:, 0], counts[:, 1:].min(axis=1))
    sums = np.array([counts[generator.integers(0, 120, 120)].sum(axis=0) for _ in range(2000)])
    slow = {
        "entity_f1": 2 * sums[:, 0] / (sums[:, 1] + sums[:, 2]),
        "entity_precision": sums[:, 0] / sums[:, 1],
        "entity_recall": sums[:, 0] / sums[:, 2],
    }
    found = entity_intervals(counts, seed=0)
    assert set(found) == set(SCORES["token_classification"])
    for name, interval in found.items():
        assert interval == pytest.approx(np.quantile(slow[name], [0.025, 0.975]), abs=0.015)


def test_bootstrap_of_entities_without_any_is_zero() -> None:
    nothing = np.zeros((4, 3), dtype=np.int64)
    assert entity_intervals(nothing, seed=0) == dict.fromkeys(SCORES["token_classification"], [0.0, 0.0])
