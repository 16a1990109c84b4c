from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.data import suspects as module
from mtl.data.suspects import SuspectLabels, suspect_labels

ROOT = Path(__file__).parents[2]


def run(steps: Generator[tuple[int, int], None, SuspectLabels]) -> SuspectLabels:
    """Run to the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def clusters(sizes: Sequence[int], spread: float = 0.2, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Draw unit vectors around one direction per class, and name the classes a, b, c and so on."""
    rng = np.random.default_rng(seed)
    centres = np.eye(16)[: len(sizes)]
    truth = np.repeat(np.arange(len(sizes)), sizes)
    vectors = centres[truth] + spread * rng.normal(size=(len(truth), 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), ["abcdefgh"[number] for number in truth]


def with_noise(labels: Sequence[str], rows: Sequence[int]) -> list[str]:
    """Give these rows the label of the next class."""
    names = sorted(set(labels) - {""})
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    return [following[label] if row in rows else label for row, label in enumerate(labels)]


@pytest.mark.parametrize("sizes", [[200, 200], [160, 120, 100], [400, 80, 80, 80]])
def test_suspects_planted_noise_is_found_and_the_truth_suggested(sizes: list[int]) -> None:
    vectors, truth = clusters(sizes)
    wrong = list(range(0, len(truth), 33))
    labels = with_noise(truth, wrong)
    found = run(suspect_labels(vectors, labels))
    assert found.checked == len(labels)
    assert found.sentences == ()
    right = [suspect for suspect in found.suspects if suspect.row in wrong]
    assert len(right) >= len(wrong) * 2 / 3
    assert len(right) >= 0.9 * len(found.suspects)
    for suspect in right:
        assert (suspect.given, suspect.suggested) == (labels[suspect.row], truth[suspect.row])
        assert 0 <= suspect.given_confidence < 0.5 < suspect.suggested_confidence <= 1
        assert suspect.score == pytest.approx(1 - suspect.given_confidence)


def test_suspects_labels_against_overwhelming_odds_are_found_whatever_the_filter_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probabilities = np.full((40, 2), 0.5, dtype=np.float32)
    probabilities[:, 0] = [0.8, 0.2] * 20
    probabilities[3, 0] = 0.92
    probabilities[:, 1] = 1 - probabilities[:, 0]
    monkeypatch.setattr("cleanlab.filter.find_label_issues", lambda labels, *_, **__: np.zeros(len(labels), dtype=bool))
    found = module._suspects(np.arange(40) + 100, np.array([0, 1] * 20), probabilities, ["x", "y"])
    assert [(suspect.row, suspect.given, suspect.suggested) for suspect in found] == [(103, "y", "x")]


def test_suspects_come_in_order_of_suspicion() -> None:
    vectors, truth = clusters([150, 150, 150], spread=0.5)
    found = run(suspect_labels(vectors, with_noise(truth, range(0, 450, 20)))).suspects
    assert len(found) > 10
    assert [suspect.score for suspect in found] == sorted((suspect.score for suspect in found), reverse=True)
    assert all(suspect.suggested != suspect.given for suspect in found)
    assert all(suspect.suggested_confidence >= suspect.given_confidence for suspect in found)


def test_suspects_of_clean_labels_are_few() -> None:
    vectors, truth = clusters([100, 100, 100])
    assert len(run(suspect_labels(vectors, truth)).suspects) <= 3


def test_suspects_pass_over_missing_labels() -> None:
    vectors, truth = clusters([60, 60])
    labels = with_noise(truth, [5, 70])
    alone = run(suspect_labels(vectors, labels))
    gaps = [cell for label in labels for cell in (label, "", "  ")]
    spread = run(suspect_labels(np.repeat(vectors, 3, axis=0), gaps))
    assert spread.checked == alone.checked == 120
    assert [(s.row, s.given, s.suggested) for s in spread.suspects] == [
        (3 * s.row, s.given, s.suggested) for s in alone.suspects
    ]
    assert {5, 70} <= {suspect.row for suspect in alone.suspects}


def test_suspects_a_copy_does_not_vouch_for_its_own_label() -> None:
    vectors, truth = clusters([40, 40], spread=0.6)
    # an odd text of one class that was labelled as the other, eight times
    vectors = np.concatenate([vectors, np.repeat(np.eye(16, dtype=np.float32)[[0]] * 0.8 + 0.1, 8, axis=0)])
    vectors[-8:] /= np.linalg.norm(vectors[-8:], axis=1, keepdims=True)
    labels = [*truth, *"bbbbbbbb"]
    copies = set(range(80, 88))
    groups = [*range(80), *[80] * 8]
    together = run(suspect_labels(vectors, labels, groups)).suspects
    apart = run(suspect_labels(vectors, labels)).suspects
    assert {suspect.row for suspect in together} >= copies
    confidence = {suspect.row: suspect.given_confidence for suspect in apart}
    given = max(suspect.given_confidence for suspect in together if suspect.row in copies)
    assert all(confidence.get(row, 1.0) > given for row in copies)


def test_suspects_same_seed_same_result() -> None:
    vectors, truth = clusters([80, 80, 80], spread=0.6)
    labels = with_noise(truth, range(0, 240, 15))
    one, same, other = (run(suspect_labels(vectors, labels, seed=seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_suspects_classes_of_too_few_rows_are_left_out_and_named() -> None:
    vectors, truth = clusters([50, 50, 4])
    found = run(suspect_labels(vectors, with_noise(truth[:100], [3]) + truth[100:]))
    assert found.checked == 100
    assert found.sentences == ("Fewer than 5 texts that do not repeat each other, too few to check: c (4 rows).",)
    assert found.suspects[0].row == 3
    assert all(suspect.row < 100 and suspect.suggested != "c" for suspect in found.suspects)


def test_suspects_copies_of_one_text_do_not_make_a_class_large() -> None:
    vectors, truth = clusters([50, 50, 12])
    groups = [*range(100), *(100 + number % 4 for number in range(12))]
    assert run(suspect_labels(vectors, truth, groups)).sentences == (
        "Fewer than 5 texts that do not repeat each other, too few to check: c (12 rows).",
    )
    assert run(suspect_labels(vectors, truth)).sentences == ()


def test_suspects_many_poor_classes_are_counted() -> None:
    vectors, truth = clusters([30, 30])
    rare = [f"rare {number}" for number in range(11)]
    found = run(suspect_labels(np.concatenate([vectors, vectors[:11]]), [*truth, *rare]))
    assert found.checked == 60
    (sentence,) = found.sentences
    assert "rare 7 (1 row) and 3 more classes." in sentence


@pytest.mark.parametrize("labels", [[], ["a"] * 20, [""] * 20, ["a"] * 20 + ["b"] * 4])
def test_suspects_without_two_classes_nothing_is_checked_and_that_is_said(labels: list[str]) -> None:
    steps = suspect_labels(np.ones((len(labels), 4), dtype=np.float32), labels)
    found = run(steps)
    assert (found.suspects, found.checked) == ((), 0)
    assert found.sentences[-1] == "There are not two classes to tell apart, so no label could be checked."


def test_suspects_too_large_a_table_of_probabilities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PROBABILITIES", 239)
    vectors, truth = clusters([60, 60])
    found = run(suspect_labels(vectors, truth))
    assert found.sentences == ("120 rows times 2 classes are too many to check.",)
    assert found.suspects == ()


def test_suspects_very_many_rows_are_learnt_from_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[list[int]] = []
    fitted = module._fitted

    def remember(embeddings: np.ndarray, targets: np.ndarray) -> object:
        learnt.append(np.bincount(targets).tolist())
        return fitted(embeddings, targets)

    monkeypatch.setattr(module, "MAX_TRAINING_ROWS", 60)
    monkeypatch.setattr(module, "_fitted", remember)
    vectors, truth = clusters([300, 95, 5])
    wrong = range(0, 395, 25)
    found = run(suspect_labels(vectors, with_noise(truth, wrong)))
    assert found.checked == 400  # all are looked at all the same
    assert len({suspect.row for suspect in found.suspects} & set(wrong)) >= 6
    for counts in learnt:
        assert 60 <= sum(counts) <= 63
        assert 43 <= counts[0] <= 47
        assert counts[2] >= 1


def test_suspects_progress_counts_up_to_the_end() -> None:
    vectors, truth = clusters([40, 40])
    steps = list(suspect_labels(vectors, truth, folds=4))
    assert steps == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=80),
    folds=st.integers(2, 5),
    seed=st.integers(0, 100),
)
def test_suspects_folds_hold_groups_together_and_have_every_class(
    rows: list[tuple[int, int]], folds: int, seed: int
) -> None:
    numbers = np.array([number for number, _ in rows], dtype=int)
    groups = np.array([group for _, group in rows], dtype=int)
    fold = module._deal(numbers, groups, folds, np.random.default_rng(seed))
    kept = fold >= 0
    for number in set(numbers.tolist()):
        its = fold[numbers == number]
        if len({group for one, group in rows if one == number}) < folds:
            assert (its == -1).all()  # too few to learn and to check
        elif (its >= 0).any():
            assert set(its.tolist()) == set(range(folds))
    for group in set(groups.tolist()):
        assert len(set(fold[kept & (groups == group)].tolist())) <= 1
    for number in set(numbers.tolist()):
        own = [group for one, group in rows if one == number]
        if len(set(own)) >= folds and all(one == number for one, group in rows if group in own):
            assert (fold[numbers == number] >= 0).all()  # nothing is left out without need


def test_suspects_importing_the_module_loads_no_heavy_library() -> None:
    code = "import sys, mtl.data.suspects; print(*({'sklearn', 'cleanlab', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
