"""What the cells of a column look like: sentences, labels, several labels, or nothing to learn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mtl.data.entities import entity_form
from mtl.data.reading import is_missing
from mtl.errors import LimitError
from mtl.settings import settings

TEXT_NAMES = (
    "text",
    "sentence",
    "content",
    "message",
    "review",
    "tweet",
    "body",
    "comment",
    "utterance",
    "description",
)
_DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2})?|(mon|tue|wed|thu|fri|sat|sun)\w* .*\d{4}.*",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?", re.IGNORECASE)
_SEPARATORS = "|;,"
_LOOK_AT = 1_000


def count_missing(cells: list[str]) -> int:
    """Count the empty cells."""
    return sum(count for cell, count in Counter(cells).items() if is_missing(cell))


def count_labels(cells: list[str]) -> dict[str, int]:
    """Count the rows of each label, the most frequent first."""
    return {cell: count for cell, count in Counter(cells).most_common() if not is_missing(cell)}


def sample_of(cells: list[str]) -> list[str]:
    """Return filled cells from all over the column: a file is often sorted."""
    step = max(1, len(cells) // (4 * _LOOK_AT))
    filled = [cell for cell in cells[::step] if not is_missing(cell)] or [
        cell for cell in cells if not is_missing(cell)
    ]
    return filled[:: max(1, -(-len(filled) // _LOOK_AT))]


def textness(name: str, cells: list[str]) -> float:
    """Score how much a column looks like sentences; 0 or less means it does not."""
    sample = sample_of(cells)
    if not sample or entity_form(sample):
        return 0.0
    words = sum(_word_count(cell) for cell in sample) / len(sample)
    different = len(set(sample)) / len(sample)
    if _share(_NUMBER, sample) > 0.9 or _share(_DATE, sample) > 0.9 or _links(sample):
        return 0.0
    named = name.strip().lower() in TEXT_NAMES
    if words < 2 and not named:
        return 0.0
    filled = 1 - count_missing(cells) / len(cells)
    return words * different * filled * (10.0 if named else 1.0)


def _word_count(cell: str) -> float:
    """Count words; scripts without blanks between words get one for two characters."""
    wide = sum("\u2e80" <= character <= "\uffdc" or "\u0e00" <= character <= "\u0eff" for character in cell)
    return len(cell.split()) + wide / 2


def _links(sample: list[str]) -> bool:
    return sum("://" in cell and " " not in cell.strip() for cell in sample) > 0.9 * len(sample)


def _share(pattern: re.Pattern[str], sample: list[str]) -> float:
    return sum(bool(pattern.fullmatch(cell.strip())) for cell in sample) / len(sample)


def several_labels(cells: Sequence[str]) -> str | None:
    """Return a cell with several labels, `a|b`, if that is how this column is written; else None.

    A mark divides labels where a part of the column holds it and its parts come again in other combinations, as the
    genres of films do; a comma inside one name, such as `World, Politics`, does not repeat so.
    """
    values = Counter(cell.strip() for cell in cells if not is_missing(cell))
    filled = sum(values.values())
    for mark in _SEPARATORS:
        multiple = {value: [part.strip() for part in value.split(mark)] for value in values if mark in value}
        # a bar is hardly ever part of a name
        if sum(values[value] for value in multiple) < (0.01 if mark == "|" else 0.05) * filled or not multiple:
            continue
        uses = Counter(part for parts in multiple.values() for part in set(parts))
        uses.update(value for value in values if value in uses)
        short = all(len(part.split()) <= 4 for part in uses)
        repeated = sum(count > 1 for count in uses.values())
        if short and "" not in uses and len(uses) >= 2 and repeated >= 0.7 * len(uses) and len(uses) <= filled / 3:
            return next(iter(multiple))
    return None


def check_counts(name: str, counts: dict[str, int]) -> None:
    """Refuse labels that are too many or too long.

    Raises:
        LimitError: Names the column, and the label that is too long.
    """
    limits = settings()
    if len(counts) > limits.max_labels:
        raise LimitError(
            f'Column "{name}" has {len(counts):,} different labels; at most {limits.max_labels:,} are accepted here. '
            "Is it an identifier or free text?"
        )
    for label in counts:
        if len(label) > limits.max_label_characters:
            raise LimitError(
                f'The label "{label[:30]}…" in column "{name}" has {len(label):,} characters; '
                f"at most {limits.max_label_characters} are accepted. Is it free text?"
            )


def why_not_a_task(counts: dict[str, int], filled: int) -> str:
    """Say why a column with these values in so many filled cells is no task; empty if it is one."""
    labels = list(counts)
    sample = labels[:_LOOK_AT]
    numbers, dates = _share(_NUMBER, sample), _share(_DATE, sample)
    if len(counts) < 2:
        return "the same value in every row"
    if dates > 0.9:
        return "dates or times"
    if _links(sample):
        return "links"
    if len(counts) == filled and filled > 20:
        return "a different value in every row, as an identifier has"
    if len(counts) <= 10_000 and (several := several_labels([v for v, n in counts.items() for _ in range(min(n, 20))])):
        return f'several labels in a cell, such as "{several}"; not trained yet'
    if sum(map(_word_count, sample)) / len(sample) > 5:
        return "free text"
    if numbers > 0.9 and len(counts) > 20:
        return "numbers"
    if len(counts) > max(2, min(settings().max_labels, filled // 3)):
        return f"{len(counts):,} different values in {filled:,} rows"
    try:
        check_counts("", counts)
    except LimitError:
        return "its values are too long for labels"
    return ""
