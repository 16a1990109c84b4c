"""Visitors of a page that is really served: over raw HTTP, each with a secret, texts and a run of their own."""

from __future__ import annotations

import io
import ipaddress
import itertools
import json
import secrets
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import numpy as np

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.runs.store import SHIPPED, Run, RunStore
from tests.ui.server import Server

PATIENCE = 300.0  # a stream that says nothing for so long is an answer that is lost
POSTED = {"content-type": "application/json"}
# A page of strangers behind a proxy, so that each visitor can have an address; without a budget for their requests.
FREELY = {
    "MTL_PROFILE": "public",
    "MTL_TRUSTED_PROXIES": "1",
    "MTL_EVENTS_PER_SECOND": "none",
    "MTL_UPLOAD_BYTES_PER_HOUR": "none",
}
ADDRESSES = itertools.count(1)
SHORT = {"training": {"freeze": "encoder", "epochs": 1}}


class Answer(NamedTuple):
    """What came of one call: values, a sentence that says why there are none, or neither, if it is lost."""

    values: list[Any] | None
    refusal: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether nothing came."""
        return self.values is None and not self.refusal


class Visitor:
    """Someone who uses the page, from an address of their own.

    Args:
        server: It.
        number: Of the visitor; it is in the plots of their run.

    Attributes:
        mark: Is in all that is theirs, and in nothing else.
        token: Their secret.
        run: Their run, if one was planted.
    """

    def __init__(self, server: Server, number: int = 0) -> None:
        self.server, self.number = server, number
        self.mark, self.token = f"mark{secrets.token_hex(6)}", secrets.token_urlsafe(32)
        self.run: Run | None = None
        where = {"x-forwarded-for": str(ipaddress.IPv4Address("203.0.0.0") + next(ADDRESSES))}
        self.http = httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False, headers=where)

    def ask(self, name: str, *values: Any) -> Answer:
        """Call a named endpoint."""
        return self.send([(name, values)])[0]

    def send(self, events: Sequence[tuple[str | int, Sequence[Any]]], session: str = "") -> list[Answer]:
        """Send events with their values, all at once and as a page does; return what came of each."""
        session, waiting, found = session or secrets.token_hex(5), dict[str, int](), [Answer(None)] * len(events)
        for number, (name, values) in enumerate(events):
            event = self.server.event(name) if isinstance(name, str) else name
            body = json.dumps({"data": list(values), "fn_index": event, "session_hash": session})
            joined = self.http.post("/gradio_api/queue/join", content=body, headers=POSTED)
            if joined.status_code == 200:
                waiting[joined.json()["event_id"]] = number
            else:
                found[number] = Answer(None, str(joined.json()["detail"]))
        if waiting:
            with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
                for line in stream.iter_lines():
                    message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                    if message.get("msg") == "process_completed":
                        found[waiting.pop(message["event_id"])] = _answer(message)
                    if not waiting or message.get("msg") == "unexpected_error":
                        break
        return found

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Upload a file; return it as an endpoint takes it."""
        [path] = self.http.post("/gradio_api/upload", files={"files": (name, data)}).raise_for_status().json()
        return {"meta": {"_type": "gradio.FileData"}, "path": path, "orig_name": name}

    def start(self, config: dict[str, Any] | None = None) -> Answer:
        """Start a run on a small file of their own; a short one, if nothing else is said."""
        return self.ask("start_run", self.upload(f"{self.mark}.csv", self.rows()), config or SHORT)

    def rows(self, count: int = 60) -> bytes:
        """Write a small file of two tasks, whose texts are theirs."""
        lines = [
            f"{self.mark} says the {'team won the game' if n % 2 else 'soup was hot'} number {n},{'ab'[n % 2]},"
            f"{'good' if n % 3 else 'bad'}"
            for n in range(count)
        ]
        return "\n".join(["text,topic,mood", *lines]).encode()

    def plant(self) -> None:
        """Put a finished run of theirs into the server's folder: their mark in its files, their number in its plot."""
        table = read_table(self.rows(40))
        self.run = RunStore(self.server.runs).create(RunConfig(), table, files=[f"{self.mark}.csv"], token=self.token)
        events, _ = Run(SHIPPED).events()
        for event in (*events[:20], next(one for one in events if one["event"] == "EpochEnd"), events[-1]):
            if event["event"] == "StepEnd":
                event = event | {"losses": {task: 1000.5 + self.number for task in event["losses"]}}
            self.run.append_event(event)
        (self.run.path / "report.json").write_text(json.dumps({"test": {}, "mark": self.mark}))
        (self.run.path / "predictions.csv").write_text(f"text\n{self.mark}\n")
        (self.run.path / "plots").mkdir()
        (self.run.path / "plots" / "loss_curve.png").write_bytes(self.mark.encode())
        self.run.set_title(f"run of {self.mark}")
        self.run.set_status("done", "finished", "All epochs done.")


