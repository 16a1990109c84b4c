"""Writing that is whole or not at all, and a journal whose torn tail is recognised."""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from mtl.data.writing import write_json_lines, write_spreadsheet
from mtl.errors import DataError

# What the system says, in English and in plain words.
NOT_WRITTEN = {
    errno.ENOSPC: ("No space left on device", "the disk is full"),
    errno.EDQUOT: ("Disk quota exceeded", "the quota of the disk is used up"),
    errno.EROFS: ("Read-only file system", "its folder can only be read"),
    errno.EACCES: ("Permission denied", "its folder may not be written"),
    errno.EIO: ("Input/output error", "the disk reports an error"),
}


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes the place of the old one when it is complete: readers see the old content or the new."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file's content, whole or not at all."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically."""
    write_atomic(path, json_text(value))


def json_text(value: Any) -> str:
    """Return the one text of a value in a JSON file; NaN is refused, since JSON has none."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table for a person's spreadsheet, atomically; see `mtl.data.writing`.

    Raises:
        DataError: The file cannot be written.
    """
    with _text_file(path) as file:
        write_spreadsheet(file, header, rows)


def distinct_names(names: Iterable[str]) -> list[str]:
    """Give a name that was there before a number, since no two columns of a table that leaves us may share one.

    >>> distinct_names(["text", "topic", "text"])
    ['text', 'topic', 'text (2)']
    """
    found: dict[str, None] = {}
    for name in names:
        free, number = name, 2
        while free in found:
            free, number = f"{name} ({number})", number + 1
        found[free] = None
    return list(found)


@contextmanager
def write_twins(
    path: Path, *, sources: Iterable[Path] = ()
) -> Iterator[Callable[[Sequence[str], Sequence[Sequence[Any]]], None]]:
    """Write rows as they come to a CSV file and to its exact twin, the same name with `.jsonl`.

    A path that ends in `.jsonl` is the twin alone. Nothing is there until the block ends without an error.

    Args:
        path: The CSV file.
        sources: A person's own files; nothing is written over one of them.

    Yields:
        A function that writes some rows below a header; the header is written once.

    Raises:
        DataError: A file cannot be written, or is one of the sources.
    """
    exact = path.parent / f"{path.stem}.jsonl"  # `with_suffix` has no sentence for a folder such as `.`
    targets = {path.resolve(), exact.resolve()}
    if source := next((source for source in sources if source.resolve() in targets), None):
        raise DataError(f"This would take the place of {source}; give another file to write.")
    started = False
    with ExitStack() as files:
        table = files.enter_context(_text_file(path)) if path.suffix != ".jsonl" else None
        lines = files.enter_context(_text_file(exact))

        def write(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
            nonlocal started
            if table:
                write_spreadsheet(table, None if started else header, rows)
            write_json_lines(lines, header, rows)
            started = True

        yield write


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    if path.is_dir():  # now, not when all the work is done
        raise DataError(f"{path} cannot be written: it is a folder.")
    try:
        with atomic_file(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            yield text
            text.flush()
            text.detach()
    except OSError as error:
        raise DataError(f"{path} cannot be written: {str(error.strerror).lower()}.") from None


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Fill a new folder, then put it in the place of the old one; on an error the old one stays.

    A process that dies between the two renames leaves the old one under a hidden name, where `mend` finds it.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        try:
            sync(target.parent)
        finally:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def mend(folder: Path) -> None:
    """Clear away what a process that died has left in a folder; nobody may be writing there.

    What was about to be replaced comes back if its successor did not get into its place.
    """
    for left in sorted(folder.glob(".*.old")):
        target = folder / left.name[1:].rpartition(".old")[0].rpartition(".")[0]
        if target.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.rename(target)
    for left in folder.glob(".*.tmp"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def why_not_written(error: BaseException) -> str:
    """Say why the disk did not take something; empty if that is not what went wrong.

    Libraries and our own sentences wrap the system's error, so the words and what came before are looked at too.
    """
    for cause in (error, error.__context__):
        number = cause.errno if isinstance(cause, OSError) else None
        for known, (words, reason) in NOT_WRITTEN.items():
            if number == known or (number is None and words in str(cause)):
                return reason
    return ""


def append_record(path: Path, value: Any) -> None:
    """Append one line to a journal: the CRC-32 of the JSON text, a blank, the JSON text."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(f"{zlib.crc32(text.encode()):08x} {text}\n")


def read_records(path: Path, offset: int = 0) -> tuple[list[Any], int]:
    """Read a journal from a byte offset.

    Returns:
        The records whose checksum is right, up to the first that is not (a line still being written), and the
        offset after them.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    records: list[Any] = []
    for record, size in _lines(data):
        records.append(record)
        offset += size
    return records, offset


def cut_records(path: Path, count: int) -> list[Any]:
    """Keep the first records of a journal and drop the rest, a torn line among it.

    Returns:
        The records that are left: `count`, or fewer if it did not have so many.
    """
    data = path.read_bytes() if path.exists() else b""
    kept, end = [], 0
    for record, size in islice(_lines(data), count):
        kept.append(record)
        end += size
    if end < len(data):
        os.truncate(path, end)
        sync(path)
    return kept


def _lines(data: bytes) -> Iterator[tuple[Any, int]]:
    """Yield each record and the bytes of its line, up to the first that is not whole."""
    for line in data.splitlines(keepends=True):
        text = line[9:].rstrip(b"\n")
        if not line.endswith(b"\n") or line[:8] != f"{zlib.crc32(text):08x}".encode():
            return
        yield json.loads(text), len(line)
