"""The command line goes on with a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.reading import read_table
from mtl.runs.store import Run, RunStore
from mtl.runs.worker import StopRequest, work
from tests.conftest import Cli


@pytest.fixture
def new_run(raw_config: RunConfig, tiny_csv_bytes: bytes, workplace: Path) -> Run:
    """A run that nobody has begun, in the folder of the runs."""
    config = override(raw_config, ["training.epochs=2"])
    return RunStore(Path("checkpoints")).create(config, read_table(tiny_csv_bytes))


def stop_after(run: Run, steps: int) -> None:
    stop = StopRequest()

    def on_event(event: object) -> None:
        if getattr(event, "step", 0) >= steps:
            stop.ask("stopped", "Interrupted with Ctrl-C.")

    assert work(run, stop, on_event).state == "stopped"


def test_cli_resume_goes_on_and_prints_the_result(cli: Cli, new_run: Run) -> None:
    stop_after(new_run, 3)
    result = cli("resume", new_run.path)
    assert result.code == 0, result.err
    assert result.json["status"] == new_run.status.state == "done"
    assert result.json["run"] == new_run.path.as_posix()
    assert set(result.json["test"]) == {"topic", "mood"}
    steps = [event["step"] for event in new_run.events()[0] if event["event"] == "StepEnd"]
    assert steps == list(range(1, len(steps) + 1))


def test_cli_resume_of_a_finished_run_prints_its_result(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(finished_run.path, tmp_path / finished_run.name)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in copy.iterdir())
    result = cli("resume", copy)
    assert (result.code, result.json["status"]) == (0, "done")
    assert result.json["test"] is not None
    assert sorted((path.name, path.stat().st_mtime_ns) for path in copy.iterdir()) == before


def test_cli_resume_begins_a_run_that_died_before_its_first_step(cli: Cli, new_run: Run) -> None:
    new_run.set_status("running", "starting")
    result = cli("resume", new_run.path)
    assert (result.code, result.json["status"]) == (0, "done")


def test_cli_resume_forgets_that_it_was_to_stop(cli: Cli, new_run: Run) -> None:
    stop_after(new_run, 3)
    new_run.request_stop()
    assert cli("resume", new_run.path).json["status"] == "done"


@pytest.mark.parametrize("name", ["nothing-there", "."])
def test_cli_resume_of_no_run_is_one_sentence(cli: Cli, workplace: Path, name: str) -> None:
    result = cli("resume", name)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
