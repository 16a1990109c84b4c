"""The page, served by this process and spoken to over raw HTTP."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mtl.runs.store import SHIPPED, RunStore
from mtl.ui.app import build_demo, launch_options
from mtl.ui.context import AppContext


@dataclass
class Server:
    """A page that is being served.

    Attributes:
        url: Where.
        context: The server's own.
        http: A client of it.
        config: What the page tells a browser about itself.
    """

    url: str
    context: AppContext
    http: httpx.Client
    config: dict[str, Any] = field(default_factory=dict)

    def call(self, event: int, data: Sequence[Any], session: str = "") -> tuple[int, Any]:
        """Send one event.

        Returns:
            The status, and the final message of the event or what was said in place of it.
        """
        session = session or secrets.token_hex(5)
        body = json.dumps({"data": list(data), "fn_index": event, "session_hash": session})
        joined = self.http.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
        if joined.status_code != 200:
            return joined.status_code, joined.json()
        return 200, self.finished(session, {joined.json()["event_id"]})[joined.json()["event_id"]]

    def finished(self, session: str, events: set[str]) -> dict[str, Any]:
        """Read the stream of a session until these events are over. Event -> its last message."""
        found: dict[str, Any] = {}
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
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


@contextmanager
def serving(folder: Path, *, shipped: Path = SHIPPED, slots: int = 0) -> Iterator[Server]:
    """Serve the page with runs in a folder; with no slots, nothing trains."""
    from mtl.runs.queue import RunQueue

    context = AppContext(RunStore(folder, shipped))
    context.queue = RunQueue(context.store, slots=slots)
    demo = build_demo(context)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = launch_options(context) | {"quiet": True, "prevent_thread_lock": True}
    _, url, _ = demo.launch(server_name="127.0.0.1", server_port=port, **options)
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            yield Server(url, context, http, http.get("/config").json())
    finally:
        demo.close()
        context.queue.close()
