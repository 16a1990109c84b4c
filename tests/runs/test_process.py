from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import torch

from mtl.data.token_store import TokenStore
from mtl.runs.process import resident_bytes

SIZE = 64_000_000


@pytest.mark.skipif(not psutil.LINUX, reason="other systems do not tell pages of files apart")
def test_process_memory_leaves_pages_of_files_out(tmp_path: Path) -> None:
    before = resident_bytes(os.getpid())
    store = TokenStore([1] * 4, SIZE // 8, torch.bfloat16, tmp_path)
    for index in range(4):
        store.put(index, torch.ones(1, SIZE // 8, dtype=torch.bfloat16))
    assert resident_bytes(os.getpid()) - before < SIZE * 0.6
    held = torch.ones(SIZE // 4)
    assert resident_bytes(os.getpid()) - before > SIZE * 0.9
    assert float(held[-1]) == 1 and float(store.get(3)[0, -1]) == 1


def test_process_memory_of_one_that_is_gone_is_nothing() -> None:
    assert resident_bytes(2**22 + 1) == 0
