"""Writing that is whole or not at all, and a journal whose torn tail is recognised."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtl.errors import DataError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file: readers see the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically; NaN is refused, since JSON has none."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    """Write a table atomically.

    Raises:
        DataError: The file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    try:
        write_atomic(path, text.getvalue())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {str(error.strerror).lower()}.") from None


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Fill a new folder, then put it in the place of the old one; on an error the old one stays."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        _sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    for line in data.splitlines(keepends=True):
        text = line[9:].rstrip(b"\n")
        if not line.endswith(b"\n") or line[:8] != f"{zlib.crc32(text):08x}".encode():
            break
        records.append(json.loads(text))
        offset += len(line)
    return records, offset
