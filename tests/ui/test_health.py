"""Whether the page can do its work, how it says so, what it logs, and how it ends."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mtl.config import RunConfig
from mtl.runs.store import SHIPPED, Run, RunStore
from mtl.settings import Settings
from mtl.ui import health
from mtl.ui.context import AppContext
from mtl.ui.health import AGAIN_SECONDS, VERSION, Health, banner, probe
from mtl.ui.logs import JsonLines
from mtl.ui.tabs.guide import NOT_SHOWN, limits_html
from tests.ui.server import ROOT, Server, serving

ANSWER = {"status", "version", "profile", "writable", "queue", "standby", "uptime"}
SECRET = "what a person typed"


class Clock:
    """A clock that the test moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """Make a server that nobody talks to."""
    return AppContext(RunStore(tmp_path / "runs", SHIPPED))


def fault(number: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "runs"
    assert probe(folder) == ""
    assert folder.is_dir() and list(folder.iterdir()) == []
    assert [run.name for run in RunStore(folder).list()] == []


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("os.fsync", errno.ENOSPC),
        ("os.fsync", errno.EIO),
        ("pathlib.Path.replace", errno.EROFS),
        ("pathlib.Path.open", errno.EACCES),
        ("pathlib.Path.mkdir", errno.EROFS),
    ],
)
def test_probe_says_why_a_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(call, fault(number))
        said = probe(tmp_path)
    assert os.strerror(number).lower() in said
    assert said.endswith("set MTL_RUNS_DIR to a folder that can.")
    assert str(tmp_path) not in said
    assert list(tmp_path.iterdir()) == []


def test_probe_notices_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    assert "cannot be written" in probe(tmp_path / "runs")


def test_banner_is_there_only_when_something_is_wrong() -> None:
    assert banner("") == ""
    assert "<b>" not in banner("The <b>disk</b> is full.")
    assert "Training is switched off" in banner("The disk is full.")


def test_health_counts_what_trains_and_what_waits(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.queue, "active", lambda: [None] * 3)
    clock = Clock()
    found = Health(context, clock)
    clock.now += 12.34
    report = found.report()
    assert set(report) == ANSWER
    assert report["queue"] == {"training": 1, "waiting": 2}
    assert report["standby"] == "off"
    assert (report["status"], report["writable"], report["uptime"]) == ("ok", True, 12.3)
    assert (report["version"], report["profile"]) == (VERSION, "local")