def _answer(message: dict[str, Any]) -> Answer:
    output = message.get("output") or {}
    if message.get("success"):
        return Answer(output["data"])
    return Answer(None, str(output.get("error") or "an error without a word"))


class Window:
    """A page in a visitor's browser: the values of its components, and the events that change them.

    Args:
        visitor: Whose.
        kept: The run that the browser remembers.
    """

    def __init__(self, visitor: Visitor, kept: str = "") -> None:
        self.visitor, self.session = visitor, secrets.token_hex(5)
        components = visitor.server.config["components"]
        self.values = {one["id"]: None if one["type"] == "state" else one["props"].get("value") for one in components}
        self._ids = {one["props"]["elem_id"]: one["id"] for one in components if one["props"].get("elem_id")}
        attach = self.event("attach")
        self.values[attach["inputs"][0]] = {"run": kept, "token": visitor.token}
        self.fire(attach)

    def event(self, name: str) -> dict[str, Any]:
        """Return an event by its name, or as `button:click`."""
        elem_id, _, trigger = name.partition(":")
        events = self.visitor.server.config["dependencies"]
        if not trigger:
            return next(one for one in events if one["api_name"] == name)
        return next(one for one in events if [self._ids[elem_id], trigger] in one["targets"] and one["backend_fn"])

    def set(self, elem_id: str, value: Any) -> None:
        """Fill in a field."""
        self.values[self._ids[elem_id]] = value

    def get(self, elem_id: str) -> Any:
        """Return what a component shows."""
        return self.values[self._ids[elem_id]]

    def fire(self, event: dict[str, Any] | str) -> Answer:
        """Send an event with the values of its components, and let its answer change them."""
        event = self.event(event) if isinstance(event, str) else event
        inputs = [self.values[one] for one in event["inputs"]]
        [answer] = self.visitor.send([(event["id"], inputs)], self.session)
        for one, value in zip(event["outputs"], answer.values or (), strict=False):
            if not isinstance(value, dict) or value.get("__type__") != "update":
                self.values[one] = value
            elif "value" in value:
                self.values[one] = value["value"]
        return answer

    def upload(self) -> Answer:
        """Choose a file of the visitor's on the Train tab."""
        name = f"{self.visitor.mark}-{secrets.token_hex(4)}.csv"
        self.set("csv", [self.visitor.upload(name, self.visitor.rows() + f"\n{name},a,good".encode())])
        return self.fire("csv:upload")

    def download(self) -> dict[str, str]:
        """Take away the files of the run that is shown. Name in the archive -> content."""
        self.fire("prepare-download:click")
        found = {}
        for file in self.get("downloads") or ():
            body = self.visitor.http.get(f"/gradio_api/file={file['path']}").raise_for_status().content
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                found |= {name: archive.read(name).decode("latin-1") for name in archive.namelist()}
        return found


class Predictions:
    """How long one prediction takes, asked for again and again by one visitor.

    Args:
        visitor: Who asks.
    """

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.seconds = visitor, list[float]()

    def ask(self) -> None:
        """Ask once more."""
        began = time.perf_counter()
        if self.visitor.ask("predict", f"the {self.visitor.mark} team won", "starter", "").values:
            self.seconds.append(time.perf_counter() - began)

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """Ask while the block runs."""
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                self.ask()

        thread = threading.Thread(target=work)
        thread.start()
        yield
        over.set()
        thread.join()

    def taken(self) -> tuple[float, float, int]:
        """Return median, 95th percentile and count, and begin anew."""
        taken, self.seconds = self.seconds, []
        return float(np.quantile(taken, 0.5)), float(np.quantile(taken, 0.95)), len(taken)


def wait_for(visitor: Visitor, run: str, token: str, *states: str) -> float:
    """Wait until a run is in one of these states, or at its end; return the seconds."""
    began = time.perf_counter()
    while time.perf_counter() - began < PATIENCE:
        answer = visitor.ask("run_status", run, token)
        if answer.values and answer.values[0]["state"] in {*states, "done", "stopped", "failed", "interrupted"}:
            return time.perf_counter() - began
        time.sleep(0.25)
    raise SystemExit(f"the run {run} is not {' or '.join(states)} after {PATIENCE:.0f} s")
