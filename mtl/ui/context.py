"""What all handlers share: the runs, the queue, loaded checkpoints; and how an error reaches the person."""

from __future__ import annotations

import functools
import hashlib
import html
import logging
import math
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import gradio as gr
from gradio.utils import get_upload_folder

from mtl.errors import CheckpointError, DataError, LimitError, UserError
from mtl.garbage import uncollected
from mtl.runs import owners
from mtl.runs.progress import progress
from mtl.runs.queue import RunQueue
from mtl.runs.store import STARTER, Run, RunStore
from mtl.settings import settings
from mtl.ui.budgets import client_of

if TYPE_CHECKING:
    from mtl.inference.predictor import Predictor

log = logging.getLogger(__name__)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample.csv"
_HALF = re.compile("[\ud800-\udfff]")  # JSON can escape what no text file could hold
KEEP_PREDICTORS, KEEP_HISTORIES = 3, 32
KEEP_DOWNLOADS_SECONDS = 600
SAME_WISH_SECONDS = 10.0
WARM_AFTER_SECONDS = 1.0


def guarded(handler: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn what a person can put right into a toast, and everything else into a logged report number."""

    @functools.wraps(handler)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with _explained():
            return handler(*args, **kwargs)

    return call


def guarded_stream(handler: Callable[Parameters, Iterator[Result]]) -> Callable[Parameters, Iterator[Result]]:
    """Do for a handler that yields what `guarded` does for one that returns."""

    @functools.wraps(handler)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Iterator[Result]:
        with _explained():
            yield from handler(*args, **kwargs)

    return call


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except UserError as error:
        raise gr.Error(html.escape(str(error), quote=False), title="That did not work", print_exception=False) from None
    except Exception:
        number = secrets.token_hex(4)
        log.exception("report %s", number)
        raise gr.Error(
            f"Something went wrong on our side (report {number}). Nothing of yours was changed.",
            title="Unexpected error",
            print_exception=False,
        ) from None


class AppContext:
    """One per server.

    Args:
        store: Where the runs are.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.queue = RunQueue(store)
        self._predictors: OrderedDict[tuple[str, int], Predictor] = OrderedDict()
        self._histories: OrderedDict[str, _History] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._recent: OrderedDict[str, tuple[float, Run]] = OrderedDict()
        self._starting = threading.Lock()
        store.on_discard.append(self.forget)
        store.clear_deleted()

    def warm(self) -> None:
        """Import torch and load the shipped checkpoint in the background, so that the first answer is quick.

        A moment later, since importing keeps the interpreter busy, and somebody may be waiting for the page.
        """
        timer = threading.Timer(WARM_AFTER_SECONDS, self._warm)
        timer.daemon = True
        timer.start()

    def _warm(self) -> None:
        try:
            self._loaded(self.store.open(STARTER))
        except UserError as error:
            log.warning("the shipped checkpoint is not ready: %s", error)
        except Exception:
            if threading.main_thread().is_alive():
                raise
            return  # the program is ending: nothing can be imported any more
        self.queue.stand_by()  # not before: both would read the same files and share the cores

    @staticmethod
    def address(request: gr.Request | None) -> str:
        """Return where a visitor is, as the door sees it; empty if nothing is known of the request."""
        scope = getattr(getattr(request, "request", None), "scope", None)
        if not isinstance(scope, Mapping):
            return ""
        return client_of(scope, proxies=settings().trusted_proxies, skip_private=bool(os.environ.get("SPACE_ID")))

    def runs(self, token: str = "") -> list[Run]:
        """Return the runs a visitor may see, the newest first.

        On a shared page these are the shipped one, their own, and those of the links they opened.

        Args:
            token: What the visitor knows, as `mtl.runs.owners.Visitor` writes it; a single secret is such a text too.
        """
        runs = self.store.list()
        if not settings().public:
            return runs
        return [run for run in runs if run.name == STARTER or owners.reads(run.path, token)]

    def shared(self, token: str = "") -> frozenset[str]:
        """Return the names of the runs that a visitor may only read, since another one shares them."""
        return frozenset(run.name for run in self.runs(token) if run.name != STARTER and not self.is_own(run, token))

    @staticmethod
    def is_own(run: Run, token: str) -> bool:
        """Say whether a run is this visitor's; on a page of one's own every run is, but the shipped one."""
        return run.name != STARTER and (not settings().public or owners.owns(run.path, token))

    def open(self, name: str, token: str = "") -> Run:
        """Open a run a visitor may see, to read it.

        Raises:
            CheckpointError: There is no such run, or it is another visitor's: the same words after the same steps.
        """
        return self._open(name, token, owners.reads)

    def open_own(self, name: str, token: str = "") -> Run:
        """Open a visitor's own run, to stop, rename, resume, share or delete it.

        Raises:
            CheckpointError: There is no such run, or it is another visitor's, shared or not: the same words. Or it is
                the shipped one.
        """
        if name == STARTER:
            raise CheckpointError("The checkpoint that came with the app stays as it is.")
        return self._open(name, token, owners.owns)

    def _open(self, name: str, token: str, may: Callable[[Path, str], bool]) -> Run:
        run: Run | None = None
        with suppress(CheckpointError):
            run = self.store.open(name)
        nowhere = self.store.root / ".nowhere"
        allowed = may(run.path if run else nowhere, token)  # asked of an absent run too: it must take as long
        if run is None or (settings().public and name != STARTER and not allowed):
            raise CheckpointError("There is no such run.")
        return run

    def delete(self, name: str, token: str = "") -> None:
        """Delete a visitor's finished run with everything that was made of it.

        Raises:
            CheckpointError: As `open_own`; or it is still going on.
        """
        self.store.delete(self.open_own(name, token))

    def forget(self, name: str) -> None:
        """Drop what is kept of a run besides its folder: loaded weights, its journal, files made to be taken away."""
        with self._lock:
            for key in [key for key in self._predictors if key[0] == name]:
                del self._predictors[key]
            self._histories.pop(name, None)
        for root in (Path(_scratch().name), Path(get_upload_folder())):
            for path in root.glob(f"*/{name}-*"):  # as mtl.ui.train.result names them; gradio serves copies
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        self.store.clear_deleted()

    def once(self, wish: str, begin: Callable[[], Run]) -> Run:
        """Begin a run, unless the same was wished for a moment ago: a double click starts one run.

        Args:
            wish: Everything that makes the run what it is, and whose it is.
            begin: Creates and queues it.
        """
        with self._starting:
            now = time.monotonic()
            key = hashlib.sha256(wish.encode("utf-8", "surrogatepass")).hexdigest()
            begun, run = self._recent.get(key, (-math.inf, None))
            if run is not None and now - begun < SAME_WISH_SECONDS and run.path.is_dir():
                return run
            run = begin()
            self._recent[key] = now, run
            while len(self._recent) > KEEP_HISTORIES:
                self._recent.popitem(last=False)
            return run

    def checkpoints(self, token: str = "") -> list[Run]:
        """Return the visible runs that have weights."""
        return [run for run in self.runs(token) if run.has_checkpoint and _is_readable(run)]

    def predictor(self, name: str, token: str = "") -> Predictor:
        """Return a loaded checkpoint; loading happens once and others wait for it.

        Raises:
            CheckpointError: There is no such run, or its checkpoint is damaged.
        """
        if not name:
            raise CheckpointError("No checkpoint is chosen. Train one, or pick one at the top of the page.")
        run = self.open(name, token)
        if not run.has_checkpoint:
            raise CheckpointError(f"The run {name} has no checkpoint yet.")
        if not self._predictors:
            gr.Info("The first answer takes a few seconds: the libraries are being loaded.", 5, title="Warming up")
        return self._loaded(run)

    def _loaded(self, run: Run) -> Predictor:
        key = (run.name, (run.best / "manifest.json").stat().st_mtime_ns)
        with self._loading:
            with self._lock:
                if key in self._predictors:
                    self._predictors.move_to_end(key)
                    return self._predictors[key]
            with uncollected():
                from mtl.inference.predictor import Predictor

                predictor = Predictor.load(run.path)
            with self._lock:
                if run.has_checkpoint:  # it may have been deleted meanwhile
                    self._predictors[key] = predictor
                while len(self._predictors) > KEEP_PREDICTORS:
                    self._predictors.popitem(last=False)
            return predictor

    def wait_seconds(self, run: Run) -> float | None:
        """Return how long a waiting run is likely to wait, judged by the runs before it; None while unknown."""
        ahead = self.queue.position(run)
        typical = self.queue.typical_seconds() if ahead else None
        total = 0.0
        for other in self.queue.active()[:ahead]:
            left = None
            if other.status.state == "running":
                history = self.history(other)
                left = progress(other.status, history.events, history.timings).seconds_left
            if left is None and typical is None:
                return None
            total += left if left is not None else typical or 0.0
        return total / settings().training_slots

    def history(self, run: Run) -> _History:
        """Return a run's events and clock times, reading only what is new."""
        attempt = run.status.attempt
        with self._lock:
            history = self._histories.get(run.name)
            if history is None or history.attempt != attempt:  # a run that goes on has cut its journal
                history = self._histories[run.name] = _History(attempt)
            self._histories.move_to_end(run.name)
            while len(self._histories) > KEEP_HISTORIES:
                self._histories.popitem(last=False)
        history.update(run)
        return history


def _is_readable(run: Run) -> bool:
    """Say whether a run's configuration is one of this version; a run that is not must not spoil the list."""
    try:
        return bool(run.config.tasks and run.tasks)
    except UserError:  # whose words may quote a person's own, which are not for the log
        log.warning("run %s is passed over: its configuration cannot be read", run.name)
        return False


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mtl-downloads-")


def download_folder() -> Path:
    """Make a folder for files a visitor takes away; gradio copies them, so older folders are removed here."""
    root = Path(_scratch().name)
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > KEEP_DOWNLOADS_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=root))


