"""Every event of the page over raw HTTP, as a program would call it that means no good."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.runs.store import Run, RunStore
from mtl.settings import settings
from tests.ui.server import Server, serving

ENDPOINTS = {
    "embed", "similarity", "search", "topic", "sentiment", "entities", "predict",
    "inspect_csv", "start_run", "run_status", "stop_run", "resume_run", "runs",
    "run_report", "delete_run",
}  # fmt: skip
EXAMPLES = {"load_example"}  # Gradio's own: they put an example into a field
CANARY, SECRET = "canary-of-a-folder", "canary-of-the-environment"
OWN = b"canary in the data of a run"
FILE = {"meta": {"_type": "gradio.FileData"}}
HOSTILE: list[Any] = [
    "", " ", None, True, 0, -1, 3.7, 1e308, 2**63, "NaN", "x" * 2000, "../../../../etc/passwd", "/etc/passwd",
    "https://example.com/a.csv", "<img src=x onerror=alert(1)>", "\a\x1b[31m", "=1+1", [], ["a", "a"], [[1]], {},
    {"a": {"b": None}}, FILE | {"path": "/etc/passwd"}, FILE | {"path": "https://example.com/a.csv"}, "\ud800",
]  # fmt: skip
GOOD: dict[str, list[Any]] = {
    "embed": ["rain", "starter", ""],
    "similarity": ["rain", "snow", "starter", ""],
    "search": ["rain", "snow", 1, "starter", ""],
    "topic": ["rain", "", "starter", ""],
    "sentiment": ["rain", "mood", "starter", ""],
    "entities": ["rain", "", "starter", ""],
    "predict": ["rain", "starter", ""],
    "inspect_csv": [None],
    "start_run": [None, {}],
    "run_status": ["starter", ""],
    "stop_run": ["starter", ""],
    "resume_run": ["starter", ""],
    "runs": [""],
    "run_report": ["starter", ""],
    "delete_run": ["starter", ""],
}
# where an endpoint is told a text, a task, a run, a token and a configuration
NAMED = (("embed", 0), ("topic", 1), ("predict", 1), ("run_report", 0), ("runs", 0), ("start_run", 1))
WHOLE = os.environ.get("FUZZ_ALL") == "1"  # every field of every event with every value: some minutes


@pytest.fixture(scope="module")
def server(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a shared page, whose checkpoint is a tiny one, in a folder whose name must not be heard of."""
    folder = tmp_path_factory.mktemp(CANARY)
    shutil.copytree(finished_run.path, folder / "runs" / "starter")
    freely = {"MTL_EVENTS_PER_SECOND": "none", "MTL_UPLOAD_BYTES_PER_HOUR": "none", "MTL_LOG_JSON": "0"}
    with serving(folder, MTL_PROFILE="public", SOME_TOKEN=SECRET, **freely) as found:
        yield found


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PROFILE", "public")
    settings.cache_clear()


@pytest.fixture
def strangers_run(server: Server, tiny_csv_bytes: bytes) -> Iterator[Run]:
    """A run that is somebody else's, with a canary in its data."""
    table = read_table(tiny_csv_bytes + OWN + b" one,sports,good\n" + OWN + b" two,food,bad\n")
    store = RunStore(server.runs)
    run = store.create(RunConfig(), table, token="theirs")
    yield run
    store.discard(run)


def test_no_choice_is_dropped_while_the_one_before_is_answered(server: Server) -> None:
    may_drop = {"click", "submit", "tick", "clear", "success", "failure", "then"}
    modes: dict[str, set[str]] = {}
    for event in server.config["dependencies"]:
        names = {name for _, name in event["targets"]}
        if event["backend_fn"] and not names <= may_drop and names != {"load"}:
            modes.setdefault(event["trigger_mode"], set()).add(str(sorted(names)))
    assert set(modes) == {"always_last"}, modes


def test_a_double_click_is_one_press(server: Server) -> None:
    pressed = [event for event in server.config["dependencies"] if [name for _, name in event["targets"]] == ["click"]]
    assert len(pressed) > 20
    assert {event["trigger_mode"] for event in pressed} == {"once"}


def test_endpoints_are_exactly_the_named_ones(server: Server) -> None:
    events = server.config["dependencies"]
    named = {one["api_name"] for one in events if one["api_visibility"] == "public"}
    assert named == ENDPOINTS == set(GOOD)
    others = {one["api_name"].rstrip("_0123456789") for one in events if one["api_visibility"] == "undocumented"}
    assert others == EXAMPLES
    assert set(server.get("/gradio_api/info").json()["named_endpoints"]) == {f"/{name}" for name in ENDPOINTS}


