"""Who runs next: starts a worker process per run, first come first served, and notices how each one ends."""

from __future__ import annotations

import logging
import statistics
import subprocess
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

from filelock import FileLock, Timeout

from mtl.errors import CheckpointError, LimitError, UserError
from mtl.machine import resident_bytes
from mtl.runs.files import mend
from mtl.runs.owners import owns
from mtl.runs.process import start_process, was_killed
from mtl.runs.resuming import drop_points, points
from mtl.runs.room import drop_expired, make_room
from mtl.runs.standby import Standby
from mtl.runs.standby import State as StandbyState
from mtl.runs.store import STARTER, Run, RunStore, State
from mtl.runs.worker import DISK_ADVICE, UNWRITTEN
from mtl.settings import settings

log = logging.getLogger(__name__)
TICK_SECONDS = 0.5
KILL_AFTER_SECONDS = 10.0
TIDY_SECONDS = 300.0
MOST_RESTARTS = 2
LAST_RUNS = 5
MOST_ADDRESSES = 10_000
SMALLER = "Try a smaller batch size or encoder.max_length."


@dataclass
class _Worker:
    """A process that trains a run.

    Attributes:
        stood_by: Whether it waited for a run before.
        asked: When it was first seen that the run is to stop.
        ended_for: Why the queue ended it.
    """

    run: Run
    process: subprocess.Popen[bytes]
    stood_by: bool = False
    asked: float | None = None
    ended_for: tuple[State, str] | None = None


