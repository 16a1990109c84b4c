from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.reading import read_table
from mtl.errors import CheckpointError, LimitError, UserError
from mtl.runs import preflight as module
from mtl.runs import process as process_module
from mtl.runs.preflight import measure, run_preflight
from mtl.runs.process import ROOT, start_process
from mtl.runs.store import Run, RunStore

PATIENCE_SECONDS = 400.0

# Stands in for the measuring process, as its first argument says; it knows nothing of torch.
STAND_IN = """
import json, os, pathlib, sys, time

run = pathlib.Path(sys.argv[1])
(run / "pid").write_text(str(os.getpid()))
match (run / "behaviour").read_text():
    case "answer":
        print("a library has something to say")
        print(json.dumps({"steps": 3, "environment": dict(os.environ), "folder": os.getcwd()}))
    case "sleep":
        time.sleep(600)
    case "sentence":
        print(json.dumps({"error": "Row 3 is wrong. Fix it."}))
        sys.exit(2)
    case "killed":
        print(json.dumps({"steps": 3}), flush=True)
        os.kill(os.getpid(), 9)
    case "crash":
        raise SystemExit("something broke inside")
"""


@pytest.fixture
def run(tmp_path: Path, raw_config: RunConfig, tiny_csv_bytes: bytes) -> Run:
    return RunStore(tmp_path / "runs").create(raw_config, read_table(tiny_csv_bytes))


@pytest.fixture
def behave(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Run]:
    """Start stand-ins, exactly as the real process would be."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[:3] == [sys.executable, "-m", "mtl.runs.preflight"]
        return popen([sys.executable, str(script), *command[3:]], **options)

    def behave(behaviour: str) -> Run:
        (run.path / "behaviour").write_text(behaviour)
        monkeypatch.setattr(process_module.subprocess, "Popen", start)
        return run

    return behave


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def contents(run: Run) -> dict[str, bytes]:
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------ the real process


def test_preflight_process_measures_a_queued_run_and_only_reads_its_folder(run: Run) -> None:
    before = contents(run)
    found = run_preflight(run, timeout_seconds=PATIENCE_SECONDS)
    assert contents(run) == before
    assert run.status.state == "queued"
    per_epoch = -(-len(run.split().train) // 8)
    assert (found["epochs"], found["steps"]) == (3, 3 * per_epoch)
    assert {task["name"] for task in found["tasks"]} == {"topic", "mood"}
    assert found["seconds"]["run"] > found["seconds"]["step"] > 0
    # the libraries alone take this much
    assert found["memory"]["available_bytes"] > found["memory"]["peak_bytes"] > 100_000_000
    assert found["numerics"]["precision"] == "float32"


def test_preflight_process_hands_on_the_sentence_of_an_error(
    tmp_path: Path, raw_config: RunConfig, tiny_encoder_folder: Path, tiny_csv_bytes: bytes
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_folder, folder)
    config = override(raw_config, [f"encoder.name={folder}"])
    run = RunStore(tmp_path / "runs").create(config, read_table(tiny_csv_bytes))
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError) as here:
        measure(run)
    with pytest.raises(UserError) as there:
        run_preflight(run, timeout_seconds=PATIENCE_SECONDS)
    assert str(there.value) == str(here.value)
    assert "There is no folder" in str(there.value)


def test_preflight_process_ends_when_nobody_waits_for_it_any_more(run: Run) -> None:
    process = start_process(
        "mtl.runs.preflight",
        run,
        "--attached",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # communicate() closes the pipe, as the end of the server would
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert (output, errors) == (b"", b"")


def test_preflight_process_is_a_command_for_people_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mtl.runs.preflight", str(tmp_path / "nowhere")],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 2
    assert "There is no run folder" in json.loads(done.stdout)["error"]
    assert len(done.stdout.splitlines()) == 1


def test_preflight_module_is_light_until_it_measures() -> None:
    code = "import sys, mtl.runs.preflight; print(*({'torch', 'transformers', 'gradio'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# ------------------------------------------------------------------------------------------ how it can end


def test_preflight_answer_is_the_last_line(behave: Callable[[str], Run]) -> None:
    assert run_preflight(behave("answer"), timeout_seconds=PATIENCE_SECONDS)["steps"] == 3


def test_preflight_process_gets_no_secret(behave: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a secret value")
    monkeypatch.setenv("MTL_MAX_ROWS", "12345")
    found = run_preflight(behave("answer"), timeout_seconds=PATIENCE_SECONDS)
    assert "a secret value" not in found["environment"].values()
    assert found["environment"]["MTL_MAX_ROWS"] == "12345"
    assert Path(found["folder"]).samefile(ROOT)


def test_preflight_sentence_arrives_as_it_is(behave: Callable[[str], Run]) -> None:
    with pytest.raises(UserError, match=r"^Row 3 is wrong\. Fix it\.$"):
        run_preflight(behave("sentence"), timeout_seconds=PATIENCE_SECONDS)


def test_preflight_that_is_killed_speaks_of_memory(behave: Callable[[str], Run]) -> None:
    with pytest.raises(UserError, match="perhaps because the memory was not enough"):
        run_preflight(behave("killed"), timeout_seconds=PATIENCE_SECONDS)


def test_preflight_that_crashes_is_logged_and_shows_no_traceback(
    behave: Callable[[str], Run], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(UserError, match="unexpected error") as caught:
        run_preflight(behave("crash"), timeout_seconds=PATIENCE_SECONDS)
    assert "something broke inside" not in str(caught.value)
    assert "something broke inside" in caplog.text


def test_preflight_that_takes_too_long_is_ended_and_leaves_no_process(behave: Callable[[str], Run]) -> None:
    run = behave("sleep")
    began = time.monotonic()
    with pytest.raises(LimitError, match="ended after 5 seconds"):
        run_preflight(run, timeout_seconds=5)
    assert time.monotonic() - began < 300, "it was not waited for to its end"
    assert not is_alive(int((run.path / "pid").read_text()))


def test_preflight_that_is_interrupted_leaves_no_process(
    behave: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = behave("sleep")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start_process(*arguments, **options))
        monkeypatch.setattr(started[0], "communicate", interrupt)
        return started[0]

    def interrupt(**options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "start_process", start)
    with pytest.raises(KeyboardInterrupt):
        run_preflight(run, timeout_seconds=PATIENCE_SECONDS)
    assert started[0].returncode is not None
    assert not is_alive(started[0].pid)


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")]
)
def test_preflight_says_when_the_memory_is_not_enough(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def build_model(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("mtl.modeling.multitask.build_model", build_model)
    with pytest.raises(LimitError, match="The memory was not enough; try a smaller batch size"):
        measure(run)


def test_preflight_does_not_take_another_fault_for_one_of_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_model(*arguments: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("mtl.modeling.multitask.build_model", build_model)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measure(run)
