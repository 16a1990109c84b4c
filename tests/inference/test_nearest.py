from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.inference import neighbours
from mtl.inference.neighbours import nearest, unit


@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(0, 7),
    count=st.integers(0, 40),
    size=st.integers(1, 4),
    k=st.integers(1, 50),
    block=st.integers(1, 60),
    together=st.integers(1, 4),
)
def test_nearest_is_what_sorting_all_cosines_gives(
    seed: int, queries: int, count: int, size: int, k: int, block: int, together: int
) -> None:
    random = np.random.default_rng(seed)
    # many cosines are equal, rows of zeros occur, and powers of two keep all of them exact
    wanted = np.eye(size, dtype=np.float32)[random.integers(0, size, queries)] * 2.0 ** random.integers(
        -2, 3, (queries, 1)
    )
    among = np.eye(size + 1, size, dtype=np.float32)[random.integers(0, size + 1, count)] * 4.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK_CELLS", block)
        patch.setattr(neighbours, "BLOCK_QUERIES", together)
        indices, cosines = nearest(wanted.astype(np.float32), among, k)
    every = unit(wanted) @ unit(among).T
    order = np.argsort(-every, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(cosines, np.take_along_axis(every, order, axis=1))


def test_nearest_of_real_numbers_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    queries, vectors = random.normal(size=(5, 8)), random.normal(size=(300, 8))
    whole = nearest(queries, vectors, 7)
    monkeypatch.setattr(neighbours, "BLOCK_CELLS", 100)
    parts = nearest(queries, vectors, 7)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_allclose(whole[1], parts[1], atol=1e-6)


def test_nearest_never_holds_all_cosines_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    first = neighbours._first

    def counted(cosines: np.ndarray, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        seen.append(cosines.size)
        return first(cosines, places, k)

    monkeypatch.setattr(neighbours, "_first", counted)
    monkeypatch.setattr(neighbours, "BLOCK_CELLS", 400)
    monkeypatch.setattr(neighbours, "BLOCK_QUERIES", 20)
    nearest(np.ones((60, 2)), np.ones((1000, 2)), 3)
    assert len(seen) == 3 * 50
    assert max(seen) == 20 * (20 + 3)


def test_unit_leaves_zeros_alone() -> None:
    np.testing.assert_allclose(unit(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])
