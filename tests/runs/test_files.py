from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mtl.runs.files import append_record, atomic_file, atomic_folder, read_records, write_atomic, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_write_replaces_the_content(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "first, and longer")
    write_atomic(tmp_path / "a", "zweite Größe")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "zweite Größe"
    write_atomic(tmp_path / "a", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a"]


def test_files_write_that_fails_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("old", [None, b"old"])
def test_files_an_error_in_the_middle_leaves_what_was_there(tmp_path: Path, old: bytes | None) -> None:
    if old is not None:
        (tmp_path / "a").write_bytes(old)

    def fail() -> None:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"half of the n")
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        fail()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == ({} if old is None else {"a": old})


def test_files_readers_see_the_old_content_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with atomic_file(tmp_path / "a") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_files_json_refuses_nan_and_keeps_the_old_content(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"Größe": [1, None]})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"Größe": [1, None]}


def test_files_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "best") as new:
            (new / content).write_text(content)
            assert new != tmp_path / "best"
    assert names(tmp_path) == ["best"]
    assert names(tmp_path / "best") == ["second"]


def test_files_folder_keeps_the_old_one_on_an_error(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "best") as new:
        (new / "weights").write_text("old")

    def fail() -> None:
        with atomic_folder(tmp_path / "best") as new:
            (new / "weights").write_text("half of the n")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert (tmp_path / "best" / "weights").read_text() == "old"
    assert names(tmp_path) == ["best"]


def test_files_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_folder(tmp_path / "best") as new:
        (new / "weights").write_text("old")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.suffix == ".tmp":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    def replace() -> None:
        with atomic_folder(tmp_path / "best") as new:
            (new / "weights").write_text("new")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        replace()
    assert (tmp_path / "best" / "weights").read_text() == "old"
    assert names(tmp_path) == ["best"]


RECORDS: list[Any] = [{"a": 1}, [1.5, None, "x"], {"text": "two\nlines\r, \u2028 and \x85"}, {"Größe": "情感 🎈"}, {}]


def test_files_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    for record in RECORDS:
        append_record(tmp_path / "journal", record)
    assert read_records(tmp_path / "journal") == (RECORDS, (tmp_path / "journal").stat().st_size)


def test_files_journal_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    file, offset, found = tmp_path / "journal", 0, []
    for record in RECORDS:
        append_record(file, record)
        new, offset = read_records(file, offset)
        found += new
        assert read_records(file, offset) == ([], offset)
    assert found == RECORDS


def test_files_journal_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert read_records(tmp_path / "journal", 7) == ([], 7)


def test_files_journal_line_still_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    for record in RECORDS[:2]:
        append_record(file, record)
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        file.write_bytes(whole[:cut])
        assert read_records(file) == (RECORDS[:1], first)
    file.write_bytes(whole)
    assert read_records(file, first) == (RECORDS[1:2], len(whole))


def test_files_journal_is_read_up_to_a_damaged_line(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    for record in RECORDS:
        append_record(file, record)
    data = bytearray(file.read_bytes())
    second = data.index(b"\n") + 1
    data[second + 12] ^= 1
    file.write_bytes(data)
    assert read_records(file) == (RECORDS[:1], second)


def test_files_journal_refuses_nan(tmp_path: Path) -> None:
    append_record(tmp_path / "journal", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        append_record(tmp_path / "journal", {"loss": float("inf")})
    assert read_records(tmp_path / "journal")[0] == [{"loss": 1.0}]
