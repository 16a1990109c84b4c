from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.errors import CheckpointError, LimitError
from mtl.runs import owners
from mtl.runs import queue as queue_module
from mtl.runs import store as store_module
from mtl.runs.queue import RunQueue
from mtl.runs.room import drop_expired, make_room, size_of
from mtl.runs.store import Run, RunStore
from mtl.settings import settings

PATIENCE_SECONDS = 120.0

# Stands in for the worker, whose own tests run the real one: it does what the file `behaviour` in the run folder
# says and knows nothing of torch, so a test of the queue takes a moment instead of many seconds.
STAND_IN = """
import json, os, pathlib, sys, threading, time

run = pathlib.Path(sys.argv[1])
behaviour = (run / "behaviour").read_text() if (run / "behaviour").exists() else "done"
journal = run.parent / "journal.txt"

def tell(what):
    with journal.open("a") as file:
        file.write(f"{what} {run.name}\\n")

def say(state, phase):
    temporary = run / "status.tmp"
    temporary.write_text(json.dumps({"state": state, "phase": phase, "reason": ""}))
    temporary.replace(run / "status.json")

def watch():
    os.read(0, 1)
    say("interrupted", "finished")
    os._exit(1)

tell("begin")
(run / "environment.json").write_text(json.dumps(dict(os.environ)))
say("running", "training")
threading.Thread(target=watch, daemon=True).start()
if behaviour == "wait":
    while not (run / "stop").exists():
        time.sleep(0.02)
    say("stopped", "finished")
elif behaviour == "deaf":
    time.sleep(60)
elif behaviour == "unwritten":
    while not (run / "go").exists():
        time.sleep(0.02)
    raise SystemExit(74)
elif behaviour == "crash":
    raise SystemExit("something broke")
elif behaviour == "killed":
    os.kill(os.getpid(), 9)
else:
    time.sleep(0.3)
    tell("end")
    say("done", "finished")
"""


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def make(store: RunStore, raw_config: RunConfig, tiny_csv_bytes: bytes) -> Callable[..., Run]:
    """Create a run whose stand-in behaves in some way."""

    def make(behaviour: str = "done") -> Run:
        run = store.create(raw_config, read_table(tiny_csv_bytes))
        (run.path / "behaviour").write_text(behaviour)
        return run

    return make


