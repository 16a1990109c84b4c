"""When two texts count as the same: equal after normalising, and rows that must stay together for any other reason."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence

_LINK = re.compile(r"(?:https?://|www\.)(?=\S*\w)\S+", re.IGNORECASE)  # `www.)` is none
_MENTION = re.compile(r"(?<!\w)@\w+")
# Punctuation of ASCII, Latin-1, the general block, CJK and full width; other signs, such as emoji, carry meaning.
_PUNCTUATION = re.compile(
    r"[!-/:-@\[-`{-~¡-©«-¿×÷\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f\ufe10-\ufe6f\uff01-\uff0f\uff1a-\uff20]+"
)


def normalised(text: str) -> str:
    """Return the form under which two texts count as the same.

    Case, white space, punctuation, links and mentions (`@name`) are ignored. A text without anything else keeps its
    links and mentions, and one of punctuation alone its own form, so that `:)` and `!!!` differ.
    """
    bare = _folded(text)
    if "://" in bare or "www." in bare:
        bare = _LINK.sub(" ", bare)
    if "@" in bare:
        bare = _MENTION.sub(" ", bare)
    return " ".join(_PUNCTUATION.sub(" ", bare).split()) or same_words(text)


def same_words(text: str) -> str:
    """Return a narrower form, which keeps links and mentions: `@north late` and `@south late` say different things."""
    folded = _folded(text)
    return " ".join(_PUNCTUATION.sub(" ", folded).split() or folded.split())


def _folded(text: str) -> str:
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold()


class Groups:
    """Rows that belong together: the union of everything that was joined (a disjoint-set forest).

    Args:
        size: Number of rows; at first each is a group of its own.
    """

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def find(self, row: int) -> int:
        """Return the first row of the group."""
        parents = self._parents
        root = row
        while parents[root] != root:
            root = parents[root]
        while parents[row] != root:
            parents[row], row = root, parents[row]
        return root

    def join(self, rows: Iterable[int]) -> None:
        """Put rows into one group."""
        members = iter(rows)
        first = next(members, None)
        if first is None:
            return
        root = self.find(first)
        for row in members:
            other = self.find(row)
            if other != root:
                root, other = min(root, other), max(root, other)
                self._parents[other] = root

    def join_equal(self, keys: Sequence[Hashable]) -> None:
        """Join the rows with equal keys; a row whose key is None stays as it is."""
        seen: dict[Hashable, int] = {}
        for row, key in enumerate(keys):
            if key is not None:
                first = seen.setdefault(key, row)
                if first != row:
                    self.join((first, row))