def test_health_writes_to_the_disk_only_now_and_then(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    probed = []
    monkeypatch.setattr(health, "probe", lambda folder: probed.append(folder) or "The disk is full.")
    clock = Clock()
    found = Health(context, clock)
    for _ in range(100):
        assert found.report()["detail"] == "The disk is full."
    assert probed == [context.store.root]
    clock.now += AGAIN_SECONDS
    found.report()
    assert len(probed) == 2


def test_health_knows_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == VERSION


def test_health_needs_no_torch() -> None:
    code = "import sys, mtl.ui.health, mtl.ui.door, mtl.ui.logs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


HELD_BACK = """
import sys, urllib.request
import gradio
import app
from mtl.ui import context

def look(page):
    answer = urllib.request.urlopen(page.local_url, timeout=60).read()
    print("\\n" + "elem_id" * (b"elem_id" in answer), *(set(sys.argv[1].split(",")) & sys.modules.keys()))

context.WARM_AFTER_SECONDS = 3600.0
gradio.Blocks.block_thread = look
app.main()
"""


def test_page_answers_before_the_libraries_of_training_are_imported(tmp_path: Path) -> None:
    heavy = "torch,transformers,sentence_transformers,sklearn,matplotlib,scipy"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path / "uploads")}
    done = subprocess.run(
        [sys.executable, "-c", HELD_BACK, heavy], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["elem_id"]


def test_logs_as_json_have_no_message_of_a_fault() -> None:
    try:
        {}[SECRET]
    except KeyError:
        record = logging.LogRecord("mtl.ui", logging.ERROR, __file__, 1, "report %s", ("abc",), sys.exc_info())
    line = JsonLines().format(record)
    found = json.loads(line)
    assert "\n" not in line and SECRET not in line
    assert (found["message"], found["level"], found["error"]) == ("report abc", "ERROR", "KeyError")
    assert any("test_health.py" in place for place in found["places"])


def test_guide_shows_every_limit_of_this_page() -> None:
    local, public = (limits_html(Settings(profile=profile)) for profile in ("local", "public"))
    for name, entry in Settings.model_fields.items():
        assert (str(entry.description) in public) == (name not in NOT_SHOWN)
    assert "10 MB" in public and "200,000" in public and "no limit" not in public
    assert local.count("no limit") == sum(value is None for _, value in Settings(profile="local"))
    assert "checkpoints" not in local


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A shared page whose folder of runs cannot be: it lies in a file."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "a-file").write_text("no folder")
    with serving(folder, MTL_PROFILE="public", MTL_RUNS_DIR=str(folder / "a-file" / "runs")) as found:
        yield found


def test_a_page_that_cannot_save_runs_says_so_and_still_answers(shared: Server, tiny_csv_bytes: bytes) -> None:
    answer = shared.get("/healthz")
    assert answer.status_code == 503
    assert set(answer.json()) == ANSWER | {"detail"}
    assert answer.json()["status"] == "degraded"
    assert "cannot be written (not a directory)" in answer.json()["detail"]
    assert "Training is switched off for now" in shared.get("/config").text
    [said] = shared.call(shared.event("topic"), ["The goalkeeper saved two penalties.", "", "starter", ""])
    assert said["output"]["data"][0][0]["label"] == "sports"
    path = shared.upload("tiny.csv", tiny_csv_bytes)
    file = {"path": path, "orig_name": "tiny.csv", "meta": {"_type": "gradio.FileData"}}
    [said] = shared.call(shared.event("start_run"), [file, {}])
    assert "cannot be written" in said["output"]["error"]


def test_a_shared_page_logs_json_alone(shared: Server) -> None:
    lines = [json.loads(line) for line in shared.logged.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    messages = [line["message"] for line in lines]
    assert "profile public" in messages
    assert "setting max_epochs = 20" in messages
    assert any(line["level"] == "ERROR" and "does not train" in line["message"] for line in lines)
    assert "goalkeeper" not in shared.logged


def _run_of(server: Server) -> Run:
    return next(run for run in RunStore(server.runs).list() if run.name != "starter")


def _until(condition: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_page_and_what_trains(
    tmp_path: Path, raw_config: RunConfig, tiny_csv_bytes: bytes, number: signal.Signals
) -> None:
    with serving(tmp_path) as server:
        path = server.upload("tiny.csv", tiny_csv_bytes)
        file = {"path": path, "orig_name": "tiny.csv", "meta": {"_type": "gradio.FileData"}}
        config = raw_config.model_dump(mode="json", exclude_defaults=True)
        config["training"]["epochs"] = 1000
        [said] = server.call(server.event("start_run"), [file, config])
        assert said["success"], said
        run = _run_of(server)
        _until(lambda: run.status.phase == "training" and run.events()[0])
        assert server.get("/healthz").json()["queue"] == {"training": 1, "waiting": 0}
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        assert run.status.state != "running"
        with FileLock(run.path / "lease").acquire(timeout=0):
            pass  # nobody holds it: the training process is gone too
        assert "Traceback" not in server.logged


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MTL_MAX_ROWS", "many", "error: MTL_MAX_ROWS: Input should be a valid integer"),
        ("MTL_PROFILE", "open", "error: MTL_PROFILE: Input should be 'local' or 'public'"),
    ],
)
def test_a_setting_that_cannot_be_ends_the_start_with_a_sentence(name: str, value: str, sentence: str) -> None:
    environment = os.environ | {name: value}
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