def is_clean(said: dict[str, Any]) -> bool:
    """Say whether a person is told something: an answer, or a sentence that blames no fault of ours."""
    if "refusal" in said:
        return said["status"] in {400, 413, 422} and bool(said["refusal"])
    error = (said.get("output") or {}).get("error")
    return said["msg"] == "process_completed" and (
        said["success"] or (isinstance(error, str) and "our side" not in error and "Traceback" not in error)
    )


def attack(
    server: Server, event: dict[str, Any], good: list[Any], values: dict[int, list[Any]]
) -> tuple[int, list[Any]]:
    """Put hostile values into one field at a time; return how many requests, and those without a clean answer."""
    calls = [(field, value, [*good[:field], value, *good[field + 1 :]]) for field in values for value in values[field]]
    odd = []
    for start in range(0, len(calls), 50):  # the queue of a shared page takes a hundred
        part = calls[start : start + 50]
        said = server.call(event["id"], *(data for _, _, data in part))
        odd += [
            (event["api_name"], field, value, answer)
            for (field, value, _), answer in zip(part, said, strict=True)
            if not is_clean(answer)
        ]
    return len(calls), odd


def test_endpoints_answer_every_hostile_value_with_a_sentence(server: Server) -> None:
    """Put each of 25 values into each of the 41 parameters of the 15 endpoints: 1,025 requests."""
    sent, odd = 0, []
    for name, good in GOOD.items():
        event = next(one for one in server.config["dependencies"] if one["api_name"] == name)
        assert len(event["inputs"]) == len(good)
        number, found = attack(server, event, good, {field: HOSTILE for field in range(len(good))})
        sent, odd = sent + number, odd + found
    assert sent == 25 * 41 == len(HOSTILE) * sum(map(len, GOOD.values()))
    assert odd == [], f"{len(odd)} of {sent} requests without a clean answer"
    assert "Traceback" not in server.logged


def test_endpoints_of_the_page_itself_answer_hostile_values_with_a_sentence(server: Server) -> None:
    """Put a value into every field of every event that only the page uses; all 25 of them with FUZZ_ALL=1."""
    components = {one["id"]: one for one in server.config["components"]}
    sent, odd, fields = 0, [], 0
    for event in server.config["dependencies"]:
        if not event["backend_fn"] or event["api_name"] in ENDPOINTS:
            continue
        good = [components[one]["props"].get("value") for one in event["inputs"]]
        hit = [field for field, one in enumerate(event["inputs"]) if components[one]["type"] != "state"]
        chosen = {field: HOSTILE if WHOLE else [HOSTILE[(event["id"] + 7 * field) % len(HOSTILE)]] for field in hit}
        number, found = attack(server, event, good, chosen)
        sent, odd, fields = sent + number, odd + found, fields + len(hit)
    assert sent >= fields > 300
    assert odd == [], f"{len(odd)} of {sent} requests without a clean answer"
    assert "Traceback" not in server.logged


def paths(run: Run) -> list[str]:
    """List ways to name a file that is none of the visitor's business."""
    data, root = str(run.path / "data.csv"), Path(__file__).parents[2]
    near = os.path.relpath(data, root)
    return [
        data, near, f"./{near}", f"{root}/{near}", f"{root}/mtl/../{near}", f"//{data}", f"/.{data}", f"{data}/",
        f"{data}\0.csv",
        f"file://{data}", f"file:{data}", data.replace("/", "//"), data.replace("/", "\\"), data.replace("/", "%2f"),
        data.replace("/", "%252f"), data.replace(".csv", ".CSV"), f"{data}?x", f"{data}#x", f" {data}", f"{data} ",
        f"/proc/self/root{data}", "/proc/self/environ", "/proc/self/cwd/app.py", f"{run.path}/owner.json",
        f"{run.path}/config.yaml", f"{run.path}", "~/../../../proc/self/environ", "../" * 12 + data[1:], "app.py",
        "checkpoints/starter/../../app.py",
    ]  # fmt: skip


def test_endpoints_give_out_no_file_whatever_path_is_named(server: Server, strangers_run: Run) -> None:
    """Name 30 paths: to the routes of files, in every field that takes a file, and where a run or a text is named."""
    payloads = paths(strangers_run)
    assert len(payloads) == len(set(payloads)) == 30
    assert OWN in (strangers_run.path / "data.csv").read_bytes()
    mark = len(server.answers)
    for path in payloads:
        for route in (f"/gradio_api/file={path}", f"/gradio_api/file/{path}", f"/static/{path}", f"/assets/{path}"):
            answer = server.get(route.replace("\0", "%00").replace("#", "%23"))
            assert answer.status_code in {307, 400, 403, 404}, route
    components = {one["id"]: one for one in server.config["components"]}
    fields = []
    for event in server.config["dependencies"]:
        good = [components[one]["props"].get("value") for one in event["inputs"]]
        kinds = [components[one]["type"] for one in event["inputs"]]
        fields += [(event, good, field) for field, kind in enumerate(kinds) if kind in {"file", "uploadbutton"}]
    for event, good, field in fields:
        files: list[Any] = [FILE | {"path": path, "orig_name": "a.csv"} for path in payloads]
        said = server.call(event["id"], *[[*good[:field], file, *good[field + 1 :]] for file in files])
        assert all("refusal" in one or not one["success"] for one in said), event["api_name"]
    for name, field in NAMED:
        good = GOOD[name]
        server.call(server.event(name), *[[*good[:field], path, *good[field + 1 :]] for path in payloads])
    assert len(fields) >= 5
    heard = b"\n".join(server.answers[mark:])
    assert OWN not in heard
    assert SECRET.encode() not in heard
    assert b"def main() -> None" not in heard  # of app.py
    assert (strangers_run.path / "owner.json").read_bytes()[20:60] not in heard
    del server.answers[mark:]  # they name the folder, because the requests did


