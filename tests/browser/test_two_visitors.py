"""Two strangers on a shared page: one trains and shares, the other opens the link, and neither harms the other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from mtl.runs.store import Run
from tests.browser.conftest import ROOT, Server, _wait
from tests.browser.test_page import _go_to
from tests.browser.test_runs_page import _open, _prepare, _wait_for_the_end

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
OWNERS_BUTTONS = ("#delete", "#rename", "#share", "#run-watch", "#run-name", "#unshare", "#really-delete")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the app as a Space does: strangers share the page."""
    folder = tmp_path_factory.mktemp("public")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MTL_")} | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "MTL_RUNS_DIR": str(folder / "checkpoints"),
        "MTL_CACHE_DIR": str(folder / "cache"),
        "MTL_PUBLIC": "1",
        "HF_HUB_OFFLINE": "1",
    }
    log, url = folder / "server.log", f"http://127.0.0.1:{port}"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        _wait(url, process, log)
        yield Server(url, folder / "checkpoints")
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def small_csv(tmp_path: Path) -> Path:
    """60 sentences of two tasks: a run on them takes seconds."""
    path = tmp_path / "small.csv"
    lines = [f"the {'team won the game' if n % 2 else 'soup was hot'} number {n},{'ab'[n % 2]},x" for n in range(60)]
    path.write_text("\n".join(["text,topic,mood", *(line[:-1] + "xy"[n % 3 > 0] for n, line in enumerate(lines))]))
    return path


def _names(page: Any) -> list[str]:
    return page.eval_on_selector_all("#run-list input", "inputs => inputs.map(one => one.value)")


def test_owner_shares_and_the_reader_changes_nothing(open_page: OpenPage, server: Server, small_csv: Path) -> None:
    owner = open_page()
    _prepare(owner, small_csv)
    owner.click("#start")
    name = _wait_for_the_end(owner)
    _open(owner, name)
    owner.wait_for_selector("#run-report-summary table")
    owner.click("#share")
    owner.wait_for_function(
        "() => document.querySelector('#share-link input, #share-link textarea')?.value.startsWith('http')"
    )
    link = owner.input_value("#share-link input, #share-link textarea")
    assert link.startswith(f"{server.url}/?run={name}&key=share-")

    stranger = open_page()
    _go_to(stranger, "Runs")
    stranger.locator("#run-list label", has_text="Starter").wait_for()
    assert _names(stranger) == ["starter"]

    reader = open_page()
    reader.goto(link)
    _reads(reader, name)
    reader.goto(server.url)  # the browser remembers the key
    _open(reader, name)
    _reads(reader, name)
    _uses(reader)
    _sees_it_go_on(reader, Run(server.runs / name))

    _fits_a_phone(owner, name, dark=False)
    _fits_a_phone(owner, name, dark=True)
    owner.click("#unshare")
    owner.wait_for_selector("#share", state="visible")
    assert owner.locator("#run-sharing").is_hidden()
    reader.goto(link)
    reader.locator("[data-testid=toast-body]", has_text="not shared any more").wait_for()
    _go_to(reader, "Runs")
    reader.locator("#run-list label", has_text="Starter").wait_for()
    assert _names(reader) == ["starter"]
    assert (server.runs / name).exists()


def _reads(page: Any, name: str) -> None:
    page.locator("#run-head .chip b", has_text=name).wait_for()
    page.locator("#run-head", has_text="shared with you").wait_for()
    page.locator("#run-list label", has_text="shared with you").wait_for()
    page.wait_for_selector("#run-report-summary table")
    assert [button for button in OWNERS_BUTTONS if page.locator(button).is_visible()] == []


def _uses(page: Any) -> None:
    page.click("#run-use")
    page.wait_for_function("() => document.querySelector('#checkpoint input').value.includes('shared with you')")
    page.click("#run-prepare-download")
    page.wait_for_selector("#run-downloads a[href*='-model.zip']")
    page.click("#run-start-from")
    page.wait_for_selector("#start", state="visible")
    _go_to(page, "Runs")


def _sees_it_go_on(page: Any, run: Run) -> None:
    """A run that goes on again is followed where it is open: its curve grows."""
    run.set_status("running", "training")
    page.reload()
    _open(page, run.name)
    page.locator("#run-head", has_text="Training").wait_for()
    page.get_by_role("tab", name="Curves", exact=True).click()
    length = "() => document.querySelector('#run-loss-plot .js-plotly-plot')?._fullData?.[0]?.x.length"
    page.wait_for_function(f"{length} > 0")
    last = [event for event in run.events()[0] if event["event"] == "StepEnd"][-1]
    before = page.evaluate(length)
    for number in range(1, 4):
        run.append_event(last | {"step": last["step"] + number})
    page.wait_for_function(f"count => ({length})() > count", arg=before)
    run.set_status("done", "finished", "All epochs done.")
    page.locator("#run-head", has_text="Done").wait_for()


def _fits_a_phone(page: Any, name: str, *, dark: bool) -> None:
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    _open(page, name)
    page.wait_for_selector("#run-sharing", state="visible")
    page.wait_for_selector("#run-report-summary table")
    page.click("#share-again")
    page.wait_for_selector("#share-link", state="visible")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(page, options={"runOnly": ["color-contrast", "label", "button-name"]})
    assert found.violations_count == 0, found.generate_report()


def test_shipped_run_is_not_to_be_shared(open_page: OpenPage) -> None:
    page = open_page()
    _open(page, "starter")
    page.wait_for_selector("#run-report-summary table")
    assert [button for button in OWNERS_BUTTONS if page.locator(button).is_visible()] == []
    assert page.locator("#run-head", has_text="shared with you").count() == 0
