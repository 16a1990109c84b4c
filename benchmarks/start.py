"""How long until the page answers, until the first prediction, and from Start to the first step of a training?

    python -m benchmarks start [--rounds 5] [--quick] [--record]

Every time is that of a fresh process, and each is taken in turn with its peer:

- The page: `python app.py` until `/` answers, against a bare `gr.Blocks` with one Markdown.
- The first prediction: the same, and at once a sentence is sent to `/predict` until its answer is there, against a
  script that imports gradio and sentence-transformers, loads MiniLM, serves, and answers with an embedding.
- Start: from handing a run with all defaults on the sample to the queue, whose waiting process is ready, until the
  first step is in the journal, against a process that imports sentence-transformers and loads MiniLM.
- The memory of an idle page, with the encoder loaded, and of the waiting process: RSS, and PSS, which counts what
  several processes share in parts.

Each is done once before the clock runs: what Python compiles and what this machine measures once is there then, in a
folder that is removed at the end. Nothing is downloaded. It never ends with exit code 1 for a time.
"""

from __future__ import annotations

import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.rounds import Row, as_table, at_most, given, processor, ratio, titled
from benchmarks.runs import finish, parser, tell
from mtl.choices import DEFAULT_ENCODER
from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.modeling.encoder import encoder_folder
from mtl.runs.queue import RunQueue
from mtl.runs.store import SAMPLE, RunStore
from mtl.settings import settings

ROOT = Path(__file__).resolve().parents[1]
PAGE_GOAL, PREDICTION_GOAL, START_GOAL, START_SECONDS = 1.3, 1.1, 0.5, 2.0
PEERS = {"page": "bare page", "prediction": "script", "first step": "loading"}
TEXT = "The striker scored in the last minute."
PATIENCE_SECONDS, POLL_SECONDS = 300.0, 0.005
PACKAGES = ("gradio", "torch", "transformers", "sentence-transformers")

BARE = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Markdown("# A page")
demo.launch(quiet=True)
"""
SCRIPT = """
import sys
import gradio as gr
from sentence_transformers import SentenceTransformer
encoder = SentenceTransformer(sys.argv[1])
def predict(text: str) -> list[float]:
    return encoder.encode([text])[0].tolist()
with gr.Blocks() as demo:
    gr.Markdown("# A page")
    gr.api(predict, api_name="predict")
demo.launch(quiet=True)
"""
LOADING = """
import sys
from sentence_transformers import SentenceTransformer
SentenceTransformer(sys.argv[1])
print("loaded", flush=True)
"""


class Served:
    """A page in a process of its own.

    Args:
        command: What serves it, at the port that `GRADIO_SERVER_PORT` says.
        folder: For everything that it writes.
        settings: Further variables of its environment.
    """

    def __init__(self, command: Sequence[str], folder: Path, **settings: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, trust_env=False)
        environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads")}
        self._log = folder / "page.log"
        with self._log.open("wb") as log:
            self._began = time.perf_counter()
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment | settings, stdout=log, stderr=log)

    def seconds(self) -> float:
        """Return how long ago it was started."""
        return time.perf_counter() - self._began

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Send a request, again and again until somebody listens."""
        while True:
            try:
                return self._http.request(method, path, json=body).raise_for_status()
            except httpx.TransportError:
                if self.process.poll() is not None or self.seconds() > PATIENCE_SECONDS:
                    raise SystemExit(f"a page did not start: {self._log.read_text(errors='replace')}") from None
                time.sleep(POLL_SECONDS)

    def predict(self, *values: str) -> None:
        """Ask for a prediction and wait for the answer."""
        event = self.ask("POST", "/gradio_api/call/predict", {"data": list(values)}).json()["event_id"]
        answer = self.ask("GET", f"/gradio_api/call/predict/{event}").text
        if "event: complete" not in answer:
            raise SystemExit(f"there was no prediction: {answer[-300:]}")

    def end(self) -> None:
        """End the process."""
        self._http.close()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def served(command: Sequence[str], folder: Path, **settings: str) -> Iterator[Served]:
    """Start a page and end it."""
    page = Served(command, folder, **settings)
    try:
        yield page
    finally:
        page.end()


def until_the_page(command: Sequence[str], folder: Path) -> float:
    """Return how long it takes until the page answers."""
    with served(command, folder, MTL_STANDBY="off") as page:
        page.ask("GET", "/")
        return page.seconds()


def until_a_prediction(command: Sequence[str], folder: Path, *more: str) -> float:
    """Return how long it takes until a prediction is there that is asked for at once.

    Args:
        command: What serves the page.
        folder: For what it writes.
        more: Values of the endpoint after the text.
    """
    with served(command, folder, MTL_STANDBY="off") as page:
        page.predict(TEXT, *more)
        return page.seconds()


