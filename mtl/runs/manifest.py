"""What tells a folder that was written whole from one that was not: a manifest with the size and SHA-256 of each file.

A flipped bit loads silently from a safetensors file, so nothing is loaded before its checksum was computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl.errors import CheckpointError
from mtl.runs.files import json_text, write_json

MANIFEST = "manifest.json"


def seal(folder: Path, values: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> None:
    """Write the manifest of a folder that is complete.

    Args:
        folder: Its files are listed; it has no folders.
        values: What else the manifest says.
        known: File name -> size and sha256 of files that need not be read again.
    """
    known = known or {}
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    listed = {**values, "files": {name: known.get(name) or _entry(folder / name) for name in names}}
    write_json(folder / MANIFEST, listed | {"sha256": _own_sha256(listed)})


def read_manifest(folder: Path, title: str, formats: Sequence[int], *, sealed_since: int = 0) -> dict[str, Any]:
    """Read a manifest and check every file it lists.

    Args:
        folder: What was sealed.
        title: What it is called in a sentence, such as `The checkpoint of 2026…`.
        formats: Those that can be read, the newest last.
        sealed_since: The first format whose manifest vouches for itself, too.

    Raises:
        CheckpointError: It is missing, not readable or of another format, or a file is not what was written.
    """
    manifest = _read(folder, title)
    version = manifest.get("format")
    if "format" in manifest and (type(version) is not int or version not in formats):
        raise CheckpointError(f"{title} has format {version}; this version reads {formats[-1]} and older ones.")
    vouched = "sha256" in manifest or (version is not None and version < sealed_since)
    if version is None or not vouched or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{title} has no readable manifest; it is damaged.")
    for name, entry in manifest["files"].items():
        if Path(name).name != name or not isinstance(entry, dict) or not _is_whole(folder / name, entry):
            raise CheckpointError(f"{name} of {title[:1].lower()}{title[1:]} is damaged: its checksum does not match.")
    return manifest


def _read(folder: Path, title: str) -> dict[str, Any]:
    damaged = CheckpointError(f"{title} has no readable manifest; it is damaged.")
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        manifest = json.loads(text, object_pairs_hook=_without_doubles)
    except FileNotFoundError:
        raise CheckpointError(f"{title} is not there.") from None
    except (OSError, ValueError, RecursionError):
        raise damaged from None
    if not isinstance(manifest, dict):
        raise damaged
    if "sha256" in manifest:
        rest = {name: value for name, value in manifest.items() if name != "sha256"}
        if text != json_text(manifest) or manifest["sha256"] != _own_sha256(rest):
            raise damaged
    return manifest


def _own_sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_text(values).encode()).hexdigest()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that is there twice: two readers could take different values."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _is_whole(file: Path, entry: Mapping[str, Any]) -> bool:
    try:
        # the size first: a file that has grown enormous is not read
        return file.stat().st_size == entry.get("size") and sha256(file) == entry.get("sha256")
    except OSError:
        return False


def _entry(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": sha256(file)}


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
