"""The door: what of a request is let in before Gradio sees it.

Gradio answers on many more routes than this page needs, reads JSON bodies of any size, takes NaN for a number, and
fetches a file's `https://` path for whoever asks. What is not listed here is not found. Each refusal is one sentence.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from mtl.settings import settings
from mtl.ui.budgets import Budget, Held, client_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

UPLOAD = "/gradio_api/upload"
# The page's own files: free of charge, since a page is some hundred of them.
FILES = re.compile(
    r"/(assets|static|svelte)/.*|(/gradio_api)?/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?"
)
# What a browser or a program may ask for, beside them.
READ = re.compile(
    r"/|/config/?|/healthz|/gradio_api/(info/?|app_id/?|startup-events|upload_progress|queue/data|heartbeat/[^/]+|"
    r"call/(v2/)?[^/]+/[^/]+|file=.+)"
)
LOGIN = re.compile(r"/(login/huggingface|login/callback|logout)/?")  # where there is a login
STREAMS = re.compile(r"/gradio_api/(queue/data|heartbeat/.*|upload_progress|call/.*)")  # answers that stay open
WRITE = re.compile(r"/gradio_api/(queue/join|call/(v2/)?[^/]+/?|upload|cancel|reset/?)")
A_FILE = "/gradio_api/file="
URL = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters or more: C:/ is a disk
NO_TEXT = re.compile("[\ud800-\udfff\0]")  # JSON can escape what no file of text could hold

FILE_DATA = {"path", "url", "size", "orig_name", "mime_type", "is_stream", "meta"}
BODY_SECONDS = 60.0
OPEN_STREAMS = 100
ALL_UPLOADS = 20  # times one client's budget: what all of them upload in an hour
FREE = {"/healthz"}  # for who watches over the server

# Gradio starts the page by scripts in it, and compiles functions from text; nothing comes from or goes elsewhere.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {parents}"
)
FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"  # an uploaded page must not run as ours
PARENTS = {"local": "'self'", "public": "'self' https://huggingface.co https://*.hf.space"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Refusal(Exception):
    """A request that is not let in.

    Args:
        status: Of HTTP.
        sentence: What is wrong and what to do.
        wait: Seconds after which it may be let in.
    """

    def __init__(self, status: int, sentence: str, wait: float = 0) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.wait = status, sentence, wait


class Guard:
    """An ASGI middleware in front of Gradio.

    Args:
        app: What is guarded.
    """

    def __init__(self, app: App) -> None:
        limits = settings()
        self.app = app
        self._local = not limits.public
        self._most = limits.max_body_bytes
        self._proxies, self._on_space = limits.trusted_proxies, "SPACE_ID" in os.environ
        rate, bytes_ = limits.events_per_second, limits.upload_bytes_per_hour
        self._requests = Budget(rate, limits.events_burst) if rate else None
        self._uploads = Budget(bytes_ / 3600, bytes_) if bytes_ else None
        self._all_uploads = Budget(ALL_UPLOADS * bytes_ / 3600, ALL_UPLOADS * bytes_) if bytes_ else None
        self._streams = Held(OPEN_STREAMS) if rate else None
        self._policy = POLICY.format(parents=PARENTS[limits.profile])

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # the page has no web socket
            return await send({"type": "websocket.close", "code": 1008})
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        send = self._with_headers(path, send)
        try:
            client = self._admit(scope, path)
            if scope["method"] == "POST" and path != UPLOAD:
                receive = await self._read(receive)
        except Refusal as refusal:
            return await _refuse(refusal, send)
        if scope["method"] == "HEAD" and path == "/":
            # Gradio asks at its start and gives up after three seconds; drawing a page on a busy machine takes longer
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body", "body": b""})
        if self._streams is None or not STREAMS.fullmatch(path):
            return await self.app(scope, receive, send)
        with self._streams.one(client):
            await self.app(scope, receive, send)

    def _admit(self, scope: MutableMapping[str, Any], path: str) -> str:
        """Return who asks; refuse what is closed, or too much."""
        method, headers = scope["method"], dict(scope["headers"])
        asked = "GET" if method in {"HEAD", "OPTIONS"} else method
        is_file = FILES.fullmatch(path)
        known = (is_file or READ.fullmatch(path)) if asked == "GET" else asked == "POST" and WRITE.fullmatch(path)
        known = known or (asked == "GET" and "OAUTH_CLIENT_ID" in os.environ and LOGIN.fullmatch(path))
        if method == "OPTIONS":  # a browser asks whether it may post
            known = known or WRITE.fullmatch(path)
        if not known or (path.startswith(A_FILE) and URL.match(path.removeprefix(A_FILE))):
            raise Refusal(404, "There is nothing at this address.")
        if asked == "POST" and self._local and headers.get(b"sec-fetch-site") in {b"cross-site", b"same-site"}:
            raise Refusal(403, "Another web page may not use this one on a person's own machine.")
        client = client_of(scope, proxies=self._proxies, skip_private=self._on_space)
        if not is_file and path not in FREE:
            self._charge(client, path, headers)
        return client

    def _charge(self, client: str, path: str, headers: dict[bytes, bytes]) -> None:
        """Take a request from its client's budgets; refuse it when they are used up."""
        if self._requests is not None and (wait := self._requests.take(client)):
            raise Refusal(429, "Too many requests from your address; wait a few seconds and try again.", wait)
        if self._streams is not None and STREAMS.fullmatch(path) and self._streams.is_full(client):
            raise Refusal(429, f"Your address has {OPEN_STREAMS} answers open already; close some pages.", 5)
        if path != UPLOAD:
            return
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            raise Refusal(411, "An upload must say how long it is (Content-Length).")
        size = int(length)
        if self._uploads is not None and (wait := self._uploads.take(client, size)):
            minutes = max(1, math.ceil(wait / 60))
            raise Refusal(429, f"Your address has uploaded a lot; try again in about {minutes:,} min.", wait)
        if self._all_uploads is not None and (wait := self._all_uploads.take("all", size)):
            raise Refusal(429, "This page has taken a lot of uploads; try again in some minutes.", wait)

    async def _read(self, receive: Receive) -> Receive:
        """Read a body whole, counting what really comes; refuse it if it is too long or not proper JSON."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while (message := await receive())["type"] == "http.request":
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._most:
                        raise Refusal(413, f"The request is too long; at most {self._most:,} bytes are taken.")
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refusal(408, "The request took too long to arrive.") from None
        body = b"".join(parts)
        check_json(body)
        return _replayed(body, receive)

    def _with_headers(self, path: str, send: Send) -> Send:
        """Add the security headers to whatever is answered."""
        policy = FILE_POLICY if path.startswith(A_FILE) else self._policy
        own = [
            (name.encode(), value.encode()) for name, value in (HEADERS | {"Content-Security-Policy": policy}).items()
        ]
        names = {name.lower() for name, _ in own}

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in names]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        return sent


def check_json(body: bytes) -> None:
    """Refuse a body that is no JSON, says a name twice, or holds a number or text that cannot be, or a file to fetch.

    Raises:
        Refusal: What is wrong with it.
    """
    if not body:
        return
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise Refusal(400, "The request is not JSON.") from None
    if any(NO_TEXT.search(text) for text in _texts(value)):
        raise Refusal(400, "A text of the request holds half of a character (a lone surrogate), or NUL; type it again.")


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(values):
                waiting += values
            case dict(named):
                waiting += [*named, *named.values()]


def _no_constant(name: str) -> None:
    raise Refusal(400, f"JSON has no number {name}.")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise Refusal(400, "A number of the request is too large.")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refusal(400, "A name stands twice in one object of the request.")
    path = found.get("path")
    is_file = isinstance(path, str) and (found.keys() <= FILE_DATA or _is_marked(found.get("meta")))
    if is_file and URL.match(str(path)):  # a text may hold an address; a file may not be one
        raise Refusal(400, "A file must be uploaded; an address in its place is not fetched.")
    return found


def _is_marked(meta: Any) -> bool:
    return isinstance(meta, dict) and meta.get("_type") == "gradio.FileData"


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Hand over a body that was read, then what comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"detail": refusal.sentence, "error": refusal.sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.wait:
        headers.append((b"retry-after", str(math.ceil(refusal.wait)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