def test_endpoints_let_nobody_open_a_strangers_run(server: Server, strangers_run: Run) -> None:
    for token in ("", "mine", "x" * 43, "theirs "):
        for name in ("run_status", "stop_run", "resume_run", "run_report", "delete_run"):
            said = server.call(
                server.event(name), [strangers_run.name, token], ["20260101-000000-0000000000000000", token]
            )
            assert [one["output"]["error"] for one in said] == ["There is no such run."] * 2  # the same words
    assert strangers_run.status.state == "queued"


def test_endpoints_say_nothing_of_the_environment_or_the_folder_of_runs(server: Server) -> None:
    """Look through every answer of this module for two canaries; it comes last."""
    for path in ("/", "/config", "/gradio_api/info", "/healthz", "/gradio_api/startup-events"):
        server.get(path)
    heard = b"\n".join(server.answers)
    assert len(server.answers) > 2000, "the tests above were not run"
    assert heard.count(SECRET.encode()) == 0
    assert heard.count(CANARY.encode()) == 0, f"{len(server.answers)} answers"


def test_checkpoints_and_exports_say_nothing_of_the_folder_of_runs(finished_run: Run) -> None:
    folder = str(finished_run.path.parent).encode()
    files = [path for path in finished_run.path.rglob("*") if path.is_file() and path.name != "worker.log"]
    assert len(files) > 8
    assert [path.name for path in files if folder in path.read_bytes()] == []


def test_endpoints_serve_neither_a_run_nor_the_application_but_the_sample(server: Server) -> None:
    root = Path(__file__).parents[2]
    for path in (root / "checkpoints" / "starter" / "config.yaml", root / "mtl" / "settings.py", root / "README.md"):
        assert server.get(f"/gradio_api/file={path}").status_code == 403
    assert server.get(f"/gradio_api/file={root / 'data' / 'sample.csv'}").status_code == 200


def test_endpoints_take_an_upload_and_no_more_than_it_may_weigh(server: Server, tiny_csv_bytes: bytes) -> None:
    path = server.upload("tiny.csv", tiny_csv_bytes)
    [said] = server.call(server.event("inspect_csv"), [FILE | {"path": path, "orig_name": "tiny.csv"}])
    assert said["output"]["data"][0]["rows"] == 60
    most = settings().max_bytes
    answer = server.http.post("/gradio_api/upload", files={"files": ("big.csv", b"a" * (most + 1))})
    assert answer.status_code == 413


def test_endpoints_refuse_through_the_real_door(server: Server) -> None:
    for path in (
        "/monitoring/summary",
        "/gradio_api/deep_link?session_hash=a",
        "/openapi.json",
        "/gradio_api/queue/status",
    ):
        assert server.get(path).status_code == 404
    for path in ("/gradio_api/run/topic", "/gradio_api/api/topic", "/gradio_api/component_server"):
        assert server.post(path, {"data": ["rain", "", "starter", ""]}).status_code == 404
    assert server.post("/gradio_api/queue/join", b'{"data": [NaN]}').status_code == 400
    assert server.post("/gradio_api/queue/join", b" " * (settings().max_body_bytes + 1)).status_code == 413
    page = server.get("/")
    assert page.status_code == 200
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors" in page.headers["content-security-policy"]
    health = server.get("/healthz")
    assert (health.status_code, health.json()["status"]) == (200, "ok")


def test_endpoints_can_be_called_by_a_program_in_two_requests(server: Server) -> None:
    """Call as the README's `gradio_client` and `curl` do, which the closed routes must not have touched."""
    joined = server.post("/gradio_api/call/topic", {"data": ["the team won the race", "", "starter", ""]})
    answer = server.get(f"/gradio_api/call/topic/{joined.json()['event_id']}").text
    assert "event: complete" in answer
    assert set(json.loads(answer.split("data: ", 1)[1])[0][0]) == {"text", "label", "confidence", "probabilities"}
