"""A process that has loaded its libraries and waits for a run, so that the first step follows Start at once.

The queue keeps one `Standby`. The process is a worker without a run: it rehearses, says that it is ready, and reads
the run's path as the first line of its standard input, which the server holds open as for every worker.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from typing import IO, Literal

from mtl.machine import free_bytes, resident_bytes
from mtl.runs.process import start_process
from mtl.runs.store import SAMPLE, Run
from mtl.settings import settings

log = logging.getLogger(__name__)
State = Literal["off", "starting", "ready"]
READY = b"ready\n"
# It holds about 0.6 GB while it waits; the rest is for the training that it becomes, and for the page.
ENOUGH_BYTES, SHORT_BYTES = 3_000_000_000, 1_000_000_000
RETRY_SECONDS = 300.0
TAIL_BYTES = 2_000


class Standby:
    """At most one waiting process; its owner calls one method at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._ready = threading.Event()
        self._not_before = -RETRY_SECONDS

    @property
    def state(self) -> State:
        """Whether there is one, and whether it has loaded everything."""
        if self._process is None:
            return "off"
        return "ready" if self._ready.is_set() else "starting"

    def keep(self, *, may_start: bool) -> None:
        """Look after the process: notice its end, end it where memory is short, start it where there is none.

        Args:
            may_start: Whether nothing trains: loading takes the seconds of a core that it saves later, and a
                training would miss them and the memory.
        """
        if self._process is not None and self._process.poll() is not None:
            self._say_its_end(self._process)
            self.end()
            self._not_before = time.monotonic() + RETRY_SECONDS
        if self._process is not None and not _is_wanted(SHORT_BYTES):
            log.info("the standby process is ended: memory is short")
            self.end()
        if self._process is None and may_start and time.monotonic() >= self._not_before and _is_wanted(ENOUGH_BYTES):
            self._start()

    def take(self, run: Run) -> subprocess.Popen[bytes] | None:
        """Give a run to the process.

        Returns:
            It, from now on this run's worker; None if there is none that is ready. One that still loads is ended:
            the run begins in a process of its own, which answers a stop at once, and both would share the cores.
        """
        path = os.fsencode(run.path.resolve())
        if self.state != "ready" or b"\n" in path:
            self.end()
            return None
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(path + b"\n")
            process.stdin.flush()
        except OSError:  # it has died this moment
            self.end()
            return None
        self._forget()
        return process

    def end(self) -> None:
        """End the process, which has nothing to save; nothing happens if there is none."""
        if self._process is not None:
            process = self._process
            self._forget()
            process.kill()
            process.wait()
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the process is forgotten
        try:
            self._process = start_process(
                "mtl.runs.worker", None, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError:
            log.exception("there is no standby process")
            self._errors.close()
            self._not_before = time.monotonic() + RETRY_SECONDS
            return
        self._ready = threading.Event()
        threading.Thread(target=_listen, args=(self._process, self._ready), daemon=True).start()

    def _say_its_end(self, process: subprocess.Popen[bytes]) -> None:
        assert self._errors is not None
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - TAIL_BYTES))
        said = self._errors.read().decode(errors="replace").strip()
        log.warning("the standby process ended by itself (exit code %s) %s", process.returncode, said)

    def _forget(self) -> None:
        assert self._errors is not None
        self._errors.close()
        self._process, self._errors = None, None


def _listen(process: subprocess.Popen[bytes], ready: threading.Event) -> None:
    """Wait until a process says that it is ready, or ends."""
    assert process.stdout is not None
    with process.stdout as said:
        if said.readline() == READY:
            sizes = [resident_bytes(pid) / 1e6 for pid in (process.pid, os.getpid())]
            log.info("a standby process is ready; it holds %.0f MB of memory, the page %.0f MB", *sizes)
            ready.set()


def _is_wanted(least: int) -> bool:
    """Say whether there is to be a standby, which by default takes a least number of free bytes."""
    wanted = settings().standby
    return wanted == "on" or (wanted == "auto" and free_bytes() >= least)


def rehearse() -> None:
    """Take the first step of a run with all defaults on the sample, in memory.

    It imports what a run imports, also what libraries load only when it is used; it reads the default encoder's file,
    and settles how this machine computes, which is measured once and kept in the cache folder.

    Raises:
        UserError: The default encoder is not there. Runs with another one can still begin.
    """
    import mtl.runs.checkpoint  # noqa: F401
    from mtl.config import RunConfig
    from mtl.data.preparing import cut, prepare
    from mtl.data.reading import read_table
    from mtl.runs.starting import start_model
    from mtl.training.events import StepEnd
    from mtl.training.loop import train

    table = read_table(SAMPLE.read_bytes())
    prepared = prepare(table, RunConfig())
    splits, model = cut(table, prepared.config, prepared.split), start_model(prepared.config, None).model
    for event in train(model, splits, prepared.config, cache_dir=settings().cache_dir):
        if isinstance(event, StepEnd):
            break


def give_back() -> None:
    """Give the memory of a rehearsal back to the system, as far as it can be."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(AttributeError, OSError, TypeError):  # only glibc keeps what was freed, and has this function
        ctypes.CDLL(None).malloc_trim(0)
