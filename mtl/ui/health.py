"""Whether the page can do its work: the folder it writes to, the queue, and `/healthz`, which says both."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from mtl.runs.files import atomic_file
from mtl.settings import settings
from mtl.ui.context import AppContext
from mtl.ui.html import refusal

VERSION = "0.1.0"  # a test holds it equal to pyproject.toml, which need not be where the page runs
AGAIN_SECONDS = 10.0  # a probe writes to the disk: not for every request


def probe(folder: Path) -> str:
    """Try whether runs can be saved: write a file, bring it to the disk, give it its name.

    Returns:
        Empty; or one sentence that says why not, without a path, since a page shows it.
    """
    path = folder / f".probe-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(b"probe")
        if path.read_bytes() != b"probe":
            return "The folder for runs does not keep what is written to it; set MTL_RUNS_DIR to a folder that does."
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        return f"The folder for runs cannot be written ({why}); set MTL_RUNS_DIR to a folder that can."
    finally:
        _remove(path)
    return ""


def _remove(path: Path) -> None:
    with suppress(OSError):  # the probe has said it already
        path.unlink(missing_ok=True)


def banner(problem: str) -> str:
    """Say on the page that it cannot train; empty if it can."""
    if not problem:
        return ""
    return refusal(f"Training is switched off for now. {problem} Predictions, embeddings and the guide work.")


class Health:
    """What `/healthz` answers.

    Args:
        context: The server's.
        clock: Seconds that never go backwards; for tests.
    """

    def __init__(self, context: AppContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._clock, self._began = context, clock, clock()
        self._lock = threading.Lock()
        self._problem, self._probed = "", -AGAIN_SECONDS

    def problem(self) -> str:
        """Return why runs cannot be saved, empty if they can; looked at every ten seconds at most."""
        with self._lock:
            now = self._clock()
            if now - self._probed >= AGAIN_SECONDS:
                self._problem, self._probed = probe(self._context.store.root), now
            return self._problem

    def report(self) -> dict[str, Any]:
        """Return how the server is."""
        problem, limits = self.problem(), settings()
        active = len(self._context.queue.active())
        training = min(active, limits.training_slots)
        found: dict[str, Any] = {
            "status": "degraded" if problem else "ok",
            "version": VERSION,
            "profile": limits.profile,
            "writable": not problem,
            "queue": {"training": training, "waiting": active - training},
            "standby": self._context.queue.standby,
            "uptime": round(self._clock() - self._began, 1),
        }
        return found | ({"detail": problem} if problem else {})

    def answer(self, request: Request) -> JSONResponse:
        """Answer `/healthz`: 200, or 503 and a sentence when runs cannot be saved."""
        report = self.report()
        return JSONResponse(report, 200 if report["writable"] else 503, {"Cache-Control": "no-store"})
