"""The tokens of many texts in flat arrays: lists of Python's own numbers would take ten times as much memory.

N texts, M tokens of all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import overload

import numpy as np

Offsets = tuple[tuple[int, int], ...]
Chunk = tuple[dict[str, list[list[int]]], Sequence[Offsets]]


class TokenLists:
    """Token lists, unpadded, in the order of the texts.

    Args:
        chunks: What tokenising some texts after the others gave: input name -> one list per text; and for each text
            the characters its tokens stand for, or nothing where that was not asked.

    Attributes:
        lengths: Tokens of each text.
        offsets: For each text and token the characters it stands for, made when they are looked at.
    """

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        parts: dict[str, list[np.ndarray]] = defaultdict(list)
        places: list[np.ndarray] = []
        self.lengths: list[int] = []
        for tokens, offsets in chunks:
            for name, rows in tokens.items():
                parts[name].append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))
            lengths = [len(row) for row in next(iter(tokens.values()), [])]
            self.lengths += lengths
            flat = chain.from_iterable(chain.from_iterable(offsets))
            places.append(np.fromiter(flat, dtype=np.int32).reshape(-1, 2))
        self._starts = [0, *accumulate(self.lengths)]
        self._values = {name: _joined(arrays) for name, arrays in parts.items()}
        pairs = np.concatenate(places or [np.empty((0, 2), dtype=np.int32)])
        # without an answer if nothing was asked: every batch would put such answers together
        self.offsets: Sequence[Offsets] = _OffsetRows(self._starts, pairs) if len(pairs) else ((),) * len(self.lengths)

    def take(self, rows: Sequence[int]) -> dict[str, list[list[int]]]:
        """Return the lists of some texts, as a tokenizer pads them: input name -> one list per text."""
        return {
            name: [values[self._starts[row] : self._starts[row + 1]].tolist() for row in rows]
            for name, values in self._values.items()
        }


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Put arrays behind each other; of one that is the same number everywhere, such as a mask, that is kept alone."""
    filled = [array for array in arrays if array.size]
    if len({number for array in filled for number in (array.min(), array.max())}) == 1:
        return np.broadcast_to(filled[0][:1].copy(), sum(map(len, filled)))
    return np.concatenate(arrays)


class _OffsetRows(Sequence[Offsets]):
    """Reads like a tuple of tuples. The pairs have the shape (M, 2)."""

    def __init__(self, starts: list[int], pairs: np.ndarray) -> None:
        self._starts, self._pairs = starts, pairs

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, row: int) -> Offsets: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Offsets, ...]: ...
    def __getitem__(self, row: int | slice) -> Offsets | tuple[Offsets, ...]:
        if isinstance(row, slice):
            return tuple(self[one] for one in range(*row.indices(len(self))))
        place = range(len(self))[row]
        return tuple(map(tuple, self._pairs[self._starts[place] : self._starts[place + 1]].tolist()))

    def __iter__(self) -> Iterator[Offsets]:
        return (self[row] for row in range(len(self)))