def until_loaded(encoder: str) -> float:
    """Return how long a process takes that imports sentence-transformers and loads the encoder."""
    start = time.perf_counter()
    command = [sys.executable, "-c", LOADING, encoder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"loaded\n":
            raise SystemExit("the encoder was not loaded")
        return time.perf_counter() - start


def until_the_first_step(folder: Path) -> float:
    """Return how long a run takes from the queue to its first step, when a process is ready for it."""
    store = RunStore(folder / "runs")
    queue = RunQueue(store)
    try:
        queue.stand_by()
        wait_for(lambda: queue.standby == "ready")
        run = store.create(RunConfig(), read_table(SAMPLE.read_bytes()), files=[SAMPLE.name])
        start = time.perf_counter()
        queue.submit(run)
        wait_for(lambda: run.status.is_final or any(event["event"] == "StepEnd" for event in run.events()[0]))
        taken = time.perf_counter() - start
        if run.status.is_final:
            raise SystemExit(f"the run ended: {run.status.reason}")
        queue.stop(run)
        wait_for(lambda: run.status.is_final)
        return taken
    finally:
        queue.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so.

    Raises:
        SystemExit: It takes too long.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(POLL_SECONDS)


def in_turn(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Take every time once a round, and begin each round with another one. The first round does not count."""
    names, seconds = list(ways), {name: list[float]() for name in ways}
    for number in range(rounds + 1):
        first = number % len(names)
        found = {name: ways[name]() for name in names[first:] + names[:first]}
        tell(("not counted: " if not number else "") + ", ".join(f"{name} {found[name]:.2f} s" for name in names))
        if number:
            for name, taken in found.items():
                seconds[name].append(taken)
    return seconds


def rows(rounds: int, folder: Path) -> list[Row]:
    """Measure everything.

    Args:
        rounds: How often.
        folder: For everything that is written.
    """
    app, encoder = [sys.executable, "app.py"], str(encoder_folder(DEFAULT_ENCODER))
    found = in_turn(
        {
            "page": lambda: until_the_page(app, folder),
            "bare page": lambda: until_the_page([sys.executable, "-c", BARE], folder),
            "prediction": lambda: until_a_prediction(app, folder, "starter", ""),
            "script": lambda: until_a_prediction([sys.executable, "-c", SCRIPT, encoder], folder),
            "first step": lambda: until_the_first_step(folder),
            "loading": lambda: until_loaded(encoder),
        },
        rounds,
    )
    pairs = {name: ratio(found[name], found[peer]) for name, peer in PEERS.items()}
    step = statistics.median(found["first step"])
    return [
        at_most("page answers after `python app.py`", "a bare Blocks page", pairs["page"], PAGE_GOAL),
        at_most("first prediction of a cold app", "a script that does so", pairs["prediction"], PREDICTION_GOAL),
        at_most("Start to first step, standby ready", "import and load MiniLM", pairs["first step"], START_GOAL),
        Row("the same", "the clock", f"{step:.2f} s", f"at most {START_SECONDS:g} s", step <= START_SECONDS),
        *memory_rows(folder),
    ]


def memory_rows(folder: Path) -> list[Row]:
    """Say what an idle page holds, before and after the encoder is loaded, and the waiting process beside it."""
    with served([sys.executable, "app.py"], folder, MTL_STANDBY="on") as page:
        page.ask("GET", "/")
        held = {"the page alone": memory(page.process.pid)}
        page.predict(TEXT, "starter", "")
        wait_for(lambda: page.ask("GET", "/healthz").json()["standby"] == "ready")
        [waiting] = psutil.Process(page.process.pid).children()
        held |= {"the page with the encoder": memory(page.process.pid), "the standby": memory(waiting.pid)}
    return [Row(f"idle memory of {who}", "–", words) for who, words in held.items()]


def memory(pid: int) -> str:
    """Say how much memory a process holds."""
    found = psutil.Process(pid).memory_full_info()
    parts = {"RSS": found.rss, "PSS": getattr(found, "pss", None)}  # Linux alone knows the second one
    return ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in parts.items() if size is not None)


def versions() -> str:
    """Say on what this was measured; times are comparable within one run only."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Python {platform.python_version()}, {packages}; {processor()}, {cores} cores, {platform.system()}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and record if asked to."""
    words = given(arguments)
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--quick", action="store_true", help="two rounds, to see that it works")
    chosen = options.parse_args(words)
    rounds = 2 if chosen.quick else chosen.rounds
    tell(f"start: about {1 + rounds // 2} minutes on two cores")
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mtl-start-") as name:
        folder = Path(name)
        for variable in [one for one in os.environ if one.startswith(("MTL_", "SPACE_", "PYTHONDONTWRITE"))]:
            del os.environ[variable]
        os.environ |= {
            "MTL_RUNS_DIR": str(folder / "runs"),
            "MTL_CACHE_DIR": str(folder / "cache"),
            "MTL_STANDBY": "on",
            "HF_HUB_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_SSR_MODE": "False",
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        }
        settings.cache_clear()
        try:
            lines = as_table(rows(rounds, folder))
        finally:
            os.environ.clear()
            os.environ.update(before)
            settings.cache_clear()
    lines += ["", f"{rounds} rounds of fresh processes. {versions()}"]
    finish(titled("start", "start of the page and of a run", words, lines), chosen.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
