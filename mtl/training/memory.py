"""How much memory a computation takes, and how much there is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

import psutil
import torch

from mtl.machine import free_bytes

SAMPLE_SECONDS = 0.005
# What torch's allocators say: on Linux and macOS, on Windows, on MPS.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass(frozen=True)
class Memory:
    """Of the device: CUDA's own memory, else the resident memory of this process.

    Attributes:
        peak_bytes: The most that was in use.
        added_bytes: By how much that is more than before.
        available_bytes: The most that could be in use, beside what other processes hold.
    """

    peak_bytes: int
    added_bytes: int
    available_bytes: int


class MemoryWatch:
    """Notes the most memory in use while it is entered.

    CUDA's allocator keeps a peak that can be reset. The operating systems' peaks are those of a whole life of a
    process, so resident memory is looked at every few milliseconds instead.
    """

    def __enter__(self) -> MemoryWatch:
        self._before = self._peak = _resident_bytes()
        self._device_before = torch.cuda.memory_allocated()  # 0 where there is no CUDA or it is not in use yet
        if self._device_before:
            torch.cuda.reset_peak_memory_stats()
        self._available = self._before + free_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="memory-watch")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, _resident_bytes())

    def found(self, device: str) -> Memory:
        """Return what was noted of the device that was computed on: `cuda`, `mps` or `cpu`."""
        if device != "cuda":
            return Memory(self._peak, self._peak - self._before, self._available)
        peak = torch.cuda.max_memory_allocated()
        free, _ = torch.cuda.mem_get_info()
        return Memory(peak, peak - self._device_before, free + torch.cuda.memory_reserved())


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the memory was not enough; only on CUDA torch has a class of its own for it."""
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def _resident_bytes() -> int:
    return psutil.Process().memory_info().rss
