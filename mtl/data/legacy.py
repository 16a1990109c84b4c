"""Which older encoding a text is in that is not UTF-8: a guess, which is shown and can be overruled.

The Latin alphabets differ in a few accented letters, which the general measures of charset-normalizer cannot tell
apart in a few sentences. They are told by their languages: in the right encoding, the letters beyond ASCII are those
of one language, and stand where letters stand. Every other script is left to charset-normalizer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WEST = (
    "äöüß",
    "àâæçèéêëîïôùûüœ",
    "áéíñóúü",
    "àáâãçéêíóôõú",
    "àèéìíòóù",
    "áèéêëïóöü",
    "äåéö",
    "åæéòø",
    "áæéíðóöúýþ",
    "àçèéíïòóúü",
)
_CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "âîăşţ", "ćčđšž")
_BALTIC = ("āčēģīķļņšūž", "ąčėęįšūųž", "äõöšüž")
LATIN: dict[str, Sequence[str]] = {
    "cp1252": _WEST,
    "cp1250": _CENTRAL,
    "cp1254": ("âçîöûüğışİ",),
    "cp1257": _BALTIC,
    "iso8859_2": _CENTRAL,
    "mac_roman": _WEST,
    "cp850": _WEST,
}
# What older programs write, by the names people know. Wider code pages stand for their subsets: cp949 for EUC-KR.
LEGACY = {
    "cp1252": "Western European",
    "cp1250": "Central European",
    "cp1254": "Turkish",
    "cp1257": "Baltic",
    "iso8859_2": "Central European, ISO 8859-2",
    "mac_roman": "old Macintosh",
    "cp850": "MS-DOS",
    "latin_1": "Western European, ISO 8859-1",
    "cp1251": "Cyrillic",
    "koi8_r": "Cyrillic, KOI8-R",
    "cp1253": "Greek",
    "cp1255": "Hebrew",
    "cp1256": "Arabic",
    "cp874": "Thai",
    "cp932": "Japanese, Shift JIS",
    "euc_jp": "Japanese, EUC",
    "gb18030": "Chinese, simplified",
    "big5": "Chinese, traditional",
    "cp949": "Korean",
}
_OTHERS = [name for name in LEGACY if name not in LATIN and name != "latin_1"]
_OLDEST = ("mac_roman", "cp850")
_TYPOGRAPHY = rb"[\x82\x84\x85\x91-\x97\xa0\xab\xb0\xbb]"  # quotes, dashes and dots on the Windows pages
_MARKS = frozenset("¡¢£¤¥¦§¨©ª«¬\xad®¯°±²³´µ¶·¸¹º»¼½¾¿×÷‚„…†‡‰‹‘’“”•–—˜™›€\u00a0")
_INSIDE_WORDS = frozenset("‘’´·–—…\xad\u00a0")
_BEFORE_WORDS = frozenset("‚„¡¿")
_MIXED = 0.9  # of several languages at once any letter may come, which proves less
_MARGIN = 0.05  # Western European, by far the commonest, is left only for what fits clearly better
_UNUSUAL = 0.08  # of what was written before 2000 only
_LEAST, _SURE, _SPARSE = 0.75, 0.9, 0.05


def likeliest(words: Sequence[bytes], share: float) -> str | None:
    """Guess an encoding.

    Args:
        words: Those that hold more than ASCII, whole.
        share: Of the bytes beyond ASCII in the lines with these words.

    Returns:
        A codec name, or None if the words look like no text.
    """
    sample = b" ".join(words)
    if not _is_latin(sample, share):
        import charset_normalizer

        if match := charset_normalizer.from_bytes(sample, cp_isolation=_OTHERS).best():
            return match.encoding
    fits = {name: _fit(sample, name) - _UNUSUAL * (name in _OLDEST) for name in LATIN}
    best = max(fits, key=fits.__getitem__)
    if fits[best] < _LEAST:
        return None
    if fits["cp1252"] > fits[best] - _MARGIN or sample.decode(best) == sample.decode("cp1252", "replace"):
        return "cp1252"
    return best


def _is_latin(sample: bytes, share: float) -> bool:
    """Say whether accented letters stand among ASCII ones, while other scripts write whole words of high bytes."""
    high = re.findall(rb"[\x80-\xff]+", sample)
    total = sum(map(len, high))
    pairs, longer = (sum(len(run) for run in high if len(run) >= least) for least in (2, 4))
    if pairs < total / 2 or len(re.findall(_TYPOGRAPHY, sample)) > _SURE * total:
        return True
    if longer < total / 2 and share < _SPARSE:
        return True
    alone = len(re.findall(rb"(?<![A-Za-z\x80-\xff])[\x80-\xff]+(?![A-Za-z\x80-\xff])", sample))
    return alone < len(high) / 2 and any(
        _fit(sample, name, marks=False) > _SURE for name in LATIN if name not in _OLDEST
    )


def _fit(sample: bytes, encoding: str, *, marks: bool = True) -> float:
    """Return which part of the characters beyond ASCII fits one of the encoding's languages, from 0 to 1.

    Args:
        sample: Words of the file.
        encoding: One of `LATIN`.
        marks: Whether punctuation fits, and several languages at once do nearly.
    """
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return 0.0
    counts = Counter(re.findall(r"[^\x00-\x7f]", text))
    total = counts.total()
    for character in re.findall(r"(?<=[a-z])[^\x00-\x7f]", text):
        counts[character] -= character.isupper() or character in _BEFORE_WORDS
    for character in re.findall(r"(?<=[a-z])[^\x00-\x7f](?=[a-z])", text):
        counts[character] -= character in _MARKS - _INSIDE_WORDS - _BEFORE_WORDS
    covered = max(_covered(counts, letters) for letters in LATIN[encoding])
    if not marks:
        return covered / total
    mixed = _MIXED * _covered(counts, "".join(LATIN[encoding]))
    return (max(covered, mixed) + sum(counts[character] for character in _MARKS)) / total


def _covered(counts: Counter[str], letters: str) -> int:
    return sum(count for character, count in counts.items() if character in letters or character.lower() in letters)
