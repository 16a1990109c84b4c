from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from mtl import machine
from mtl.data.token_store import TokenStore
from mtl.machine import Group, free_bytes, resident_bytes

SIZE, ROWS = 64_000_000, 64


@pytest.mark.skipif(not psutil.LINUX, reason="other systems do not tell pages of files apart")
def test_machine_memory_of_a_process_leaves_pages_of_files_out(tmp_path: Path) -> None:
    before = resident_bytes(os.getpid())
    width = SIZE // 2 // ROWS
    store = TokenStore([1] * ROWS, width, torch.bfloat16, tmp_path)
    for index in range(ROWS):  # in small pieces, since what is freed may be kept for the next
        store.put(index, torch.ones(1, width, dtype=torch.bfloat16))
    assert resident_bytes(os.getpid()) - before < SIZE * 0.6
    held = torch.ones(SIZE // 4)
    assert resident_bytes(os.getpid()) - before > SIZE * 0.9
    assert float(held[-1]) == 1 and float(store.get(3)[0, -1]) == 1


def test_machine_memory_of_a_process_that_is_gone_is_nothing() -> None:
    assert resident_bytes(2**22 + 1) == 0


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    """A container that uses 4,000 bytes, 1,000 of them for cached files; how much it may use is not written."""
    made = Group(*(tmp_path / name for name in ("limit", "used", "stat")), "inactive_file")
    made.used.write_text("4000\n")
    made.stat.write_text("anon 2500\nactive_file 500\ninactive_file 1000\nslab 77\n")
    absent = Group(*(tmp_path / "absent" for _ in range(3)), "total_inactive_file")
    monkeypatch.setattr(machine, "GROUPS", (made, absent))
    return made


@pytest.mark.parametrize(("limit", "free"), [("5000", 2000), ("4096", 1096), ("3000", 0), ("100", 0)])
def test_machine_has_free_what_a_container_leaves(group: Group, limit: str, free: int) -> None:
    group.limit.write_text(f"{limit}\n")
    assert free_bytes() == free


@pytest.mark.parametrize("limit", ["max", "", "9223372036854771712", None])
def test_machine_without_a_limit_has_free_what_psutil_says(
    group: Group, limit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=123))
    if limit is not None:
        group.limit.write_text(limit)
    assert free_bytes() == 123


def test_machine_does_not_count_cached_files_that_are_not_said(group: Group) -> None:
    group.limit.write_text("5000")
    group.stat.write_text("anon 2500\n")
    assert free_bytes() == 1000
    group.stat.unlink()
    assert free_bytes() == 1000
