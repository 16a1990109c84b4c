"""Whose a run is: its owner's secrets, and the keys of the links by which others may read it.

What a visitor knows travels as one text, a line for each secret: the one their browser keeps, the one their login
stands for, and the keys of the links they opened. On disk there are only hashes, in the run's own folder. A question
takes the same steps whether the run is there or not, so an answer's time tells no more than its words.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mtl.runs.files import write_json

log = logging.getLogger(__name__)
OWNER, SHARED, SERVER = "owner.json", "share.json", ".secret"
MOST_KEYS, MOST_CHARACTERS = 20, 4_096
_KEY, _LOGIN = "share-", "login-"
_BYTES = 32
_KEY_WRITTEN = re.compile(f"{_KEY}[A-Za-z0-9_-]{{43}}")
_SHA256 = re.compile("[0-9a-f]{64}")
_NOBODY = (hashlib.sha256(secrets.token_bytes(_BYTES)).hexdigest(),)
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Visitor:
    """What a visitor knows.

    Attributes:
        token: The secret that the browser keeps.
        login: The secret that the login stands for; it never leaves the server.
        keys: Of the links that were opened, the newest last.
    """

    token: str = ""
    login: str = ""
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: object) -> Visitor:
        """Read what `str` of a visitor wrote; anything may be given, since anyone may send it."""
        lines = text[:MOST_CHARACTERS].split("\n") if isinstance(text, str) else []
        return cls(
            token=next((line for line in lines if not line.startswith((_KEY, _LOGIN))), ""),
            login=next((line for line in lines if line.startswith(_LOGIN)), ""),
            keys=valid_keys(lines),
        )

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.token, self.login, *self.keys)))


def valid_keys(values: object) -> tuple[str, ...]:
    """Keep what looks like a key, the newest ones: a link must not slip a secret of another kind into what is known."""
    given = values if isinstance(values, list | tuple) else ()
    return tuple(one for one in given if isinstance(one, str) and _KEY_WRITTEN.fullmatch(one))[-MOST_KEYS:]


def new_token() -> str:
    """Make the secret that a browser is to keep."""
    return secrets.token_urlsafe(_BYTES)


def login_secret(root: Path, subject: str) -> str:
    """Return the secret that a login stands for, the same on every day and from every browser.

    Args:
        root: The folder of the runs; the server's own secret lies in it.
        subject: The id that the provider never gives to another person.

    Returns:
        Empty if the server's secret can be neither read nor kept: the visitor is then known by their browser alone.
    """
    try:
        secret = _server_secret(root)
    except OSError as error:
        log.warning("a login cannot be told apart: %s", error.strerror)
        return ""
    return _LOGIN + hmac.new(secret, subject.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def _server_secret(root: Path) -> bytes:
    path = root / SERVER
    with _LOCK:
        found = path.read_bytes() if path.exists() else b""
        if len(found) == _BYTES:
            return found
        root.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{SERVER}.{secrets.token_hex(4)}.tmp")
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(made := secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return made


def give(folder: Path, who: str) -> None:
    """Make a run the visitor's: their browser's and their login's. Nobody's, if they have neither."""
    visitor = Visitor.of(who)
    known = {"token_sha256": visitor.token, "login_sha256": visitor.login}
    if any(known.values()):
        write_json(folder / OWNER, {name: _sha256(secret) for name, secret in known.items() if secret})


def has_owner(folder: Path) -> bool:
    """Say whether the run is somebody's; one made at the command line, for example, is not."""
    return (folder / OWNER).exists()


def owns(folder: Path, who: str) -> bool:
    """Say whether a run is this visitor's."""
    visitor = Visitor.of(who)
    return _is_among(_read(folder / OWNER), (visitor.token, visitor.login))


def reads(folder: Path, who: str) -> bool:
    """Say whether a visitor may look at a run: it is theirs, or they have the key of a link to it."""
    own, shared = owns(folder, who), _is_among(_read(folder / SHARED), Visitor.of(who).keys)
    return own or shared


def share(folder: Path) -> str:
    """Make a key by which a run may be read; those made before go on to open it, the newest ones."""
    key = _KEY + secrets.token_urlsafe(_BYTES)
    with _LOCK:
        known = [*_read(folder / SHARED), _sha256(key)]
        write_json(folder / SHARED, {"keys_sha256": known[-MOST_KEYS:]})
    return key


def unshare(folder: Path) -> None:
    """Let no key open the run any more."""
    (folder / SHARED).unlink(missing_ok=True)


def is_shared(folder: Path) -> bool:
    """Say whether there is a key by which the run may be read."""
    return bool(_read(folder / SHARED))


def _read(path: Path) -> list[str]:
    """Read the hashes of a file; one that is damaged holds none, so that it opens to nobody."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    values = found.values() if isinstance(found, dict) else ()
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, str) and _SHA256.fullmatch(one)]


def _is_among(known: Iterable[str], given: Iterable[str]) -> bool:
    """Compare every secret with every hash, to the end: how long it takes says nothing about what they are."""
    known, found = tuple(known) or _NOBODY, False
    for secret in given:
        digest = _sha256(secret)
        for one in known:
            found |= hmac.compare_digest(digest, one) and bool(secret)
    return found


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