class _History:
    """A journal read so far.

    Args:
        attempt: Of the run, whose processes each begin by cutting the journal to where they go on.
    """

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.events: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self._offsets = [0, 0]
        self._lock = threading.Lock()

    def update(self, run: Run) -> None:
        """Read on."""
        with self._lock:
            events, self._offsets[0] = run.events(self._offsets[0])
            timings, self._offsets[1] = run.timings(self._offsets[1])
            self.events += events
            self.timings += timings


def lines(text: str | list[str] | None, what: str = "text") -> list[str]:
    """Turn a text box (a text a line) or an API list into texts.

    Raises:
        DataError: Nothing was given.
        LimitError: More or longer texts than are accepted at once.
    """
    given = text.splitlines() if isinstance(text, str) else text or []
    if not isinstance(given, list) or not all(isinstance(line, str) for line in given):
        raise DataError(f"Give the {what} as text, or as a list of texts.")
    if isinstance(text, list) and not all(line.strip() for line in text):
        number = next(number for number, line in enumerate(text, start=1) if not line.strip())
        raise DataError(f"Text {number} is empty. Leave it out, or give it words.")
    found = [line.strip() for line in given if line.strip()]
    if not found:
        raise DataError(f"Type a {what} first: one a line.")
    for number, line in enumerate(found, start=1):
        if _HALF.search(line):
            raise DataError(f"Text {number} holds half of a character (a lone surrogate); type it again.")
    limits = settings()
    if len(found) > limits.max_texts:
        raise LimitError(f"These are {len(found):,} texts; at most {limits.max_texts:,} are taken at once.")
    for number, line in enumerate(found, start=1):
        if len(line) > limits.max_text_characters:
            raise LimitError(
                f"Text {number} has {len(line):,} characters; at most {limits.max_text_characters:,} are taken."
            )
    return found