class RunQueue:
    """The page's runs; a background thread moves them on even when no page is open.

    Args:
        store: Where the runs are.
        slots: How many train at the same time; None: as the settings say.
    """

    def __init__(self, store: RunStore, slots: int | None = None) -> None:
        self.store = store
        self._slots = slots or settings().training_slots
        self._waiting: deque[Run] = deque()
        self._workers: dict[str, _Worker] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._tidied = time.monotonic()
        self._addresses: OrderedDict[str, str] = OrderedDict()  # run -> where it was begun; never on the disk
        self._standby, self._stands_by = Standby(), False
        self._held: list[Run] = []  # by a process that an earlier server or a command has begun

    def recover(self) -> None:
        """Take up what an earlier server left.

        Runs that it had in its queue wait again, in their order. One that was cut off goes on by itself, at most twice
        in a row: whatever it was may have been the run's own fault. The others are marked as interrupted.
        """
        self._held = [run for run in reversed(self.store.list()) if run.name != STARTER]
        self._take_up()
        if self._held:
            self._begin()

    def stand_by(self) -> None:
        """Keep a process ready for the next run from now on, as far as the settings and the memory allow it."""
        self._stands_by = True
        self._begin()

    @property
    def standby(self) -> StandbyState:
        """Whether a process is ready for the next run."""
        with self._lock:
            return self._standby.state

    def _take_up(self) -> None:
        """Look at runs that an earlier server left, as far as no process holds them any more.

        Its processes notice that it is gone, save, and end: a moment later than this server begins.
        """
        free = [run for run in self._held if _is_free(run)]
        self._held = [run for run in self._held if run not in free]
        for run in free:
            try:
                if self._goes_on(run):
                    log.info("run %s goes on", run.name)
                    self._enqueue(run)
            except (OSError, UserError):  # one run that cannot be read must not keep the page from starting
                log.exception("run %s is left as it is", run.name)

    def _goes_on(self, run: Run) -> bool:
        status = run.status
        if status.state in {"done", "diverged"}:
            drop_points(run)  # the process died between its last word and this
        if status.is_final and not status.goes_on:
            return False
        if status.state == "queued" and status.page:
            return True
        if status.page and status.restarts < MOST_RESTARTS:
            run.set_status("queued", "waiting", restarts=status.restarts + 1)
            return True
        mend(run.path)
        kept = "The best checkpoint is kept." if run.has_checkpoint else "There is no checkpoint yet."
        kept += " It can go on where it was." if points(run) else " It can start again."
        tried = f" It went on by itself {status.restarts} times and was cut off again." if status.restarts else ""
        run.set_status("interrupted", "finished", f"The process that trained it ended.{tried} {kept}")
        return False

    def check_room(self, count: int = 1, who: str = "", address: str = "") -> None:
        """Refuse what the queue or the disk would not take, before it is made.

        Args:
            count: Runs that are to come; the visitor's limit is looked at before them.
            who: The visitor, as `mtl.runs.owners` reads them.
            address: Where they are, since anyone can be many visitors; empty if that is not known.

        Raises:
            LimitError: Too many runs wait, this visitor has too many of them, or the disk is full of running ones.
        """
        limits, active = settings(), self.active()
        if sum(run.status.state == "queued" for run in active) + count > limits.max_queued_runs:
            raise LimitError("Too many runs are waiting already; try again later.")
        most = limits.max_runs_per_visitor
        if most is not None and sum(owns(run.path, who) for run in active) >= most:
            raise LimitError(f"You have {most} runs waiting or training already; wait for one to end, or stop it.")
        most = limits.max_runs_per_address
        if most is not None and address and sum(self.address(run) == address for run in active) >= most:
            raise LimitError(f"From your address {most} runs wait or train already; wait for one to end, or stop it.")
        make_room(self.store)

    def address(self, run: Run) -> str:
        """Return where a run was begun; empty if this server does not know."""
        return self._addresses.get(run.name, "")

    def submit(self, run: Run, address: str = "") -> None:
        """Queue a new run.

        Args:
            run: Just created.
            address: Where the visitor is who begins it.

        Raises:
            LimitError: Too many runs are waiting; the run is deleted again.
        """
        with self._lock:
            full = len(self._waiting) >= settings().max_queued_runs
        if full:
            self.store.discard(run)
            raise LimitError("Too many runs are waiting already; try again later.")
        run.set_status("queued", "waiting", page=True)
        with self._lock:
            self._addresses[run.name] = address
            while len(self._addresses) > MOST_ADDRESSES:
                self._addresses.popitem(last=False)
        self._enqueue(run)

    def resume(self, run: Run) -> None:
        """Queue a run that ended early, to go on where it was.

        Raises:
            CheckpointError: It is going on, or came to its end.
            LimitError: Too many runs are waiting.
        """
        check_resumable(run)
        with self._lock:
            if len(self._waiting) >= settings().max_queued_runs:
                raise LimitError("Too many runs are waiting already; try again later.")
        run.forget_stop()
        run.set_status("queued", "waiting", page=True, restarts=0)
        self._enqueue(run)

    def _enqueue(self, run: Run) -> None:
        with self._lock:
            if run.name not in {known.name for known in self._active()}:
                self._waiting.append(run)
        self._begin()
        self.tick()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="run-queue")
                self._thread.start()

    def active(self) -> list[Run]:
        """Return the runs that train or wait, in the order of their turns."""
        with self._lock:
            return self._active()

    def _active(self) -> list[Run]:
        return [worker.run for worker in self._workers.values()] + list(self._waiting)

    def position(self, run: Run) -> int:
        """Return how many runs are ahead of a waiting one, counting those that train; 0 if it is not waiting."""
        with self._lock:
            names = [waiting.name for waiting in self._waiting]
            return names.index(run.name) + len(self._workers) if run.name in names else 0

    def typical_seconds(self) -> float | None:
        """Return how long the last finished runs took; None if there are none."""
        found: list[float] = []
        for run in self.store.list():
            if len(found) == LAST_RUNS:
                break
            if run.name != STARTER and run.status.state == "done":
                timings, _ = run.timings()
                found += [timings[-1]["seconds"]] if timings else []
        return statistics.median(found) if found else None

    def stop(self, run: Run) -> None:
        """Stop a run: a waiting one at once, a training one after its current batch."""
        with self._lock:
            if any(waiting.name == run.name for waiting in self._waiting):
                self._waiting = deque(waiting for waiting in self._waiting if waiting.name != run.name)
                begun = bool(points(run))
                run.set_status("stopped", "finished", f"Stopped {'while it waited' if begun else 'before it began'}.")
                return
        if not run.status.is_final:
            run.request_stop()

    def tick(self) -> None:
        """Notice ended workers, end those that must end, and start waiting runs."""
        with self._lock:
            for name, worker in list(self._workers.items()):
                if worker.process.poll() is None:
                    _watch(worker)
                else:
                    del self._workers[name]
                    if not self._never_began(worker):
                        _end(worker)
            while self._waiting and len(self._workers) < self._slots and not self._closed.is_set():
                run = self._waiting.popleft()
                try:
                    self._workers[run.name] = self._start(run)
                except OSError as error:  # its folder is gone, or the disk is full: the others still get their turn
                    log.exception("run %s cannot be started", run.name)
                    _say(run, "interrupted", f"It could not be started: {str(error.strerror).lower()}. {DISK_ADVICE}")
            if self._stands_by and not self._closed.is_set():
                self._standby.keep(may_start=not self._workers)

    def _start(self, run: Run) -> _Worker:
        with (run.path / "worker.log").open("ab") as log:
            if waiting := self._standby.take(run):
                return _Worker(run, waiting, stood_by=True)
            return _Worker(run, start_process("mtl.runs.worker", run, stdin=subprocess.PIPE, stdout=log, stderr=log))

    def _never_began(self, worker: _Worker) -> bool:
        """Let a run begin in another process if the waiting one died before it took the run; say whether it did."""
        if not worker.stood_by or worker.ended_for or self._closed.is_set() or worker.run.status.state != "queued":
            return False
        _let_go(worker)
        self._waiting.appendleft(worker.run)
        return True

    def close(self) -> None:
        """Ask all workers to save and end, and wait for them; a process without a run ends at once."""
        self._closed.set()
        with self._lock:
            self._standby.end()
            workers = [worker.process for worker in self._workers.values()]
        for process in workers:
            if process.stdin:
                process.stdin.close()
        end = time.monotonic() + KILL_AFTER_SECONDS
        for process in workers:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        self.tick()

    def _work(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            try:
                self._take_up()
                self.tick()
                if time.monotonic() - self._tidied > TIDY_SECONDS:
                    self._tidied = time.monotonic()
                    drop_expired(self.store)
            except Exception:  # a status that cannot be written must not end the queue
                log.exception("the queue goes on")


def check_resumable(run: Run) -> None:
    """Refuse to go on with a run that is going on or came to its end.

    Raises:
        CheckpointError: Likewise.
    """
    if not run.status.is_final:
        raise CheckpointError("The run is still going on.")
    if not run.can_go_on:
        raise CheckpointError(f"The run is over ({run.status.state}); start a new one to train again.")


def _watch(worker: _Worker) -> None:
    """End a process that takes more memory than it may, or does not stop when it was asked to."""
    limit = settings().max_worker_bytes
    if limit is not None and (used := resident_bytes(worker.process.pid)) > limit:
        words = f"It took {used / 1e9:.1f} GB of memory; {limit / 1e9:.1f} GB are allowed here. {SMALLER}"
        worker.ended_for = "failed", words
        worker.process.kill()
    if worker.asked is None and worker.run.stop_requested:
        worker.asked = time.monotonic()
    if worker.asked is not None and time.monotonic() - worker.asked > KILL_AFTER_SECONDS:
        worker.ended_for = "stopped", "Stopped on request; the process did not answer and was ended."
        worker.process.kill()


def _let_go(worker: _Worker) -> None:
    if worker.process.stdin:
        worker.process.stdin.close()


def _end(worker: _Worker) -> None:
    """Say how a run ended whose process did not say it itself."""
    _let_go(worker)
    if worker.run.status.is_final:
        return
    if worker.ended_for:
        state, reason = worker.ended_for
    elif worker.process.returncode == UNWRITTEN:
        state, reason = "interrupted", f"Its folder could not be written. {DISK_ADVICE}"
    elif was_killed(worker.process):
        state, reason = (
            "failed",
            "The training process was killed, perhaps because the memory was not enough; worker.log has the details.",
        )
    else:
        state, reason = "failed", "The training process crashed; worker.log has the details."
    kept = " What was saved before is kept, and the run can be resumed." if points(worker.run) else ""
    _say(worker.run, state, reason + kept)


def _say(run: Run, state: State, reason: str) -> None:
    try:
        run.set_status(state, "finished", reason)
    except OSError:
        log.exception("the status of run %s could not be written: %s", run.name, reason)


def _is_free(run: Run) -> bool:
    """Say whether no process trains this run."""
    lease = FileLock(run.path / "lease")
    try:
        lease.acquire(timeout=0)
    except Timeout:
        return False
    except OSError:  # a folder that cannot be written has no worker that could write into it
        return True
    lease.release()
    return True
