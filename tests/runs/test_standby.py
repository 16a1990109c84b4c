"""The process that waits for the next run: who gets it, when there is one, and how it ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.runs import queue as queue_module
from mtl.runs import standby as standby_module
from mtl.runs.process import ROOT, start_process
from mtl.runs.queue import RunQueue
from mtl.runs.standby import READY
from mtl.runs.store import Run, RunStore
from mtl.settings import settings
from tests.runs.test_queue import STAND_IN, wait_for

# Stands in for a worker without a run, and then for the worker: what the file `standby` beside it says.
WAITING = """
import os, pathlib, sys, time

if len(sys.argv) == 1:
    folder = pathlib.Path(__file__).parent
    with (folder / "started").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    mood = (folder / "standby").read_text()
    if mood == "slow":
        time.sleep(60)
    if mood == "broken":
        raise SystemExit("it cannot be loaded")
    os.write(1, b"ready\\n")
    line = sys.stdin.buffer.raw.readline()
    if not line or mood == "dropping":
        raise SystemExit(1)
    sys.argv.append(line.decode().rstrip("\\n"))
(pathlib.Path(sys.argv[1]) / "pid").write_text(str(os.getpid()))
"""
TICKS = 10


class Stage:
    """A queue with stand-ins.

    Attributes:
        queue: It.
        store: Its runs.
        folder: Where the stand-in is and writes.
    """

    def __init__(self, queue: RunQueue, folder: Path, config: RunConfig, data: bytes) -> None:
        self.queue, self.store, self.folder, self._config, self._data = queue, queue.store, folder, config, data
        self.behave("ready")

    def behave(self, mood: str) -> None:
        """Say what the next waiting process is like: ready, slow, broken, dropping."""
        (self.folder / "standby").write_text(mood)

    def make(self, behaviour: str = "done") -> Run:
        """Create a run whose stand-in behaves in some way."""
        run = self.store.create(self._config, read_table(self._data))
        (run.path / "behaviour").write_text(behaviour)
        return run

    @property
    def started(self) -> list[int]:
        """The waiting processes that were started so far."""
        file = self.folder / "started"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def ready(self) -> int:
        """Wait for a process that is ready; return its number."""
        wait_for(lambda: self.queue.standby == "ready")
        return self.started[-1]


def pid_of(run: Run) -> int:
    """Return which process took a run."""
    return int((run.path / "pid").read_text())


@pytest.fixture
def stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_config: RunConfig, tiny_csv_bytes: bytes
) -> Iterator[Stage]:
    script, popen = tmp_path / "stand_in.py", subprocess.Popen
    script.write_text(WAITING + STAND_IN)

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[:3] == [sys.executable, "-m", "mtl.runs.worker"]
        return popen([sys.executable, str(script), *command[3:]], **options)

    monkeypatch.setattr(queue_module.subprocess, "Popen", start)
    monkeypatch.setattr(queue_module, "TICK_SECONDS", 0.05)
    queue = RunQueue(RunStore(tmp_path / "runs"))
    yield Stage(queue, tmp_path, raw_config, tiny_csv_bytes)
    queue.close()


def switch(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MTL_STANDBY", value)
    settings.cache_clear()


def test_standby_takes_the_next_run_without_a_secret(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a secret value")
    stage.queue.stand_by()
    waiting, run = stage.ready(), stage.make()
    stage.queue.submit(run)
    wait_for(lambda: run.status.state == "done")
    assert pid_of(run) == waiting
    assert "a secret value" not in json.loads((run.path / "environment.json").read_text()).values()
    assert stage.ready() != waiting


def test_standby_comes_again_only_when_nothing_trains(stage: Stage) -> None:
    stage.queue.stand_by()
    first, second = stage.make("wait"), stage.make("wait")
    waiting = stage.ready()
    for run in (first, second):
        stage.queue.submit(run)
    wait_for(lambda: first.status.state == "running")
    for _ in range(TICKS):
        stage.queue.tick()
    assert (stage.queue.standby, stage.started) == ("off", [waiting])
    stage.queue.stop(first)
    wait_for(lambda: second.status.state == "running")
    assert len({waiting, pid_of(first), pid_of(second)}) == 2  # the second one began in a process of its own
    assert stage.started == [waiting]
    stage.queue.stop(second)
    assert stage.ready() != waiting


def test_standby_that_died_is_replaced(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby_module, "RETRY_SECONDS", 0.0)
    stage.queue.stand_by()
    waiting = stage.ready()
    os.kill(waiting, signal.SIGKILL)
    wait_for(lambda: len(stage.started) == 2)
    assert stage.ready() != waiting
    assert not psutil.pid_exists(waiting)  # not as a zombie either


@pytest.mark.parametrize("mood", ["ready", "slow", "dropping"])
def test_standby_that_cannot_take_the_run_costs_it_nothing(stage: Stage, mood: str) -> None:
    stage.behave(mood)
    stage.queue.stand_by()
    wait_for(lambda: stage.started)
    if mood != "slow":
        stage.ready()
    if mood == "ready":
        os.kill(stage.started[0], signal.SIGKILL)
    run = stage.make()
    stage.queue.submit(run)
    wait_for(lambda: run.status.state == "done")
    assert pid_of(run) != stage.started[0]
    assert not psutil.pid_exists(stage.started[0])
    assert [line for line in (stage.store.root / "journal.txt").read_text().split() if line == "begin"] == ["begin"]


def test_standby_that_cannot_be_loaded_is_not_tried_again_at_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.behave("broken")
    stage.queue.stand_by()
    wait_for(lambda: "it cannot be loaded" in caplog.text)
    for _ in range(TICKS):
        stage.queue.tick()
    assert (stage.queue.standby, len(stage.started)) == ("off", 1)


def test_standby_is_there_only_if_asked_for_and_if_memory_allows(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [standby_module.ENOUGH_BYTES - 1]
    monkeypatch.setattr(standby_module, "free_bytes", lambda: free[0])

    def looked_after() -> str:
        for _ in range(TICKS):
            stage.queue.tick()
        return stage.queue.standby

    assert looked_after() == "off"  # nobody asked: a command has no use for it
    stage.queue.stand_by()
    assert looked_after() == "off"
    switch(monkeypatch, "on")
    stage.ready()
    switch(monkeypatch, "auto")
    assert looked_after() == "ready"  # there is enough to keep it
    free[0] = standby_module.SHORT_BYTES - 1
    assert looked_after() == "off"
    free[0] = standby_module.ENOUGH_BYTES
    stage.ready()
    switch(monkeypatch, "off")
    assert looked_after() == "off"
    assert not any(psutil.pid_exists(pid) for pid in stage.started)


@pytest.mark.parametrize("mood", ["ready", "slow"])
def test_standby_ends_with_its_queue(stage: Stage, mood: str) -> None:
    stage.behave(mood)
    stage.queue.stand_by()
    wait_for(lambda: stage.started)
    stage.queue.close()
    stage.queue.tick()
    assert stage.queue.standby == "off"
    assert not any(psutil.pid_exists(pid) for pid in stage.started)


# ------------------------------------------------------------------------------------------ real processes


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that these tests share: how this machine computes is measured once."""
    return tmp_path_factory.mktemp("cache")


