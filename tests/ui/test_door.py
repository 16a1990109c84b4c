"""The door without Gradio behind it: what is let in, what is refused, and the headers of every answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from mtl.settings import settings
from mtl.ui import budgets, door
from mtl.ui.budgets import Budget, Held, client_of
from mtl.ui.door import Guard

JOIN = "/gradio_api/queue/join"
CLOSED = [
    "/monitoring", "/monitoring/summary", "/gradio_api/run/topic", "/gradio_api/run/topic/", "/gradio_api/api/topic",
    "/run/topic", "/api/topic", "/api/predict/", "/gradio_api/deep_link", "/gradio_api/component_server",
    "/gradio_api/component_server/", "/gradio_api/proxy=https://example.com", "/gradio_api/file=http://example.com/",
    "/gradio_api/file=https://example.com/a.csv", "/gradio_api/file=HTTPS:/example.com", "/gradio_api/file= ftp://a/b",
    "/gradio_api/file/etc/passwd", "/gradio_api/openapi.json", "/openapi.json", "/docs", "/redoc",
    "/gradio_api/stream/abc", "/gradio_api/process_recording", "/gradio_api/vibe-edit", "/gradio_api/vibe-code",
    "/gradio_api/dev/reload", "/gradio_api/queue/status", "/gradio_api/runs", "/gradio_api/run-history/records",
    "/gradio_api/profiling/traces", "/gradio_api/mcp/schema", "/gradio_api/user", "/gradio_api/token", "/login",
    "/logout", "/custom_component/a/b/c/d", "/gradio_api/custom_component/a/b/c/d", "/app.py", "/.git/config",
    "/checkpoints/starter/config.yaml", "/gradio_api", "/gradio_api/", "//", "/gradio_api/call/topic",
]  # fmt: skip
OPEN = [
    "/", "/config", "/healthz", "/theme.css", "/gradio_api/info", "/gradio_api/heartbeat/abc", "/assets/index.js",
    "/static/fonts/a.woff2", "/favicon.ico", "/gradio_api/queue/data", "/gradio_api/file=/srv/gradio/a/b.csv",
    "/gradio_api/file=C:/temp/gradio/b.csv", "/gradio_api/call/topic/123", "/gradio_api/upload_progress",
]  # fmt: skip


class Inside:
    """What stands behind the door: it remembers what came in, and answers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the whole body and say yes."""
        body, more = b"", True
        while more and scope["method"] == "POST":
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        headers = [(b"content-type", b"text/plain"), (b"referrer-policy", b"unsafe-url")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"yes"})


class Visitor:
    """Somebody who asks."""

    def __init__(self, guard: Guard, inside: Inside) -> None:
        self.guard, self.inside = guard, inside

    def ask(
        self, path: str, *chunks: bytes, method: str = "", client: str = "203.0.113.7", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Send a request, its body in these pieces; return status, headers and body."""
        waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        asked = method or ("POST" if chunks else "GET")
        scope = {"type": "http", "method": asked, "path": path, "headers": named, "client": (client, 1)}
        sent: list[Any] = []

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.guard(scope, receive, send))
        answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(part.get("body", b"") for part in sent[1:]).decode()

    def status(self, path: str, *chunks: bytes, **rest: str) -> int:
        """Send a request; return its status."""
        return self.ask(path, *chunks, **rest)[0]


def arrive() -> Visitor:
    settings.cache_clear()
    inside = Inside()
    return Visitor(Guard(inside), inside)


