from __future__ import annotations

import time

import pytest
import torch

from mtl.training import memory
from mtl.training.memory import MemoryWatch, is_out_of_memory

SIZE = 200_000_000


def test_memory_watch_notes_a_peak_that_is_over_before_it_ends() -> None:
    with MemoryWatch() as watch:
        block = torch.ones(SIZE, dtype=torch.uint8)
        time.sleep(0.2)  # many times as long as between two looks
        del block
    found = watch.found("cpu")
    assert found.added_bytes > 0.9 * SIZE
    assert found.peak_bytes > found.added_bytes
    assert found.available_bytes > 0


def test_memory_watch_ends_its_thread_when_the_computation_fails() -> None:
    watch = MemoryWatch()
    with pytest.raises(ZeroDivisionError), watch:
        raise ZeroDivisionError
    assert not watch._thread.is_alive()


def test_memory_available_is_what_is_held_and_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    with MemoryWatch() as watch:
        pass
    assert watch.found("cpu").available_bytes == watch._before + 1000


def test_memory_on_cuda_is_that_of_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[None] = []
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 700)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 800)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append(None))
    with MemoryWatch() as watch:
        assert len(resets) == 1
    found = watch.found("cuda")
    assert (found.peak_bytes, found.added_bytes, found.available_bytes) == (700, 600, 1800)


def test_memory_errors_of_torch_are_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes do not fit"), False),
        (OSError("out of memory"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_errors_are_told_from_others(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
