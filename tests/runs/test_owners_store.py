"""Whose a run is, as its folder says it: secrets, logins and the keys of links."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.runs import owners
from mtl.runs.owners import Visitor
from mtl.runs.store import Run, RunStore

KEYS = tuple(f"share-{letter * 43}" for letter in "ab")
LINES = [f"the sentence number {number},{'ab'[number % 2]}" for number in range(40)]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Runs in a folder of the test's own."""
    return RunStore(tmp_path / "checkpoints")


def made(store: RunStore, who: str) -> Run:
    return store.create(RunConfig(), read_table("\n".join(["text,topic", *LINES]).encode()), token=who)


@pytest.mark.parametrize(
    "visitor",
    [
        Visitor(),
        Visitor("token"),
        Visitor("a secret of words"),
        Visitor("token", "login-x"),
        Visitor("", "login-x", KEYS),
        Visitor("token", "login-x", KEYS[:1]),
    ],
)
def test_visitor_is_the_same_after_the_journey_as_text(visitor: Visitor) -> None:
    assert Visitor.of(str(visitor)) == visitor


@pytest.mark.parametrize("text", [None, 3, [], {"token": "x"}, b"token", "\n\n", "", True])
def test_visitor_of_anything_else_knows_nothing(text: object) -> None:
    assert Visitor.of(text) == Visitor()


def test_visitor_who_sends_more_keys_than_are_kept_is_not_read_to_the_end() -> None:
    found = Visitor.of("mine\n" + "\n".join(f"share-{number:043}" for number in range(100_000)))
    assert found.token == "mine"
    assert len(found.keys) == owners.MOST_KEYS


@pytest.mark.parametrize(
    "value",
    ["", "x", "login-evil", f"{KEYS[0]}\n", f"{KEYS[0]}\nlogin-evil", f"login-{KEYS[0]}", KEYS[0][:-1], None, 3],
)
def test_link_cannot_slip_in_a_secret_of_another_kind(value: object) -> None:
    assert owners.valid_keys([value, KEYS[1]]) == KEYS[1:]
    assert owners.valid_keys(value) == ()


def test_run_belongs_to_the_browser_and_to_the_login(store: RunStore) -> None:
    run = made(store, str(Visitor("browser", "login-person")))
    for who in (Visitor("browser"), Visitor("other", "login-person"), Visitor("", "login-person")):
        assert owners.owns(run.path, str(who))
        assert owners.reads(run.path, str(who))
    for who in (
        Visitor(),
        Visitor("other"),
        Visitor("other", "login-other"),
        Visitor("login"),
        Visitor("x", "login-person "),
    ):
        assert not owners.owns(run.path, str(who))
        assert not owners.reads(run.path, str(who))


def test_key_that_a_visitor_holds_makes_nobody_an_owner_of_what_they_start(store: RunStore) -> None:
    key = owners.share(made(store, "someone").path)
    run = made(store, str(Visitor("browser", "", (key,))))
    assert not owners.reads(run.path, key)
    assert json.loads((run.path / "owner.json").read_text()).keys() == {"token_sha256"}


def test_run_of_a_visitor_with_keys_alone_is_nobodys(store: RunStore) -> None:
    run = made(store, KEYS[0])
    assert not owners.has_owner(run.path)
    assert not owners.reads(run.path, KEYS[0])


def test_key_opens_its_run_to_be_read_until_sharing_stops(store: RunStore) -> None:
    run, other = made(store, "mine"), made(store, "mine")
    assert not owners.is_shared(run.path)
    first, second = owners.share(run.path), owners.share(run.path)
    assert first != second
    assert len(first) >= 43, "256 bits, as text"
    for key in (first, second, f"theirs\n{first}"):
        assert owners.reads(run.path, key)
        assert not owners.owns(run.path, key)
        assert not owners.reads(other.path, key)
    kept = (run.path / "share.json").read_bytes()
    assert not any(key.encode() in kept for key in (first, second))
    assert owners.is_shared(run.path)
    owners.unshare(run.path)
    owners.unshare(run.path)
    assert not owners.is_shared(run.path)
    assert not owners.reads(run.path, first)
    assert owners.owns(run.path, "mine")


def test_links_of_a_run_do_not_grow_without_end(store: RunStore) -> None:
    run = made(store, "mine")
    keys = [owners.share(run.path) for _ in range(owners.MOST_KEYS + 2)]
    assert [owners.reads(run.path, key) for key in keys] == [False] * 2 + [True] * owners.MOST_KEYS


DAMAGED: list[Any] = [
    "", "{", "[]", "null", "3", '"x"', "{}", '{"token_sha256": null}', '{"token_sha256": "é"}', '{"token_sha256": ""}',
    '{"token_sha256": "mine"}', '{"keys_sha256": [[]]}', '{"keys_sha256": ["", null, 3]}',
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("file", ["owner.json", "share.json"])
def test_damaged_file_opens_to_nobody(store: RunStore, file: str, content: str) -> None:
    run = made(store, "mine")
    (run.path / file).write_text(content)
    for who in ("", "theirs", KEYS[0], "é", "\ud800", "login-x"):
        assert not owners.owns(run.path, who)
        assert not owners.reads(run.path, who)
    assert owners.owns(run.path, "mine") == (file == "share.json")
    assert not run.owned_by("theirs")


def test_absent_run_is_nobodys(store: RunStore) -> None:
    for who in ("", "mine", KEYS[0]):
        assert not owners.reads(store.root / "never-was", who)


def test_owners_file_of_earlier_runs_is_still_understood(store: RunStore) -> None:
    run = made(store, "")
    digest = "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4"
    (run.path / "owner.json").write_text(json.dumps({"token_sha256": digest}))
    assert owners.owns(run.path, "old")
    assert not owners.owns(run.path, digest)


def test_login_is_one_secret_per_person_and_server(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    first = owners.login_secret(one, "person")
    assert first == owners.login_secret(one, "person")
    assert len({first, owners.login_secret(one, "another"), owners.login_secret(other, "person")}) == 3
    assert "person" not in first
    assert Visitor.of(first) == Visitor(login=first)
    assert stat.S_IMODE((one / ".secret").stat().st_mode) == 0o600
    assert [path.name for path in one.iterdir()] == [".secret"]


def test_login_secret_that_is_torn_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".secret").write_bytes(b"short")
    assert owners.login_secret(tmp_path, "person") == owners.login_secret(tmp_path, "person")
    assert len((tmp_path / ".secret").read_bytes()) == 32


def test_login_counts_for_nothing_where_no_secret_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    assert owners.login_secret(tmp_path, "person") == ""
    assert "Read-only file system" in caplog.text


def test_server_secret_is_not_among_the_runs(store: RunStore) -> None:
    owners.login_secret(store.root, "person")
    assert store.list() == []
