"""The page as `python app.py` serves it, in a process of its own, and spoken to over raw HTTP."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120


@dataclass
class Server:
    """A page that is being served.

    Attributes:
        url: Where.
        runs: The folder of its runs.
        log: Of the process.
        process: It.
        http: A client of it.
        config: What the page tells a browser about itself.
        answers: Every body that was answered, streams included.
    """

    url: str
    runs: Path
    log: Path
    process: subprocess.Popen[bytes]
    http: httpx.Client
    config: dict[str, Any] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Ask the page about itself."""
        self.config = self.get("/config").json()

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for something and keep what was answered."""
        return self._kept(self.http.get(path, **options))

    def post(self, path: str, body: Any) -> httpx.Response:
        """Send a JSON body and keep what was answered."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._kept(self.http.post(path, content=content, headers={"content-type": "application/json"}))

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        self.answers.append(answer.content)
        return answer

    def call(self, event: int, *several: Sequence[Any]) -> list[Any]:
        """Send one event several times, each with its data.

        Returns:
            For each the last message of the event, or the answer that refused it.
        """
        session, found, waiting = secrets.token_hex(5), dict[int, Any](), dict[str, int]()
        for number, data in enumerate(several):
            body = {"data": list(data), "fn_index": event, "session_hash": session}
            joined = self.post("/gradio_api/queue/join", body)
            if joined.status_code == 200:
                waiting[joined.json()["event_id"]] = number
            else:
                found[number] = {"status": joined.status_code, "refusal": joined.json()["detail"]}
        if waiting:
            found |= {waiting[one]: said for one, said in self._finished(session, set(waiting)).items()}
        return [found[number] for number in range(len(several))]

    def _finished(self, session: str, events: set[str]) -> dict[str, Any]:
        """Read the stream of a session until these events are over. Event -> its last message."""
        found: dict[str, Any] = {}
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                self.answers.append(line.encode())
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") in {"process_completed", "unexpected_error"}:
                    found[message.get("event_id", "")] = message
                if events <= found.keys() or message.get("msg") == "unexpected_error":
                    break
        return found

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file; return its path on the server."""
        return self.http.post("/gradio_api/upload", files={"files": (name, data)}).raise_for_status().json()[0]

    def event(self, name: str) -> int:
        """Return the number of a named endpoint."""
        return next(one["id"] for one in self.config["dependencies"] if one["api_name"] == name)

    @property
    def logged(self) -> str:
        """What the process wrote to its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    """Serve the page with everything it writes in this folder, its runs in `runs`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MTL_", "SPACE_"))}
    environment |= {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder.parent / f"uploads-{port}"),
        "MTL_RUNS_DIR": str(folder / "runs"),
        "MTL_CACHE_DIR": str(folder / "cache"),
        "MTL_STANDBY": "off",  # what it loads would take the cores from what is tested or measured
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    } | settings
    log, url = folder / "server.log", f"http://127.0.0.1:{port}"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            _wait(http, process, log)
            yield Server(url, folder / "runs", log, process, http)
    finally:
        process.terminate()
        process.wait(30)


def _wait(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            http.get("/healthz")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")
