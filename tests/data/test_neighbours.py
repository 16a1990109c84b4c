from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtl.data import neighbours as module
from mtl.data.neighbours import Clash, Neighbours, clashes, near_groups

UNSURE = 1e-5  # pairs this close to the threshold may fall on either side of it


def run(steps: Generator[tuple[int, int], None, Neighbours]) -> tuple[list[tuple[int, int]], Neighbours]:
    """Run to the end: the progress on the way, and the result."""
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Compute every cosine in double precision; a row with itself is -2."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    unit = np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0)
    found = unit @ unit.T
    np.fill_diagonal(found, -2)
    return found


def components(linked: np.ndarray) -> set[tuple[int, ...]]:
    """Find the connected components of two or more by walking from row to row."""
    left, found = set(range(len(linked))), set()
    while left:
        reached, waiting = set(), [min(left)]
        while waiting:
            row = waiting.pop()
            if row not in reached:
                reached.add(row)
                waiting += np.flatnonzero(linked[row]).tolist()
        left -= reached
        if len(reached) > 1:
            found.add(tuple(sorted(reached)))
    return found


def clustered(rows: int, clusters: int, spread: float, seed: int) -> np.ndarray:
    """Draw rows around a few directions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, 24))
    return (centres[rng.integers(clusters, size=rows)] + spread * rng.normal(size=(rows, 24))).astype(np.float32)


@given(
    rows=st.integers(1, 60),
    clusters=st.integers(1, 12),
    spread=st.sampled_from([0.0, 0.1, 0.3, 0.6]),
    threshold=st.sampled_from([0.7, 0.9, 0.95]),
    block=st.sampled_from([(1, 1), (4, 7), (7, 16), (64, 64)]),
    seed=st.integers(0, 1000),
)
def test_neighbours_are_those_of_every_pair_compared(
    rows: int, clusters: int, spread: float, threshold: float, block: tuple[int, int], seed: int
) -> None:
    vectors = clustered(rows, clusters, spread, seed)
    exact = cosines(vectors)
    assume(not np.any(np.abs(exact - threshold) < UNSURE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", block[0])
        patch.setattr(module, "COLUMNS", max(block))
        told, found = run(near_groups(vectors, threshold))
    assert set(found.groups) == components(exact >= threshold)
    assert list(found.groups) == sorted(found.groups)
    alone = exact.max(axis=1) < threshold
    assert np.array_equal(found.partner == -1, alone)
    assert (found.cosine[alone] == 0).all()
    paired = np.flatnonzero(~alone)
    np.testing.assert_allclose(found.cosine[paired], exact[paired].max(axis=1), atol=UNSURE)
    np.testing.assert_allclose(exact[paired, found.partner[paired]], exact[paired].max(axis=1), atol=UNSURE)
    done = [part for part, _ in told]
    assert done == sorted(set(done))
    assert told[-1][0] == told[-1][1] == {total for _, total in told}.pop()


def test_neighbours_blocks_of_the_real_size_join_what_lies_in_different_ones() -> None:
    vectors = clustered(2 * module.ROWS + 50, 2 * module.ROWS + 50, 0.0, seed=1)
    vectors[-1] = 3 * vectors[0]
    vectors[module.ROWS + 5] = vectors[0]
    exact = cosines(vectors)
    assert np.abs(exact - 0.95).min() > 1e-7  # the premise: no pair is a matter of rounding
    _, found = run(near_groups(vectors, 0.95))
    assert set(found.groups) == components(exact >= 0.95)
    assert {0, module.ROWS + 5, len(vectors) - 1} <= set(found.groups[0])


def test_neighbours_many_equal_rows_are_one_group_without_listing_their_pairs() -> None:
    vectors = np.ones((6000, 4), dtype=np.float32)  # 18 million pairs
    _, found = run(near_groups(vectors, 1.0))
    assert found.groups == (tuple(range(6000)),)
    assert found.partner[:3].tolist() == [1, 0, 0]
    np.testing.assert_allclose(found.cosine, 1, atol=1e-6)
    assert found.cosine.max() <= 1


def test_neighbours_chains_connect_rows_that_are_far_apart() -> None:
    angles = np.radians([0, 15, 30, 120])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    _, found = run(near_groups(vectors, float(np.cos(np.radians(20)))))
    assert found.groups == ((0, 1, 2),)
    assert found.partner.tolist() == [1, 0, 1, -1]


def test_neighbours_length_plays_no_part_and_zeros_are_near_nothing() -> None:
    vectors = np.array([[0, 0], [1, 2], [0, 0], [10, 20], [-1, -2]], dtype=np.float32)
    _, found = run(near_groups(vectors, 0.9))
    assert found.groups == ((1, 3),)
    assert found.partner.tolist() == [-1, 3, -1, 1, -1]


@pytest.mark.parametrize("rows", [0, 1])
def test_neighbours_of_too_few_rows_are_none(rows: int) -> None:
    _, found = run(near_groups(np.ones((rows, 3)), 0.9))
    assert found.groups == ()
    assert found.partner.tolist() == [-1] * rows


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_neighbours_refuse_a_threshold_that_is_none(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        run(near_groups(np.ones((2, 2)), threshold))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_neighbours_refuse_numbers_that_are_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        run(near_groups(np.array([[1.0, value]]), 0.9))


@given(
    rows=st.integers(2, 40),
    seed=st.integers(0, 1000),
    block=st.sampled_from([1, 5, 64]),
    labels=st.lists(st.sampled_from(["a", "b", "c", "", " "]), min_size=40, max_size=40),
    keys=st.lists(st.sampled_from(["k", "l", "m", "n"]), min_size=40, max_size=40),
)
def test_neighbours_clash_where_labels_of_near_rows_differ(
    rows: int, seed: int, block: int, labels: list[str], keys: list[str]
) -> None:
    vectors = clustered(rows, 3, 0.3, seed)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group = list(range(0, rows, 2))
    exact, threshold = cosines(vectors), 0.9
    assume(not np.any(np.abs(exact - threshold) < UNSURE))
    expected = set()
    for row in group:
        others = [
            other
            for other in group
            if labels[row].strip()
            and labels[other].strip()
            and labels[other] != labels[row]
            and keys[other] != keys[row]
            and exact[row, other] >= threshold
        ]
        if others:
            best = max(others, key=lambda other: exact[row, other])
            expected.add((min(row, best), max(row, best)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", block)
        found = clashes(vectors, labels, keys, group, threshold)
    assert [clash.rows for clash in found] == sorted(expected)
    for clash in found:
        assert clash.cosine == pytest.approx(exact[clash.rows], abs=UNSURE)


def test_neighbours_of_one_label_do_not_clash() -> None:
    vectors = np.ones((3, 1), dtype=np.float32)
    assert clashes(vectors, ["a", "a", ""], ["x", "y", "z"], [0, 1, 2], 0.9) == []
    assert clashes(vectors, ["a", "b", ""], ["x", "y", "z"], [0, 1, 2], 0.9) == [Clash((0, 1), 1.0)]
