"""How much one client may ask for: token buckets by address, in a table that cannot grow without end."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

MOST_CLIENTS = 10_000
NOBODY = "unknown"


class Budget:
    """A token bucket for each client: `size` at once, `rate` a second in the long run.

    Args:
        rate: What comes back, a second.
        size: What a client that did nothing has.
        clock: Seconds that never go backwards; for tests.
    """

    def __init__(self, rate: float, size: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._size, self._clock = rate, size, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._levels)

    def take(self, client: str, amount: float = 1) -> float:
        """Take from a client's bucket.

        Returns:
            0 if it was there; else nothing is taken, and the seconds until it is.
        """
        now = self._clock()
        level, then = self._levels.pop(client, (self._size, now))
        level = min(self._size, level + (now - then) * self._rate)
        wait = max(0.0, (amount - level) / self._rate)
        self._levels[client] = (level if wait else level - amount, now)
        while len(self._levels) > MOST_CLIENTS:  # who was quiet for longest has the fullest bucket
            self._levels.popitem(last=False)
        return wait


class Held:
    """How many answers of a client are open at the same time.

    Args:
        most: Of one client.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many clients have one open."""
        return len(self._open)

    def is_full(self, client: str) -> bool:
        """Say whether a client has as many open as it may."""
        return self._open[client] >= self._most

    @contextmanager
    def one(self, client: str) -> Iterator[None]:
        """Count one more while the block runs."""
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


def client_of(scope: Mapping[str, Any], *, proxies: int, skip_private: bool) -> str:
    """Name who sent a request: an IPv4 address, or the network of an IPv6 one, since one person has a whole network.

    Args:
        scope: Of the request.
        proxies: How many proxies in front are ours. Each adds the address it was called from to the right of
            X-Forwarded-For; what stands further left was written by the client and counts for nothing.
        skip_private: Whether further proxies with private addresses may stand in between, as on a Space, whose
            visitors never have one.
    """
    peer = scope.get("client") or (NOBODY,)
    if not proxies:
        return _network(str(peer[0]))
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    entries = [entry.strip() for value in values for entry in value.split(",") if entry.strip()]
    if len(entries) < proxies:
        return _network(str(peer[0]))
    trusted = entries[: len(entries) - proxies + 1]
    if skip_private:
        trusted = [entry for entry in trusted if _is_public(entry)] or trusted
    return _network(trusted[-1])


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return NOBODY
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