@pytest.fixture
def queue(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunQueue]:
    """A queue that starts stand-ins, exactly as it would start workers."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[:3] == [sys.executable, "-m", "mtl.runs.worker"]
        return popen([sys.executable, str(script), *command[3:]], **options)

    monkeypatch.setattr(queue_module.subprocess, "Popen", start)
    monkeypatch.setattr(queue_module, "TICK_SECONDS", 0.05)
    queue = RunQueue(store)
    yield queue
    queue.close()


def journal(store: RunStore) -> list[str]:
    return (store.root / "journal.txt").read_text().splitlines()


def test_queue_runs_one_after_the_other(queue: RunQueue, store: RunStore, make: Callable[..., Run]) -> None:
    runs = [make() for _ in range(3)]
    for run in runs:
        queue.submit(run)
    assert [queue.position(run) for run in runs] == [0, 1, 2]
    wait_for(lambda: all(run.status.state == "done" for run in runs))
    assert journal(store) == [f"{what} {run.name}" for run in runs for what in ("begin", "end")]


def test_queue_with_two_slots_runs_two_at_once(store: RunStore, queue: RunQueue, make: Callable[..., Run]) -> None:
    both = RunQueue(store, slots=2)
    first, second = make("wait"), make("wait")
    both.submit(first)
    both.submit(second)
    wait_for(lambda: first.status.state == second.status.state == "running")
    assert [run.name for run in both.active()] == [first.name, second.name]
    both.close()
    assert both.active() == []


def test_queue_stops_a_waiting_run_before_it_begins(queue: RunQueue, store: RunStore, make: Callable[..., Run]) -> None:
    first, second, third = make("wait"), make(), make()
    for run in (first, second, third):
        queue.submit(run)
    queue.stop(Run(second.path))
    assert (second.status.state, second.status.reason) == ("stopped", "Stopped before it began.")
    assert queue.position(second) == 0
    assert queue.position(third) == 1
    wait_for(lambda: first.status.state == "running")
    queue.stop(first)
    wait_for(lambda: third.status.state == "done")
    assert first.status.state == "stopped"
    assert not any(second.name in line for line in journal(store))


def test_queue_asks_a_training_run_to_stop_by_its_file(queue: RunQueue, make: Callable[..., Run]) -> None:
    run = make("wait")
    queue.submit(run)
    wait_for(lambda: run.status.state == "running")
    assert not run.stop_requested
    queue.stop(Run(run.path))
    assert run.stop_requested
    wait_for(lambda: run.status.state == "stopped")


def test_queue_leaves_a_finished_run_alone(queue: RunQueue, make: Callable[..., Run]) -> None:
    run = make()
    run.set_status("done", "finished")
    queue.stop(run)
    assert not run.stop_requested
    assert run.status.state == "done"


@pytest.mark.parametrize(("behaviour", "reason"), [("crash", "crashed"), ("killed", "perhaps because the memory")])
def test_queue_calls_a_run_failed_whose_worker_broke_and_goes_on(
    queue: RunQueue, make: Callable[..., Run], behaviour: str, reason: str
) -> None:
    broken, after = make(behaviour), make()
    queue.submit(broken)
    queue.submit(after)
    wait_for(lambda: after.status.state == "done")
    assert (broken.status.state, broken.status.phase) == ("failed", "finished")
    assert reason in broken.status.reason
    assert "worker.log" in broken.status.reason


def test_queue_keeps_what_a_worker_printed(queue: RunQueue, make: Callable[..., Run]) -> None:
    run = make("crash")
    queue.submit(run)
    wait_for(lambda: run.status.is_final)
    assert "something broke" in (run.path / "worker.log").read_text()


def test_queue_gives_workers_no_secret(
    queue: RunQueue, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "DATABASE_URL"]
    for name in secrets:
        monkeypatch.setenv(name, "a secret value")
    monkeypatch.setenv("MTL_MAX_ROWS", "12345")
    run = make()
    queue.submit(run)
    wait_for(lambda: run.status.state == "done")
    environment = json.loads((run.path / "environment.json").read_text())
    assert "a secret value" not in environment.values()
    assert environment["MTL_MAX_ROWS"] == "12345"
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["MTL_RUNS_DIR"] == os.environ["MTL_RUNS_DIR"]


def test_queue_that_is_full_says_so_and_forgets_the_run(
    queue: RunQueue, store: RunStore, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_MAX_QUEUED_RUNS", "1")
    settings.cache_clear()
    first, second, third = make("wait"), make("wait"), make()
    queue.submit(first)
    queue.submit(second)
    with pytest.raises(LimitError, match="Too many runs are waiting"):
        queue.submit(third)
    assert not third.path.exists()
    assert {run.name for run in store.list()} == {first.name, second.name}


def test_queue_that_closes_lets_its_workers_end_and_starts_no_more(
    queue: RunQueue, store: RunStore, make: Callable[..., Run]
) -> None:
    first, second = make("wait"), make()
    queue.submit(first)
    queue.submit(second)
    wait_for(lambda: first.status.state == "running")
    queue.close()
    assert first.status.state == "interrupted"
    queue.tick()
    assert second.status.state == "queued"
    assert journal(store) == [f"begin {first.name}"]


# ------------------------------------------------------------------------------------------ recovery


@pytest.mark.parametrize("state", ["queued", "running"])
def test_queue_marks_runs_as_interrupted_that_nobody_trains(
    store: RunStore, make: Callable[..., Run], state: Any
) -> None:
    run = make()
    run.set_status(state, "training")
    RunQueue(store).recover()
    assert (run.status.state, run.status.phase) == ("interrupted", "finished")
    assert "There is no checkpoint yet." in run.status.reason


def test_queue_recovery_says_that_a_checkpoint_is_kept(store: RunStore, make: Callable[..., Run]) -> None:
    run = make()
    run.best.mkdir()
    (run.best / "manifest.json").write_text("{}")
    run.set_status("running", "training")
    RunQueue(store).recover()
    assert "The best checkpoint is kept." in run.status.reason


def test_queue_recovery_leaves_a_run_that_is_being_trained(store: RunStore, make: Callable[..., Run]) -> None:
    run = make()
    run.set_status("running", "training")
    with FileLock(run.path / "lease"):
        RunQueue(store).recover()
        assert run.status.state == "running"
    RunQueue(store).recover()
    assert run.status.state == "interrupted"


@pytest.mark.parametrize("state", ["done", "stopped", "failed", "diverged", "interrupted"])
def test_queue_recovery_leaves_ended_runs_as_they_are(store: RunStore, make: Callable[..., Run], state: Any) -> None:
    run = make()
    run.set_status(state, "finished", "as it was")
    RunQueue(store).recover()
    assert (run.status.state, run.status.reason) == (state, "as it was")


# ------------------------------------------------------------------------------------------ going on


def test_queue_takes_up_again_what_waited(queue: RunQueue, store: RunStore, make: Callable[..., Run]) -> None:
    first, second = make("wait"), make()
    queue.submit(first)
    queue.submit(second)
    wait_for(lambda: first.status.state == "running")
    queue.close()
    assert second.status.state == "queued"
    other = RunQueue(store)
    other.recover()
    try:
        wait_for(lambda: second.status.state == "done")
    finally:
        other.close()


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_queue_lets_a_run_go_on_that_was_cut_off(queue: RunQueue, make: Callable[..., Run], state: Any) -> None:
    run = make()
    run.set_status(state, "training", page=True, goes_on=state == "interrupted")
    queue.recover()
    wait_for(lambda: run.status.state == "done")
    assert journal(queue.store) == [f"begin {run.name}", f"end {run.name}"]


def test_queue_lets_a_run_go_on_twice_and_no_more(store: RunStore, make: Callable[..., Run]) -> None:
    run = make()
    run.set_status("running", "training", page=True, attempt=1)
    for restarts in (1, 2):
        queue = RunQueue(store)
        queue._closed.set()  # nothing is started, as if the server had died at once
        queue.recover()
        assert (run.status.state, run.status.restarts) == ("queued", restarts)
        run.set_status("running", "training")
    RunQueue(store).recover()
    assert run.status.state == "interrupted"
    assert "2 times" in run.status.reason
    assert run.can_go_on


def test_queue_leaves_a_run_of_the_command_line_to_its_person(store: RunStore, make: Callable[..., Run]) -> None:
    run = make()
    run.set_status("interrupted", "finished", "The system ended the run.", goes_on=True)
    RunQueue(store).recover()
    assert (run.status.state, run.status.page) == ("interrupted", False)


def test_queue_resumes_on_request_and_forgets_the_stop(queue: RunQueue, make: Callable[..., Run]) -> None:
    run = make()
    run.request_stop()
    run.set_status("stopped", "finished", "Stopped on request.", restarts=2)
    queue.resume(run)
    assert (run.stop_requested, run.status.restarts) == (False, 0)
    wait_for(lambda: run.status.state == "done")
    with pytest.raises(CheckpointError, match="over"):
        queue.resume(run)


def test_queue_refuses_to_resume_what_goes_on(queue: RunQueue, make: Callable[..., Run]) -> None:
    run = make("wait")
    queue.submit(run)
    wait_for(lambda: run.status.state == "running")
    with pytest.raises(CheckpointError, match="still going on"):
        queue.resume(run)
    queue.stop(run)
    wait_for(lambda: run.status.state == "stopped")


# --------------------------------------------------------------------------------------------- limits


def test_queue_ends_a_process_that_does_not_stop(
    queue: RunQueue, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "KILL_AFTER_SECONDS", 0.3)
    run = make("deaf")
    queue.submit(run)
    wait_for(lambda: run.status.state == "running")
    queue.stop(run)
    wait_for(lambda: run.status.is_final)
    assert run.status.state == "stopped"
    assert "did not answer" in run.status.reason


def test_queue_ends_a_process_that_takes_too_much_memory(
    queue: RunQueue, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_MAX_WORKER_BYTES", "1000000")
    settings.cache_clear()
    run = make("wait")
    queue.submit(run)
    wait_for(lambda: run.status.is_final)
    assert run.status.state == "failed"
    assert "of memory" in run.status.reason


def test_queue_holds_a_visitor_to_their_share(
    queue: RunQueue, store: RunStore, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_MAX_RUNS_PER_VISITOR", "2")
    settings.cache_clear()
    for _ in range(2):
        queue.check_room(who="mine")
        run = make("wait")
        owners.give(run.path, "mine")
        queue.submit(run)
    with pytest.raises(LimitError, match="2 runs"):
        queue.check_room(who="mine")
    queue.check_room(who="another's")  # one visitor's runs are no one else's limit
    for run in queue.active():
        queue.stop(run)
    wait_for(lambda: all(run.status.is_final for run in store.list()))


def test_queue_ends_a_run_whose_folder_cannot_take_its_status(
    queue: RunQueue, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("unwritten")
    queue.submit(run)
    wait_for(lambda: run.status.state == "running")
    monkeypatch.setattr(store_module, "write_json", _refuse)
    (run.path / "go").touch()
    wait_for(lambda: run.status.is_final)
    assert run.status.state == "interrupted"  # known here, though not on the disk
    assert "could not be written" in run.status.reason
    assert json.loads((run.path / "status.json").read_text())["state"] == "running"


def _refuse(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_queue_makes_room_by_the_oldest_finished_runs(
    store: RunStore, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make() for _ in range(4)]
    for run, state in zip(runs, ["done", "running", "failed", "done"], strict=True):
        (run.path / "best").mkdir()
        (run.path / "best" / "model.safetensors").write_bytes(bytes(100_000))
        run.set_status(state, "finished")
    monkeypatch.setenv("MTL_MAX_DISK_BYTES", "290000")
    settings.cache_clear()
    make_room(store)
    left = {run.name for run in store.list()}
    assert left == {runs[1].name, runs[3].name}  # the two oldest that are over are gone
    assert sum(size_of(run.path) for run in store.list()) <= 290_000
    for run in (runs[1], runs[3]):
        run.set_status("running", "training")
    monkeypatch.setenv("MTL_MAX_DISK_BYTES", "100000")
    settings.cache_clear()
    with pytest.raises(LimitError, match="used up"):
        make_room(store)
    assert len(store.list()) == 2


def test_queue_keeps_finished_runs_for_their_time(
    store: RunStore, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young, going = make(), make(), make()
    for run, state in ((old, "done"), (young, "done"), (going, "running")):
        run.set_status(state, "finished")
    for run in (old, going):
        os.utime(run.path / "status.json", (time.time() - 1000, time.time() - 1000))
    monkeypatch.setenv("MTL_RUN_TTL_SECONDS", "900")
    settings.cache_clear()
    drop_expired(store)
    assert {run.name for run in store.list()} == {young.name, going.name}


def test_queue_takes_up_a_run_whose_process_outlived_its_server(
    store: RunStore, make: Callable[..., Run], queue: RunQueue
) -> None:
    run = make()
    run.set_status("running", "training", page=True)
    lease = FileLock(run.path / "lease")
    lease.acquire()
    queue.recover()
    time.sleep(0.2)
    assert run.status.state == "running"
    run.set_status("interrupted", "finished", "The server went away.", goes_on=True)
    lease.release()
    wait_for(lambda: run.status.state == "done")


def test_queue_counts_the_runs_of_an_address_whoever_they_say_they_are(
    queue: RunQueue, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_PROFILE", "public")
    settings.cache_clear()
    for number in range(6):
        queue.check_room(who=f"visitor {number}", address="192.0.2.1")
        queue.submit(make("wait"), "192.0.2.1")
    with pytest.raises(LimitError, match="From your address 6 runs"):
        queue.check_room(who="yet another", address="192.0.2.1")
    queue.check_room(who="yet another", address="198.51.100.7")
    for run in queue.active():
        assert queue.address(run) == "192.0.2.1"
        queue.stop(run)
    wait_for(lambda: not queue.active())


def test_queue_is_not_held_up_by_one_visitor_with_a_hundred_runs(
    queue: RunQueue, store: RunStore, make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_PROFILE", "public")
    settings.cache_clear()

    def submit(who: str, behaviour: str) -> Run:
        queue.check_room(who=who)
        run = make(behaviour)
        owners.give(run.path, who)
        queue.submit(run)
        return run

    greedy = []
    for _ in range(100):
        with contextlib.suppress(LimitError):
            greedy.append(submit("greedy", "wait"))
    assert len(greedy) == 2
    patient = submit("patient", "done")
    assert queue.position(patient) == 2
    for run in greedy:
        queue.stop(run)
    wait_for(lambda: patient.status.state == "done")
