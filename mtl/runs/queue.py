"""Who runs next: starts a worker process per run, first come first served, and notices how each one ends."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections import deque

from filelock import FileLock, Timeout

from mtl.errors import LimitError
from mtl.runs.process import start_process, was_killed
from mtl.runs.store import Run, RunStore
from mtl.settings import settings

log = logging.getLogger(__name__)
TICK_SECONDS = 0.5
KILL_AFTER_SECONDS = 10.0


class RunQueue:
    """The page's runs; a background thread moves them on even when no page is open.

    Args:
        store: Where the runs are.
        slots: How many train at the same time.
    """

    def __init__(self, store: RunStore, slots: int = 1) -> None:
        self.store = store
        self._slots = slots
        self._waiting: deque[Run] = deque()
        self._workers: dict[str, tuple[Run, subprocess.Popen[bytes]]] = {}
        self._stopping: dict[str, float] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def recover(self) -> None:
        """Mark runs as interrupted whose worker is gone: an earlier server or command ended in their middle."""
        for run in self.store.list():
            if not run.status.is_final and _is_free(run):
                kept = "The best checkpoint is kept." if run.has_checkpoint else "There is no checkpoint yet."
                run.set_status("interrupted", "finished", f"The process that trained it ended. {kept}")

    def submit(self, run: Run) -> None:
        """Queue a run.

        Raises:
            LimitError: Too many runs are waiting; the run is deleted again.
        """
        with self._lock:
            if len(self._waiting) >= settings().max_queued_runs:
                run.set_status("failed", "finished", "the queue was full")
                self.store.delete(run)
                raise LimitError("Too many runs are waiting already; try again later.")
            self._waiting.append(run)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="run-queue")
                self._thread.start()
        self.tick()

    def active(self) -> list[Run]:
        """Return the runs that train or wait, in the order of their turns."""
        with self._lock:
            return [run for run, _ in self._workers.values()] + list(self._waiting)

    def position(self, run: Run) -> int:
        """Return how many runs are ahead of a waiting one, counting those that train; 0 if it is not waiting."""
        with self._lock:
            names = [waiting.name for waiting in self._waiting]
            return names.index(run.name) + len(self._workers) if run.name in names else 0

    def stop(self, run: Run) -> None:
        """Stop a run: a waiting one at once, a training one after its current batch."""
        with self._lock:
            if any(waiting.name == run.name for waiting in self._waiting):
                self._waiting = deque(waiting for waiting in self._waiting if waiting.name != run.name)
                run.set_status("stopped", "finished", "Stopped before it began.")
                return
        if not run.status.is_final:
            run.request_stop()

    def tick(self) -> None:
        """Notice ended workers and start waiting runs."""
        with self._lock:
            for name, (run, process) in list(self._workers.items()):
                if process.poll() is not None:
                    del self._workers[name]
                    self._end(run, process)
            while self._waiting and len(self._workers) < self._slots and not self._closed.is_set():
                run = self._waiting.popleft()
                try:
                    self._workers[run.name] = (run, _start(run))
                except OSError:  # its folder is gone, or the disk is full: the others still get their turn
                    log.exception("run %s cannot be started", run.name)

    def close(self) -> None:
        """Ask all workers to save and end, and wait for them."""
        self._closed.set()
        with self._lock:
            workers = [process for _, process in self._workers.values()]
        for process in workers:
            if process.stdin:
                process.stdin.close()
        for process in workers:
            try:
                process.wait(KILL_AFTER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self.tick()

    def _work(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            try:
                self.tick()
            except OSError:  # a status that cannot be written must not end the queue
                log.exception("the queue goes on")

    @staticmethod
    def _end(run: Run, process: subprocess.Popen[bytes]) -> None:
        if process.stdin:
            process.stdin.close()
        if not run.status.is_final:
            why = "was killed, perhaps because the memory was not enough" if was_killed(process) else "crashed"
            run.set_status("failed", "finished", f"The training process {why}; worker.log has the details.")


def _start(run: Run) -> subprocess.Popen[bytes]:
    with (run.path / "worker.log").open("ab") as log:
        return start_process("mtl.runs.worker", run, stdin=subprocess.PIPE, stdout=log, stderr=log)


def _is_free(run: Run) -> bool:
    """Say whether no process trains this run."""
    lease = FileLock(run.path / "lease")
    try:
        lease.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    lease.release()
    return True
