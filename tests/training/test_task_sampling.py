from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.training.task_sampling import annealed_exponent, apportion


def test_annealed_exponent_falls_along_a_line() -> None:
    assert [annealed_exponent(epoch, 5, 0.2) for epoch in range(1, 6)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert annealed_exponent(1, 1, 0.2) == 1
    assert [annealed_exponent(epoch, 5, 1.0) for epoch in (1, 3, 5)] == [1, 1, 1]


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8), st.integers(0, 500))
@settings(deadline=None)
def test_apportion_is_whole_complete_and_near_the_shares(shares: list[float], more: int) -> None:
    total = len(shares) + more
    found = apportion(np.array(shares), total)
    assert sum(found) == total
    assert min(found) >= 1
    for share, count in zip(shares, found, strict=True):
        assert count <= max(1, total * share / sum(shares) + 1 + 1e-6)
    by_share = sorted(zip(shares, found, strict=True))
    assert all(less <= more for (small, less), (large, more) in pairwise(by_share) if large > small * (1 + 1e-6))


def test_apportion_gives_the_largest_remainders_the_rest() -> None:
    assert apportion(np.array([47.0, 16.0, 15.8, 12.0, 6.1, 3.1]), 10) == [4, 2, 1, 1, 1, 1]  # 3.1 would have none
    assert apportion(np.array([1.0, 1.0, 1.0]), 5) == [2, 2, 1]
    assert apportion(np.array([1e9, 1.0, 1.0]), 10) == [8, 1, 1]
    assert apportion(np.array([7.0, 3.0, 1.0]), 11) == [7, 3, 1]
