from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtl.data.token_store import TokenStore, bytes_of

LENGTHS = [3, 0, 5, 1]


def filled(folder: Path | None, dtype: torch.dtype = torch.float32) -> tuple[TokenStore, list[torch.Tensor]]:
    store = TokenStore(LENGTHS, 2, dtype, folder)
    vectors = [torch.arange(length * 2, dtype=dtype).view(-1, 2) + 10 * n for n, length in enumerate(LENGTHS)]
    for index in (2, 0, 3, 1):
        padded = torch.cat([vectors[index], torch.full((4, 2), 99, dtype=dtype)])
        store.put(index, padded)
    return store, vectors


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_token_store_gives_back_what_was_put_in(tmp_path: Path, in_file: bool, dtype: torch.dtype) -> None:
    folder = tmp_path / "new" / "folder" if in_file else None
    store, vectors = filled(folder, dtype)
    for index, expected in enumerate(vectors):
        assert torch.equal(store.get(index), expected)
    assert bytes_of(LENGTHS, 2, dtype) == 9 * 2 * dtype.itemsize
    if folder:
        assert list(folder.iterdir()) == [], "nothing is left behind, however the process ends"


def test_token_store_pads_a_batch_with_zeros() -> None:
    store, vectors = filled(None)
    batch = store.take([3, 2, 3])
    assert batch.shape == (3, 5, 2)
    assert torch.equal(batch[1], vectors[2])
    assert torch.equal(batch[0, :1], vectors[3]) and not batch[0, 1:].any()


def test_token_store_of_some_texts_is_one_of_these() -> None:
    store, vectors = filled(None)
    some = store.some([2, 3])
    assert torch.equal(some.get(0), vectors[2]) and torch.equal(some.get(1), vectors[3])


def test_token_store_may_be_empty(tmp_path: Path) -> None:
    assert TokenStore([0], 4, torch.float32, tmp_path).get(0).shape == (0, 4)
