"""A run outlives its page and its server: closed tabs, and a server that is killed and started again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.runs.store import Run
from tests.browser.conftest import TIMEOUT, free_port, start_server

pytestmark = pytest.mark.browser
VISITS = int(os.environ.get("MANY_VISITS", "4"))  # each takes seconds; twenty on request
POINTS = """() => { const plot = document.querySelector('#loss-plot .js-plotly-plot');
  return plot && plot._fullData && plot._fullData.length ? Array.from(plot._fullData[0].x) : []; }"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Servers that were started here; none is left behind."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_a_run_ends_with_each_point_once_whatever_happens_to_page_and_server(
    place: list[subprocess.Popen[bytes]],
    chromium: Any,
    raw_config: RunConfig,
    tiny_csv: Path,
    tmp_path: Path,
) -> None:
    folder, port = tmp_path / "server", free_port()
    folder.mkdir()
    url = f"http://127.0.0.1:{port}"
    place.append(start_server(folder, port))
    config = override(
        raw_config, ["training.epochs=1000", "training.patience=1000", "training.batch_size=2"]
    ).model_dump(mode="json")
    client = Client(url, verbose=False)
    name = client.predict(handle_file(tiny_csv), config, api_name="/start_run")["run"]
    client.close()
    run = Run(folder / "checkpoints" / name)
    context = chromium.new_context()
    for _ in range(VISITS):
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.goto(url)
        page.wait_for_selector("#run-status .headline")
        page.close()
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(url)
    page.wait_for_function(f"() => ({POINTS})().length > 2")
    assert run.status.state == "running"
    before = len(run.events()[0])

    place[0].kill()  # as the system does when memory runs out: it says nothing to anyone
    place[0].wait()
    place.append(start_server(folder, port))
    _wait(run, lambda: run.status.attempt == 2 and run.status.state == "running" and len(run.events()[0]) > before)
    assert run.status.restarts == 1  # it went on by itself
    client = Client(url, verbose=False)
    client.predict(name, "", api_name="/stop_run")
    client.close()
    _wait(run, lambda: run.status.is_final)
    assert run.status.state == "stopped"
    events, _ = run.events()
    steps = [event["step"] for event in events if event["event"] == "StepEnd"]
    ends = [event["epoch"] for event in events if event["event"] == "EpochEnd"]
    assert steps == list(range(1, len(steps) + 1))
    assert ends == list(range(1, len(ends) + 1))

    # the page that was open all the time has found the server again, and shows each point once
    page.wait_for_selector("#run-status .status.stopped")
    shown = page.evaluate(POINTS)
    assert len(shown) == len(set(shown)) > 2
    assert shown == sorted(shown)
    context.close()


def _wait(run: Run, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT / 1000
    while not condition():
        assert time.monotonic() < end, run.status
        time.sleep(0.1)
