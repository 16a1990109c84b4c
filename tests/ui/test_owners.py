"""Two visitors on one page: what is whose, what a link opens, and what is left of a run that was deleted."""

from __future__ import annotations

import asyncio
import gc
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import httpx
import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.errors import CheckpointError, UserError
from mtl.runs import owners
from mtl.runs.owners import Visitor
from mtl.runs.store import SHIPPED, Run, RunStore
from mtl.settings import settings
from mtl.ui import api, picker
from mtl.ui import context as shared
from mtl.ui.context import AppContext
from mtl.ui.runs import links
from mtl.ui.train import live, starting
from mtl.ui.train.result import download

NO_SUCH_RUN = r"^There is no such run\.$"
KEYS = tuple(f"share-{letter * 43}" for letter in "ab")
CHANGES: tuple[Callable[[AppContext, str, str], Any], ...] = (
    AppContext.open_own, AppContext.delete, starting.stop, starting.resume, links.make,
)  # fmt: skip
STRANGERS = ["", "theirs", KEYS[0], "login-x", "mine ", "\n", None, 3, ["mine"], {"token": "mine"}]


@pytest.fixture(autouse=True)
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers share the page."""
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """Make a server whose runs are elsewhere than the shipped one."""
    return AppContext(RunStore(tmp_path / "elsewhere", SHIPPED))


def made(context: AppContext, who: str = "mine") -> Run:
    lines = "\n".join(["text,topic", *(f"the sentence number {n},{'ab'[n % 2]}" for n in range(40))])
    run = context.store.create(RunConfig(), read_table(lines.encode()), token=who)
    run.set_status("done", "finished", "all epochs done")
    (run.path / "report.json").write_text('{"test": {}}')
    return run


@pytest.fixture
def run(context: AppContext) -> Run:
    """A finished run of the visitor whose secret is `mine`."""
    return made(context)


def test_visitor_sees_and_changes_their_own_run_alone(context: AppContext, run: Run) -> None:
    other = made(context, "another")
    assert [one.name for one in context.runs("mine")] == [run.name, "starter"]
    assert context.open(run.name, "mine").path == context.open_own(run.name, "mine").path == run.path
    assert context.shared("mine") == frozenset()
    for name, who in ((other.name, "mine"), *((run.name, stranger) for stranger in STRANGERS)):
        for door in (context.open, context.open_own, context.predictor, context.delete):
            with pytest.raises(CheckpointError, match=NO_SUCH_RUN):
                door(name, who)  # type: ignore[arg-type]


def test_link_lets_a_stranger_read_and_change_nothing(context: AppContext, run: Run) -> None:
    key = owners.share(run.path)
    for who in (key, f"theirs\n{key}"):
        assert context.open(run.name, who).path == run.path
        assert [one.name for one in context.runs(who)] == [run.name, "starter"]
        assert context.shared(who) == {run.name}
        for door in CHANGES:
            with pytest.raises(CheckpointError, match=NO_SUCH_RUN):
                door(context, run.name, who)
    assert context.shared(f"mine\n{key}") == frozenset(), "one's own run is not shared with one"
    owners.unshare(run.path)
    with pytest.raises(CheckpointError, match=NO_SUCH_RUN):
        context.open(run.name, key)
    assert run.path.exists()


def test_login_brings_the_runs_to_another_browser(context: AppContext) -> None:
    login = owners.login_secret(context.store.root, "person")
    run = made(context, str(Visitor("browser", login)))
    for who in (Visitor("browser"), Visitor("elsewhere", login)):
        assert context.open_own(run.name, str(who)).path == run.path
    with pytest.raises(CheckpointError, match=NO_SUCH_RUN):
        context.open(run.name, owners.login_secret(context.store.root, "another person"))


def test_page_of_ones_own_hides_nothing(context: AppContext, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PUBLIC", "0")
    settings.cache_clear()
    assert context.open_own(run.name, "").path == run.path
    assert context.shared("") == frozenset()


@pytest.mark.parametrize("is_public", ["0", "1"])
def test_shipped_run_is_nobodys_own(context: AppContext, is_public: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PUBLIC", is_public)
    settings.cache_clear()
    assert context.open("starter").has_checkpoint
    assert not context.is_own(context.open("starter"), "")
    assert context.shared("") == frozenset()
    for door in (context.open_own, context.delete):
        with pytest.raises(CheckpointError, match="came with the app"):
            door("starter", "")


def test_run_without_an_owner_is_nobodys_on_a_shared_page(context: AppContext) -> None:
    run = made(context, "")
    for who in ("", "anyone"):
        with pytest.raises(CheckpointError, match=NO_SUCH_RUN):
            context.open(run.name, who)
    assert [one.name for one in context.runs("")] == ["starter"]


def attached(context: AppContext, **given: Any) -> dict[str, Any]:
    found = live._attach(context, **{"kept": {"run": "", "token": "theirs"}} | given)
    return dict(zip(("run", "token", "kept", "timer", "seen", "keys", "linked"), found, strict=True))


def test_page_that_is_opened_with_a_link_shows_its_run_and_remembers_the_key(context: AppContext, run: Run) -> None:
    key = owners.share(run.path)
    found = attached(context, link={"run": run.name, "key": key})
    assert (found["linked"], found["keys"], found["run"]) == (run.name, [key], "")
    assert found["token"] == f"theirs\n{key}"
    assert found["kept"] == {"run": "", "token": "theirs"}, "what Start writes anew holds no keys"
    again = attached(context, keys=found["keys"])
    assert again["linked"] == ""
    assert context.open(run.name, again["token"]).path == run.path
    assert attached(context, keys=[key], link={"run": run.name, "key": key})["keys"] == [key]


def test_link_to_ones_own_run_needs_no_key(context: AppContext, run: Run) -> None:
    found = attached(context, kept={"token": "mine"}, link={"run": run.name})
    assert (found["linked"], found["keys"]) == (run.name, [])
    found = attached(context, kept={"token": "mine"}, link={"run": run.name, "key": KEYS[0]})
    assert (found["linked"], found["keys"]) == (run.name, []), "a key that opens nothing is not kept"


@pytest.mark.parametrize("key", ["", "mine ", "theirs", KEYS[0], "login-evil", f"{KEYS[0]}\nlogin-evil", "\nmine"])
def test_link_that_opens_nothing_changes_nothing(
    context: AppContext, run: Run, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", said.append)
    for name in (run.name, "never-was", "../elsewhere"):
        found = attached(context, link={"run": name, "key": key})
        assert (found["linked"], found["keys"], found["token"]) == ("", [], "theirs")
    assert len(said) == 3
    assert len(set(said)) == 1, "absent and foreign are told alike"


def test_link_does_not_make_its_maker_an_owner_of_what_the_reader_starts(context: AppContext, run: Run) -> None:
    """A key goes into what a visitor knows; it must not pass there for a secret of another kind."""
    key = owners.share(run.path)
    for evil in (f"{key}\nlogin-evil", "login-evil", f"login-evil\n{key}"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gr, "Warning", lambda words: None)
            reader = attached(context, keys=[evil], link={"run": run.name, "key": evil})["token"]
        theirs = made(context, reader)
        assert not owners.owns(theirs.path, "login-evil")
        assert owners.owns(theirs.path, "theirs")


@pytest.mark.parametrize("kept", [None, "x", [], {"run": 3, "token": None}, {"run": ["x"]}, {}])
def test_browser_that_remembers_nonsense_is_a_new_visitor(context: AppContext, kept: Any) -> None:
    found = attached(context, kept=kept, keys={"not": "a list"})
    assert len(found["token"]) >= 43
    assert found["run"] == ""


def test_run_that_a_reader_starts_is_remembered_without_their_keys(context: AppContext, run: Run) -> None:
    assert live._shown(run, str(Visitor("theirs", "login-x", KEYS)))[2] == {"run": run.name, "token": "theirs"}


def test_login_is_offered_where_there_is_one(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def offered(client: str, libraries: bool) -> int:
        buttons: list[Any] = []
        monkeypatch.setattr(gr, "LoginButton", lambda **options: buttons.append(options))
        monkeypatch.setattr(picker.importlib.util, "find_spec", lambda name: object() if libraries else None)
        monkeypatch.setenv("OAUTH_CLIENT_ID", client)
        picker._build_login()
        return len(buttons)

    assert [offered("", True), offered("id", True), offered("id", False)] == [0, 1, 0]
    assert "no login without authlib and itsdangerous" in caplog.text


def test_links_are_made_and_taken_back_by_the_owner_alone(context: AppContext, run: Run) -> None:
    query = links.make(context, run.name, "mine")
    asked = dict(parse_qsl(query.removeprefix("?")))
    assert asked["run"] == run.name
    for who in ("", "theirs", asked["key"]):
        with pytest.raises(CheckpointError, match=NO_SUCH_RUN):
            links.make(context, run.name, who)
    assert "test sentences" in links.about()


def guesses(context: AppContext) -> list[str]:
    """Names of 20 foreign runs, one of them shared, and 980 that never were, half of them close to a real one."""
    foreign = [made(context, f"owner {number}") for number in range(20)]
    owners.share(foreign[0].path)
    names = [run.name for run in foreign]
    return [
        *names,
        *(f"20261130-{100000 + number}-{secrets.token_hex(8)}" for number in range(490)),
        *(f"{names[number % 20][:-3]}{number:03x}" for number in range(490)),
    ]


def test_thousand_guessed_and_foreign_names_open_nothing(context: AppContext) -> None:
    doors: dict[str, Callable[[str, str], Any]] = {
        "read": context.open,
        "change": context.open_own,
        "stop": lambda name, who: starting.stop(context, name, who),
        "resume": lambda name, who: starting.resume(context, name, who),
        "answer": context.predictor,
        "delete": context.delete,
        "download": lambda name, who: download(context, name, who),
        "status": lambda name, who: api._status(context, name, who),
    }
    said: dict[str, int] = {}
    names = guesses(context)
    before = sorted(context.store.root.rglob("*"))
    for number, name in enumerate(names):
        who = ("mine", "", KEYS[0], f"mine\nlogin-guess\n{KEYS[1]}")[number % 4]
        for door in doors.values():
            try:
                door(name, who)
            except UserError as error:
                said[str(error)] = said.get(str(error), 0) + 1
    assert said == {"There is no such run.": 1_000 * len(doors)}
    assert sorted(context.store.root.rglob("*")) == before


@pytest.fixture
def url(context: AppContext) -> Iterator[str]:
    """A server with the endpoints alone."""
    with gr.Blocks() as demo:
        api.build(context)
    demo.queue(max_size=2_000)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, show_error=False, run_history=False)
    yield address
    demo.close()
    gc.collect()  # gradio leaves event loops and sockets to the collector: here, where nobody minds


async def _asked(url: str, questions: list[tuple[str, list[Any]]]) -> list[str]:
    """Ask the endpoints as `gradio_client` does; return the last event of each answer."""
    async with httpx.AsyncClient(base_url=f"{url}gradio_api/call", timeout=120) as client:
        places = asyncio.Semaphore(16)

        async def one(endpoint: str, data: list[Any]) -> str:
            async with places:
                event = (await client.post(f"/{endpoint}", json={"data": data})).json()["event_id"]
                return (await client.get(f"/{endpoint}/{event}")).text

        return await asyncio.gather(*(one(*question) for question in questions))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_guesses_over_http_get_one_and_the_same_answer(context: AppContext, url: str) -> None:
    endpoints = ("run_status", "stop_run", "run_report", "delete_run")
    names = guesses(context)[:200]  # all the foreign ones among them
    questions = [(endpoints[number % 4], [name, "theirs"]) for number, name in enumerate(names)]
    answers = asyncio.run(_asked(url, questions))
    assert len(answers) == 200
    assert set(answers) == {answers[0]}
    assert answers[0].startswith("event: error")
    foreign = made(context, "their own")
    key = owners.share(foreign.path)
    (shown,) = asyncio.run(_asked(url, [("run_status", [foreign.name, key])]))
    assert foreign.name in shown, "a key is taken in place of the token"
    changes = [(endpoint, [foreign.name, key]) for endpoint in ("stop_run", "delete_run", "resume_run")]
    assert set(asyncio.run(_asked(url, changes))) == {answers[0]}, "for reading alone"
    assert foreign.path.exists()


def test_absent_and_foreign_take_the_same_steps(context: AppContext, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    compare = owners.hmac.compare_digest

    def counting(left: str, right: str) -> bool:
        compared.append((left, right))
        return compare(left, right)

    monkeypatch.setattr(owners.hmac, "compare_digest", counting)
    counts = []
    for name in (run.name, "20261130-100000-0000000000000000", "../elsewhere", "", None):
        compared.clear()
        with pytest.raises(CheckpointError, match=NO_SUCH_RUN):
            context.open(name, str(Visitor("theirs", "login-x", KEYS)))  # type: ignore[arg-type]
        counts.append(len(compared))
    assert counts == [4] * 5, "browser, login and two keys, each compared with one hash"


def test_delete_leaves_nothing_of_the_run(context: AppContext, run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    served = tmp_path / "gradio"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(served))
    (run.path / "events.jsonl").touch()
    context.history(run)
    context._predictors[run.name, 1] = object()  # type: ignore[assignment]
    archives = download(context, run.name, "mine")
    copy, foreign = served / "abc" / Path(archives[0]).name, served / "abc" / "theirs-results.zip"
    copy.parent.mkdir(parents=True)
    for path in (copy, foreign):
        shutil.copy(archives[0], path)
    leftover = context.store.root / f".{run.name}.0badcafe.deleted"
    leftover.mkdir()
    (leftover / "data.csv").write_text("text")
    context.delete(run.name, "mine")
    assert list(context.store.root.iterdir()) == []
    assert not context._predictors
    assert run.name not in context._histories
    assert not any(path.exists() for path in (copy, *map(Path, archives)))
    assert not list(Path(shared._scratch().name).rglob(f"*{run.name}*"))
    assert foreign.exists()


def test_server_removes_at_its_start_what_an_earlier_one_had_not_deleted_to_the_end(tmp_path: Path) -> None:
    for name in (".20260101-000000-00.0badcafe.deleted", "20260101-000000-01"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("text")
    AppContext(RunStore(tmp_path, SHIPPED))
    assert [path.name for path in tmp_path.iterdir()] == ["20260101-000000-01"]
