"""The memory of this machine: what a process holds, and what is free, in a container as far as that lets it be known.

It imports nothing heavy, so that a page can ask before anything else is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil


class Group(NamedTuple):
    """The files in which Linux keeps a container's account.

    Attributes:
        limit: The most that it may use; `max`: there is no limit.
        used: What it uses, files that are cached included.
        stat: Names and numbers of bytes, a line each.
        cached: Which of them counts files that are cached and would be given up.
    """

    limit: Path
    used: Path
    stat: Path
    cached: str


ROOT = Path("/sys/fs/cgroup")
# control groups of version 2 and of version 1; psutil speaks of the whole machine
GROUPS = (
    Group(ROOT / "memory.max", ROOT / "memory.current", ROOT / "memory.stat", "inactive_file"),
    Group(
        ROOT / "memory" / "memory.limit_in_bytes",
        ROOT / "memory" / "memory.usage_in_bytes",
        ROOT / "memory" / "memory.stat",
        "total_inactive_file",
    ),
)


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds; 0 if it has just ended.

    Pages of files do not count, where the system tells them apart: it takes them back when it needs them, and a
    training that keeps much lets a file hold it (`mtl.data.token_store`).
    """
    try:
        found = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(found.rss - getattr(found, "shared", 0))


def free_bytes() -> int:
    """Return how much memory is free beside what all processes hold."""
    return max(0, min([psutil.virtual_memory().available, *_free_of_containers()]))


def _free_of_containers() -> Iterator[int]:
    for group in GROUPS:
        with suppress(OSError, ValueError):  # no container, or no limit
            yield int(group.limit.read_text()) - int(group.used.read_text()) + _cached(group)


def _cached(group: Group) -> int:
    with suppress(OSError):  # what cannot be known to be given up is in use
        for line in group.stat.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == group.cached:
                return int(number)
    return 0
