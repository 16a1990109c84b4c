"""Vectors of all tokens of many texts, in memory or, when they are many, in a file.

N texts, B of them in a batch, T tokens of the longest, D width of a vector.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class TokenStore:
    """One vector for every token, text by text.

    Args:
        lengths: Tokens of each text.
        width: D.
        dtype: Of the numbers.
        folder: Where a file holds them; None: in memory. The file has no name once it is open, so it is gone with
            this object or its process, however that ends.
    """

    def __init__(self, lengths: Sequence[int], width: int, dtype: torch.dtype, folder: Path | None = None) -> None:
        self._starts = [0, *accumulate(lengths)]
        size = self._starts[-1] * width
        values = torch.empty(size, dtype=dtype) if folder is None or not size else _mapped(folder, size, dtype)
        self._values = values.view(-1, width)

    def put(self, index: int, vectors: Tensor) -> None:
        """Keep the vectors of one text; what follows its last token is left out. Shape: (T, D)."""
        start, end = self._starts[index], self._starts[index + 1]
        self._values[start:end] = vectors[: end - start]

    def get(self, index: int) -> Tensor:
        """Return the vectors of one text. Shape: (T, D)."""
        return self._values[self._starts[index] : self._starts[index + 1]]

    def some(self, indices: Sequence[int]) -> TokenStore:
        """Return a store of a few of the texts, in this order."""
        lengths = [self._starts[index + 1] - self._starts[index] for index in indices]
        found = TokenStore(lengths, self._values.shape[1], self._values.dtype)
        for place, index in enumerate(indices):
            found.put(place, self.get(index))
        return found

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return those of a batch, padded with zeros. Shape: (B, T, D)."""
        return pad_sequence([self.get(index) for index in indices], batch_first=True)


def bytes_of(lengths: Sequence[int], width: int, dtype: torch.dtype) -> int:
    """Return how many bytes a `TokenStore` takes."""
    return sum(lengths) * width * dtype.itemsize


def _mapped(folder: Path, size: int, dtype: torch.dtype) -> Tensor:
    """Map a new file of so many numbers into memory. Shape: (size,)."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=folder, prefix="tokens-", suffix=".tmp")
    try:
        if hasattr(os, "posix_fallocate"):  # room is taken now: a disk that is full later would end the process
            os.posix_fallocate(handle, 0, size * dtype.itemsize)
        return torch.from_file(name, shared=True, size=size, dtype=dtype)
    finally:
        os.close(handle)
        with suppress(OSError):
            os.unlink(name)
