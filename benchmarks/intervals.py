"""How sure a measured mean is: one bootstrap for all benchmarks.

R rows, S seeds.
"""

from __future__ import annotations

import numpy as np

DRAWS = 2_000


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over rows, or over seeds and rows; of differences, a paired one.

    All seeds have the same rows, so a draw takes whole rows and whole seeds of the grid, both with replacement
    (Owen 2007, "The pigeonhole bootstrap", arXiv:0712.1111).

    Args:
        values: One number a row. Shape: (R,) or (S, R)
    """
    generator = np.random.default_rng(0)
    grid = np.atleast_2d(values)
    seeds, rows = grid.shape
    means = [
        grid[generator.integers(seeds, size=seeds)][:, generator.integers(rows, size=rows)].mean() for _ in range(DRAWS)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
