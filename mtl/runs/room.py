"""Room on the disk: how much the runs take, and which finished ones make place for new ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from pathlib import Path

from mtl.errors import CheckpointError, LimitError
from mtl.runs.store import STARTER, Run, RunStore
from mtl.settings import settings

log = logging.getLogger(__name__)


def size_of(folder: Path) -> int:
    """Count the bytes of a folder's files; those that vanish meanwhile count nothing, linked ones once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except OSError:
            continue
        seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def make_room(store: RunStore, wanted: int = 0) -> None:
    """Delete the oldest finished runs until all runs together keep to the quota.

    Runs that wait or train, and those that they learn on from, are never deleted, nor is the shipped one.

    Args:
        store: Where the runs are.
        wanted: Bytes of what is to come.

    Raises:
        LimitError: It is not enough.
    """
    quota = settings().max_disk_bytes
    if quota is None:
        return
    runs = [run for run in reversed(store.list()) if run.name != STARTER]
    sizes = {run.name: size_of(run.path) for run in runs}
    needed = _needed(runs)
    for run in runs:
        if sum(sizes.values()) + wanted <= quota:
            return
        if run.status.is_final and run.name not in needed and _deleted(store, run, "the quota of the disk"):
            del sizes[run.name]
    if sum(sizes.values()) + wanted > quota:
        raise LimitError(
            "The room for runs on this page is used up by runs that wait or train; try again when they are done."
        )


def drop_expired(store: RunStore) -> None:
    """Delete finished runs that are older than runs are kept here."""
    lifetime = settings().run_ttl_seconds
    if lifetime is None:
        return
    runs = [run for run in store.list() if run.name != STARTER]
    needed = _needed(runs)
    for run in runs:
        if run.status.is_final and run.name not in needed and _age(run) > lifetime:
            _deleted(store, run, "its age")


def _needed(runs: Collection[Run]) -> frozenset[str]:
    """Name the runs that others which are not over learn on from."""
    going = [run for run in runs if not run.status.is_final]
    return frozenset(run.config.training.start_from or "" for run in going)


def _age(run: Run) -> float:
    """Return the seconds since the run ended; a clock that was set back makes it young, not old."""
    try:
        return time.time() - (run.path / "status.json").stat().st_mtime
    except OSError:
        return 0.0


def _deleted(store: RunStore, run: Run, why: str) -> bool:
    try:
        store.delete(run)
    except CheckpointError as error:  # it is another one's turn, or someone was quicker
        log.warning("run %s stays: %s", run.name, error)
        return False
    log.info("run %s is deleted: %s", run.name, why)
    return True
