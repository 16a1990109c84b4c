"""A real server in its own process, and real pages of it in headless Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_SECONDS = 120
# Long enough for a busy machine: nothing here measures time.
TIMEOUT = 180_000


@dataclass(frozen=True)
class Server:
    """A running app: its address and the folder of its runs."""

    url: str
    runs: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start `python app.py` as a person would, with runs in a folder of its own."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    process = start_server(folder, port)
    try:
        yield Server(f"http://127.0.0.1:{port}", folder / "checkpoints")
    finally:
        process.terminate()
        process.wait(30)
    log_text = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in log_text, log_text


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start `python app.py` with everything it keeps in one folder, and wait until it answers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MTL_")}
    environment |= {
        "GRADIO_SERVER_PORT": str(port),
        "MTL_RUNS_DIR": str(folder / "checkpoints"),
        "MTL_CACHE_DIR": str(folder / "cache"),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "HF_HUB_OFFLINE": "1",
    }
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    _wait(f"http://127.0.0.1:{port}", process, folder / "server.log")
    return process


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Start headless Chromium; without it the browser tests skip, or fail where they are demanded."""
    if CHROMIUM is None:
        reason = "Chromium is not installed, so the browser tests did not run (Debian: apt-get install chromium)"
        if os.environ.get("MTL_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open the page in a new browser profile; in the end no script has failed and no request left the machine."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_one(*, width: int = 1366, height: int = 900, dark: bool = False, context: Any = None) -> Any:
        if context is None:
            context = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        page.on("request", lambda request: _check_local(request.url, server.url, faults))
        page.goto(server.url)
        page.wait_for_selector("#start")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not faults


def _check_local(url: str, own: str, faults: list[str]) -> None:
    if not url.startswith((own, "data:", "blob:")):
        faults.append(f"request to {url}")
