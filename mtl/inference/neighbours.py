"""Similarity and nearest neighbours of vectors, in blocks: the memory does not grow with their product.

N vectors to search among, Q queries, D their size.
"""

from __future__ import annotations

import numpy as np

BLOCK_QUERIES, BLOCK_CELLS = 1_000, 4_000_000  # in memory at a time; 16 MB of cosines


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale each row to length 1; a row of zeros stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k vectors nearest to each query by cosine, the nearest first; of equal ones the first in order.

    Args:
        queries: Of any length. Shape: (Q, D).
        vectors: Of any length. Shape: (N, D).
        k: At least 1; more than N counts as N.

    Returns:
        Their indices and their cosines. Shape: both (Q, min(k, N)).
    """
    k = min(k, len(vectors))
    indices = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries) if k else 0, BLOCK_QUERIES):
        block = slice(start, start + BLOCK_QUERIES)
        indices[block], cosines[block] = _nearest(unit(queries[block]), vectors, k)
    return indices, cosines


def _nearest(wanted: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Do so for queries of length 1 and few enough for one block."""
    rows = max(1, BLOCK_CELLS // len(wanted))
    best = np.empty((len(wanted), 0), dtype=np.float32)
    place = np.empty((len(wanted), 0), dtype=np.int64)
    for start in range(0, len(vectors), rows):
        block = wanted @ unit(vectors[start : start + rows]).T
        found = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        best, place = _first(np.hstack([best, block]), np.hstack([place, found]), k)
    order = np.lexsort((place, -best), axis=1)
    return np.take_along_axis(place, order, axis=1), np.take_along_axis(best, order, axis=1)


def _first(cosines: np.ndarray, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the k highest of each row, of equal ones those at the lowest places; columns are in order of the places.

    Shape of both: (Q, M) -> (Q, min(k, M)).
    """
    if cosines.shape[1] <= k:
        return cosines, places
    least = -np.partition(-cosines, k - 1, axis=1)[:, k - 1 : k]
    above = cosines > least
    # of those that equal the k-th highest only as many as there is room for
    equal = cosines == least
    equal &= np.cumsum(equal, axis=1) <= k - above.sum(axis=1, keepdims=True)
    chosen = above | equal
    return cosines[chosen].reshape(-1, k), places[chosen].reshape(-1, k)
