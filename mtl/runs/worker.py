"""One run in one process: `python -m mtl.runs.worker [RUN]`.

The page's server holds this process's standard input; its end means that the server died, and the run saves what
it has. Without RUN the process loads what a run needs, and reads RUN as the first line of its standard input. The
command line calls `work` in its own process instead. Either way the run folder's files are the protocol.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mtl.errors import CheckpointError, UserError
from mtl.garbage import uncollected
from mtl.runs import store
from mtl.runs.files import why_not_written
from mtl.runs.resuming import points
from mtl.runs.running import Running, StopRequest
from mtl.runs.standby import READY, give_back, rehearse
from mtl.runs.store import Run, State, Status, open_run

if TYPE_CHECKING:
    from mtl.training.events import Event

log = logging.getLogger(__name__)
STOP_POLL_SECONDS = 0.2
LEASE_SECONDS = 2.0  # someone who looks whether the run is free holds it for a moment
DISK_ADVICE = "What was saved before is kept; put the disk right and resume the run."
UNWRITTEN = 74  # as sysexits.h has it: a file could not be written, not even the run's status


def work(run: Run, stop: StopRequest, on_event: Callable[[Event], None] | None = None) -> Status:
    """Train a run to its end in this process: from its start, or on from where an earlier process left it.

    Args:
        run: Made by `RunStore.create`.
        stop: Looked at between two batches.
        on_event: Called with every event, for a progress bar.

    Returns:
        How it ended, which its folder says too, if that can be written.

    Raises:
        CheckpointError: Another process is training this run.
        UserError: Something the person can put right ended the run; its status says the same.
    """
    lease = FileLock(run.path / "lease")
    try:
        held = lease.acquire(timeout=LEASE_SECONDS)
    except Timeout:
        raise CheckpointError("This run is already being trained by another process.") from None
    with held:  # not the lock itself, which would be taken twice and let go once
        if stop.may_exit:
            threading.Thread(target=_watch_start, args=(run, stop), daemon=True).start()
        try:
            Running(run, stop, on_event).train()
        except Exception as error:
            state, reason = _ending(error)
            try:
                run.set_status(state, "finished", reason)
            except OSError:
                log.exception("the status could not be written: %s", reason)
            if isinstance(error, UserError) and state == "failed":
                raise
    return run.status


def _ending(error: Exception) -> tuple[State, str]:
    """Say how a run ends for an error, and why; what was saved before is still there."""
    from mtl.training.memory import is_out_of_memory

    if disk := why_not_written(error):
        log.error("the run folder failed", exc_info=error)
        return "interrupted", f"A file could not be written: {disk}. {DISK_ADVICE}"
    if isinstance(error, UserError):
        return "failed", str(error)
    log.error("unexpected", exc_info=error)
    if is_out_of_memory(error):
        return "failed", "The memory was not enough. Try a smaller batch size or encoder.max_length."
    kind = type(error).__name__
    return "failed", f"An unexpected error ended the run ({kind}); worker.log has the details."


def main(arguments: list[str]) -> int:
    """Run one run, started by the page's server."""
    parser = argparse.ArgumentParser(prog="python -m mtl.runs.worker", description=__doc__)
    parser.add_argument("run", nargs="?", help="path of the run folder; without it, the process stands by")
    path = parser.parse_args(arguments).run
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the server's terminal: the server decides
    if hasattr(os, "nice"):
        os.nice(5)  # the page stays responsive
    stop, given = StopRequest(may_exit=True), SimpleQueue[str]()
    threading.Thread(target=_watch_server, args=(stop, None if path else given), daemon=True).start()
    run = open_run(Path(path or _stand_by(given)))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: stop.ask("interrupted", "The system ended the run.", goes_on=True))
    try:
        status = work(run, stop)
    except UserError as error:
        log.error("%s", error)
        return 1
    if run.path in store.UNWRITTEN:
        return UNWRITTEN
    return 0 if status.state in {"done", "stopped"} else 1


def _stand_by(given: SimpleQueue[str]) -> str:
    """Load what a run needs and wait for one; from then on what is printed goes to its log."""
    server = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no word to the server
    try:
        with uncollected():
            rehearse()
    except UserError as error:
        log.warning("%s", error)
    give_back()
    os.write(server, READY)
    os.close(server)
    path = given.get()
    with (Path(path) / "worker.log").open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    return path


def _watch_server(stop: StopRequest, given: SimpleQueue[str] | None) -> None:
    """Wait for the end of standard input, which the server holds open.

    Args:
        stop: Asked for at the end.
        given: Where the path of the run is put that comes first; None: there is a run already.
    """
    # not through sys.stdin: a thread that waits inside its buffer makes the interpreter abort at exit
    said = b""
    while read := os.read(sys.stdin.fileno(), 4096):
        said += read
        if given is not None and b"\n" in said:
            given.put(os.fsdecode(said.partition(b"\n")[0]))
            given = None
    if given is not None:
        os._exit(0)  # the server went away before there was a run
    stop.ask("interrupted", "The server went away.", goes_on=True)


def _kept(run: Run) -> str:
    return "It is where it was." if points(run) else "No step was taken yet, so there is nothing to keep."


def _watch_start(run: Run, stop: StopRequest) -> None:
    """End at once when a stop comes while the libraries load, since there is no step yet to stop after."""
    while (status := run.status).phase in {"waiting", "starting"} and not status.is_final:
        if run.stop_requested:
            stop.ask("stopped", "Stopped on request.")
        if stop.state:
            run.set_status(stop.state, "finished", f"{stop.reason} {_kept(run)}", goes_on=stop.goes_on)
            os._exit(0)
        time.sleep(STOP_POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