@pytest.fixture(params=["local", "public"])
def visitor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    """Somebody at a page of either profile."""
    monkeypatch.setenv("MTL_PROFILE", request.param)
    return arrive()


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Visitor:
    """Somebody at a shared page."""
    monkeypatch.setenv("MTL_PROFILE", "public")
    return arrive()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that the test moves on."""
    now = [1000.0]
    given = budgets.Budget
    monkeypatch.setattr(door, "Budget", lambda rate, size: given(rate, size, lambda: now[0]))
    yield now


def payload(*data: Any) -> bytes:
    return json.dumps({"data": data, "fn_index": 3, "session_hash": "s"}).encode()


def test_door_is_closed_where_the_page_needs_nothing(visitor: Visitor) -> None:
    for path in CLOSED:
        assert visitor.status(path) == 404, path
    for path in [*CLOSED[:-1], "/", "/config", "/gradio_api/file=/srv/a", "/gradio_api/queue/data", "/healthz"]:
        assert visitor.status(path, b"{}") == 404, path
    assert visitor.inside.bodies == [], f"{len(CLOSED)} closed addresses, none of them reached"


def test_door_is_open_where_the_page_and_programs_ask(visitor: Visitor) -> None:
    assert [visitor.status(path) for path in OPEN] == [200] * len(OPEN)
    for path in (
        JOIN,
        "/gradio_api/call/topic",
        "/gradio_api/call/v2/topic",
        "/gradio_api/cancel",
        "/gradio_api/reset",
    ):
        assert visitor.status(path, payload("a")) == 200, path
    reached = len(visitor.inside.bodies)
    assert visitor.status("/", method="HEAD") == 200
    assert len(visitor.inside.bodies) == reached, "whether there is a page is said without drawing it"
    assert visitor.status("/", method="DELETE") == visitor.status(JOIN, payload(), method="PUT") == 404


def test_door_hands_over_exactly_what_was_sent(visitor: Visitor) -> None:
    body = payload("Grüße 😀 at https://example.com?a=1", {"training": {"epochs": 1}}, [1.5, None])
    assert visitor.status(JOIN, body[:7], body[7:30], body[30:]) == 200
    assert visitor.inside.bodies == [body]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"data": [NaN]}', "no number NaN"),
        (b'{"data": [Infinity]}', "no number Infinity"),
        (b'{"data": [-Infinity]}', "no number -Infinity"),
        (b'{"data": [1e999]}', "too large"),
        (b'{"data": [1], "data": [2]}', "twice"),
        (b'{"data": ["\\ud800"]}', "half of a character"),
        (b'{"data": [{"\\udc00": 1}]}', "half of a character"),
        (b'{"data": ["a\\u0000b"]}', "NUL"),
        (b'{"data": [' + b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"data=1", "not JSON"),
    ],
)
def test_door_refuses_what_is_no_proper_json(visitor: Visitor, body: bytes, sentence: str) -> None:
    status, _, said = visitor.ask(JOIN, body)
    assert status == 400
    assert sentence in json.loads(said)["detail"]
    assert visitor.inside.bodies == []


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS", "ftp", "file", "gopher", "s3", "hf", " https", "data+x"])
@pytest.mark.parametrize("marked", [True, False])
def test_door_fetches_no_file_for_anyone(visitor: Visitor, scheme: str, marked: bool) -> None:
    file = {"path": f"{scheme}://169.254.169.254/latest"}
    file |= {"meta": {"_type": "gradio.FileData"}, "extra": 1} if marked else {"orig_name": "a.csv"}
    for data in (file, [file], {"deep": [{"er": file}]}):
        status, _, said = visitor.ask(JOIN, payload("text", data))
        assert (status, "must be uploaded" in said) == (400, True)
    assert visitor.inside.bodies == []


@pytest.mark.parametrize(
    "data",
    [
        "see https://example.com/a.csv",
        {"path": "/srv/gradio/1/a.csv", "url": "http://127.0.0.1:7860/gradio_api/file=/srv/gradio/1/a.csv",
         "meta": {"_type": "gradio.FileData"}},
        {"path": "C:/temp/gradio/a.csv", "meta": {"_type": "gradio.FileData"}},
        {"tasks": {"topic": {"merge": {"path": "https://example.com", "other": "b"}}}},
        ["https://a.b", {"text": "ftp://c.d"}],
    ],
)  # fmt: skip
def test_door_lets_addresses_in_a_persons_text_pass(visitor: Visitor, data: Any) -> None:
    assert visitor.status(JOIN, payload(data)) == 200


def test_door_counts_the_bytes_that_come_whatever_was_announced(stranger: Visitor) -> None:
    most = settings().max_body_bytes
    body = payload("x" * (most - len(payload(""))))
    assert len(body) == most
    assert stranger.status(JOIN, body) == 200
    chunks = [b" " * 1000] * (most // 1000 + 1)
    status, _, said = stranger.ask(JOIN, *chunks, content_length="10")
    assert status == 413
    assert f"at most {most:,} bytes" in said
    assert len(stranger.inside.bodies) == 1


def test_door_takes_a_thousand_long_texts_at_a_persons_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PROFILE", "local")
    assert arrive().status(JOIN, json.dumps({"data": [["ü" * 10_000] * 100]}).encode()) == 200
    assert 1_000 * 10_000 * len("\\u00fc") < settings().max_body_bytes


def test_door_gives_a_body_a_time_to_come(stranger: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BODY_SECONDS", 0.01)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": JOIN, "headers": [], "client": ("203.0.113.7", 1)}
    asyncio.run(stranger.guard(scope, never, send))
    assert sent[0]["status"] == 408


def test_door_has_no_web_socket(visitor: Visitor) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(visitor.guard({"type": "websocket", "path": JOIN}, send, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_door_adds_security_headers_to_answers_and_refusals(visitor: Visitor) -> None:
    for path in ("/", "/monitoring"):
        _, headers, _ = visitor.ask(path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'self'"
        assert policy["object-src"] == "'none'"
        parents = "'self' https://huggingface.co https://*.hf.space" if settings().public else "'self'"
        assert policy["frame-ancestors"] == parents
        assert "http:" not in headers["content-security-policy"].replace(policy["frame-ancestors"], "")
    _, headers, _ = visitor.ask("/gradio_api/file=/srv/gradio/page.html")
    assert "sandbox" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("site", "local"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_door_lets_no_other_web_page_use_a_persons_machine(
    monkeypatch: pytest.MonkeyPatch, site: str, local: int
) -> None:
    for profile, expected in (("local", local), ("public", 200)):
        monkeypatch.setenv("MTL_PROFILE", profile)
        found = arrive()
        assert found.status(JOIN, payload(), sec_fetch_site=site) == expected
        assert found.status("/gradio_api/upload", b"x", content_length="1", sec_fetch_site=site) == expected


def test_door_slows_down_who_asks_too_often(clock: list[float], stranger: Visitor) -> None:
    burst, rate = settings().events_burst, settings().events_per_second
    assert rate is not None
    assert [stranger.status(JOIN, payload()) for _ in range(burst)] == [200] * burst
    status, headers, said = stranger.ask(JOIN, payload())
    assert (status, headers["retry-after"]) == (429, "1")
    assert "wait a few seconds" in said
    assert stranger.status(JOIN, payload(), client="203.0.113.8") == 200
    assert stranger.status("/assets/index.js") == stranger.status("/healthz") == 200
    clock[0] += 2
    assert [stranger.status(JOIN, payload()) for _ in range(int(2 * rate) + 1)] == [200] * int(2 * rate) + [429]


def test_door_keeps_a_budget_of_uploads(clock: list[float], stranger: Visitor) -> None:
    whole = settings().upload_bytes_per_hour
    assert whole is not None
    upload = "/gradio_api/upload"
    assert stranger.status(upload, b"x", content_length=str(whole)) == 200
    status, headers, said = stranger.ask(upload, b"x", content_length=str(whole // 2))
    assert status == 429
    assert "about 30 min" in said
    assert 1790 < int(headers["retry-after"]) <= 1800
    assert stranger.status(upload, b"x", content_length=str(whole), client="203.0.113.8") == 200
    clock[0] += 1801
    assert stranger.status(upload, b"x", content_length=str(whole // 2)) == 200
    assert stranger.status(upload, b"x") == stranger.status(upload, b"x", content_length="-5") == 411


def test_door_keeps_a_budget_of_all_uploads_together(clock: list[float], stranger: Visitor) -> None:
    whole = str(settings().upload_bytes_per_hour)
    upload = "/gradio_api/upload"
    taken = [stranger.status(upload, b"x", content_length=whole, client=f"203.0.113.{n}") for n in range(21)]
    assert taken == [200] * door.ALL_UPLOADS + [429]


def test_door_has_no_budgets_at_a_persons_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PROFILE", "local")
    found = arrive()
    assert {found.status(JOIN, payload()) for _ in range(500)} == {200}
    assert found.status("/gradio_api/upload", b"x", content_length=str(10**12)) == 200


def test_door_limits_the_answers_that_one_client_holds_open(stranger: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hold() -> list[int]:
        release, statuses = asyncio.Event(), []

        async def inside(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await release.wait()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        stranger.guard.app = inside
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/gradio_api/queue/data",
            "headers": [],
            "client": ("1.1.1.1", 1),
        }
        waiting = [asyncio.create_task(stranger.guard(dict(scope), send, send)) for _ in range(4)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*waiting)
        await stranger.guard(dict(scope), send, send)
        return statuses

    monkeypatch.setattr(stranger.guard, "_streams", Held(3))
    assert asyncio.run(hold()) == [200, 200, 200, 429, 200]
    assert len(stranger.guard._streams) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("proxies", "skip_private", "forwarded", "expected"),
    [
        (0, False, "6.6.6.6", "10.0.0.9"),  # nobody in front: the header is the client's own invention
        (1, False, "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        (1, False, "203.0.113.7", "203.0.113.7"),
        (1, False, "6.6.6.6, 192.168.1.5", "192.168.1.5"),  # an own network: its people have private addresses
        (2, False, "6.6.6.6, 203.0.113.7, 203.0.113.200", "203.0.113.7"),
        (2, False, "203.0.113.7", "10.0.0.9"),  # it did not come through both
        (1, True, "6.6.6.6, 8.8.4.4, 10.16.1.1", "8.8.4.4"),
        (1, True, "10.1.1.1", "10.1.1.1"),
        (1, True, "", "10.0.0.9"),
        (1, False, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, False, "<script>", "unknown"),
        (1, False, "x" * 5000, "unknown"),
    ],
)
def test_client_is_who_the_proxy_saw(proxies: int, skip_private: bool, forwarded: str, expected: str) -> None:
    scope = {"client": ("10.0.0.9", 1), "headers": [(b"x-forwarded-for", forwarded.encode())] if forwarded else []}
    assert client_of(scope, proxies=proxies, skip_private=skip_private) == expected


def test_budget_remembers_only_so_many_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MOST_CLIENTS", 50)
    budget = Budget(1, 2, lambda: 0.0)
    for number in range(1000):
        assert budget.take(str(number)) == 0
    assert len(budget) == 50


def test_budget_never_holds_more_than_its_size_and_takes_nothing_when_it_refuses() -> None:
    now = [0.0]
    budget = Budget(2, 10, lambda: now[0])
    assert budget.take("a", 10) == 0
    now[0] = 1000
    assert budget.take("a", 11) == 0.5  # more than it can ever hold
    assert budget.take("a", 10) == 0
    assert budget.take("a", 4) == 2
    now[0] += 2
    assert budget.take("a", 4) == 0


def test_door_lets_a_login_pass_where_there_is_one(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["/login/huggingface", "/login/callback", "/logout"]
    monkeypatch.delenv("OAUTH_CLIENT_ID", raising=False)
    assert [visitor.status(address) for address in asked] == [404] * 3
    monkeypatch.setenv("OAUTH_CLIENT_ID", "an id")
    assert [visitor.status(address) for address in asked] == [200] * 3
    assert visitor.status("/login") == 404