@contextmanager
def waiting_worker() -> Iterator[subprocess.Popen[bytes]]:
    """Start a real worker without a run, as the queue does; what is left of it is ended."""
    pipe = subprocess.PIPE
    with start_process("mtl.runs.worker", None, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def leave(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


ENDINGS: dict[str, tuple[Callable[[subprocess.Popen[bytes]], None], int]] = {
    "its server goes away": (leave, 0),
    "the system ends it": (subprocess.Popen.terminate, -signal.SIGTERM),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_standby_without_a_run_just_ends(ending: str) -> None:
    end, code = ENDINGS[ending]
    with waiting_worker() as process:
        time.sleep(1)  # somewhere among its imports
        end(process)
        assert process.wait(60) == code
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read() + process.stderr.read() == b""


def test_standby_trains_to_the_same_bits_and_writes_into_the_log_of_its_run(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    raw_config: RunConfig,
    tiny_csv_bytes: bytes,
    finished_run: Run,
) -> None:
    monkeypatch.setenv("MTL_CACHE_DIR", str(cache))
    run = RunStore(tmp_path / "runs").create(raw_config, read_table(tiny_csv_bytes), files=["tiny.csv"])
    with waiting_worker() as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == READY
        assert (cache / "numerics.json").is_file()  # the first step of the first run need not wait for it
        process.stdin.write(os.fsencode(run.path) + b"\n")
        process.stdin.flush()
        assert process.wait(400) == 0, (run.path / "worker.log").read_text()
        assert process.stdout.read() == b""
    assert run.status.state == "done"
    log = (run.path / "worker.log").read_text()
    assert "sentence_transformers" in log and not re.search(r"WARNING|ERROR|Traceback|it/s", log)
    for name in ("events.jsonl", "metrics.csv", "report.json", "predictions.csv", "best/model.safetensors"):
        assert (run.path / name).read_bytes() == (finished_run.path / name).read_bytes(), name


SERVER = """
import sys, time
from pathlib import Path
from mtl.runs.queue import RunQueue
from mtl.runs.store import RunStore

queue = RunQueue(RunStore(Path(sys.argv[1])))
queue.stand_by()
while queue.standby != "ready":
    time.sleep(0.05)
print("ready", flush=True)
time.sleep(600)
"""


def test_standby_does_not_outlive_a_server_that_is_killed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_CACHE_DIR", str(cache))
    monkeypatch.setenv("MTL_STANDBY", "on")
    command = [sys.executable, "-c", SERVER, str(tmp_path / "runs")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert select.select([server.stdout], [], [], 400)[0]
            assert server.stdout.readline() == b"ready\n"
            [waiting] = psutil.Process(server.pid).children()
        finally:
            server.kill()
    # whoever adopts it may leave it as a zombie, which holds nothing
    wait_for(lambda: not waiting.is_running() or waiting.status() == psutil.STATUS_ZOMBIE)
