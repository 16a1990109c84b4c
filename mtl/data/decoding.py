"""What a file's bytes are: text in some encoding, or no CSV at all; told by the content, never by the name."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from mtl.data.legacy import LEGACY, likeliest
from mtl.errors import DataError, LimitError
from mtl.settings import settings

Source = bytes | Path

_TO_CSV = "Open it, save the table as CSV (UTF-8) and upload that."
_UNPACK = "Unpack it and upload the CSV file inside."
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": ("a PNG image", "Upload the table itself as a CSV file."),
    b"\xff\xd8\xff": ("a JPEG image", "Upload the table itself as a CSV file."),
    b"GIF87a": ("a GIF image", "Upload the table itself as a CSV file."),
    b"GIF89a": ("a GIF image", "Upload the table itself as a CSV file."),
    b"%PDF-": ("a PDF document", "Upload the table itself as a CSV file."),
    b"{\\rtf": ("an RTF document", _TO_CSV),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", _TO_CSV),
    b"\x1f\x8b": ("a gzip archive", _UNPACK),
    b"BZh": ("a bzip2 archive", _UNPACK),
    b"\xfd7zXZ\x00": ("an xz archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive", _UNPACK),
    b"PAR1": ("a Parquet file", "Write it out as CSV and upload that."),
    b"ARROW1": ("an Arrow file", "Write it out as CSV and upload that."),
    b"SQLite format 3\x00": ("a SQLite database", "Write the table out as CSV and upload that."),
    b"\x93NUMPY": ("a NumPy array", "Write the table out as CSV and upload that."),
    b"\x80\x02": ("a Python pickle", "Write the table out as CSV and upload that."),
    b"\x80\x03": ("a Python pickle", "Write the table out as CSV and upload that."),
    b"\x80\x04\x95": ("a Python pickle", "Write the table out as CSV and upload that."),
    b"\x80\x05\x95": ("a Python pickle", "Write the table out as CSV and upload that."),
}
# the rest of a signature that is also the beginning of ordinary words
_BINARY_TOO = (b"PAR1", b"ARROW1", b"BZh")
_BLOCK = 1 << 20
_HEAD = 8192
_SAMPLE_BYTES = 65_536
_ASCII = bytes(range(128))


def open_source(source: Source) -> BinaryIO:
    """Open bytes or a file for reading."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def settle_encoding(source: Source, wanted: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Find the encoding under which the whole source is text.

    Args:
        source: The bytes or the file.
        wanted: A Python codec name that the person chose; by default UTF-8 or UTF-16 by their marks, else UTF-8,
            else the likeliest legacy encoding.

    Returns:
        The codec name, and what a person should know of the guess.

    Raises:
        DataError: Not a text, or not in the wanted encoding.
        LimitError: Larger than this installation accepts.
    """
    with open_source(source) as file:
        size = file.seek(0, io.SEEK_END)
        if size > (limit := settings().max_bytes):
            raise LimitError(f"The file has {size / 1e6:,.1f} MB; at most {limit / 1e6:,.1f} MB are accepted here.")
        file.seek(0)
        head = file.read(_HEAD)
    _refuse_known(head)
    notes: tuple[str, ...] = ()
    encoding = wanted or _by_mark(head) or "utf-8"
    problem, undecodable = _first_problem(source, encoding)
    if undecodable and not wanted and encoding == "utf-8":
        encoding = _legacy(source, problem)
        notes = (
            f"The file is not UTF-8. It was read as {encoding} ({LEGACY[encoding]}), the likeliest guess: "
            "if letters look wrong, choose the encoding.",
        )
        problem, _ = _first_problem(source, encoding)
    if problem:
        raise DataError(problem)
    _refuse_other_text(head, encoding)
    return encoding, notes


def _refuse_known(head: bytes) -> None:
    for signature, (kind, advice) in SIGNATURES.items():
        if head.startswith(signature) and (signature not in _BINARY_TOO or re.search(rb"[\x00-\x08]", head)):
            raise DataError(f"This is {kind}, not a CSV file. {advice}")
    if head.startswith(b"PK\x03\x04"):
        if b"xl/" in head or b"[Content_Types].xml" in head:
            raise DataError(f"This is an Excel workbook, not a CSV file. {_TO_CSV}")
        raise DataError(f"This is a zip archive, not a CSV file. {_UNPACK}")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        raise DataError("This is a WebP image, not a CSV file. Upload the table itself as a CSV file.")
    if head[257:262] == b"ustar" and b"\0" in head[:257]:  # mustard may stand anywhere in a text
        raise DataError(f"This is a tar archive, not a CSV file. {_UNPACK}")


def _by_mark(head: bytes) -> str | None:
    """Recognise a byte order mark, or UTF-16 without one by the zeros in every other byte."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if even < odd / 20 and odd > len(head) * 0.35:  # some letters and emoji have a zero of their own
        return "utf-16-le"
    if odd < even / 20 and even > len(head) * 0.35:
        return "utf-16-be"
    return None


def _blocks(source: Source) -> Iterator[bytes]:
    with open_source(source) as file:
        while block := file.read(_BLOCK):
            yield block


def _first_problem(source: Source, encoding: str) -> tuple[str, bool]:
    """Decode everything and say, with its line, what is not text; empty if all is.

    Say also whether another encoding may explain it: not at the very end, where the text is only cut short.
    """
    try:
        "".encode(encoding)  # refuses the codecs that are not for text
        decoder = codecs.getincrementaldecoder(encoding)()
    except (LookupError, TypeError, ValueError):  # unknown, or a codec that cannot read bit by bit
        return f'"{encoding[:40]}" is not a known encoding; utf-8, utf-16, cp1252 and latin-1 are.', False
    line, some = 1, False
    block = b""
    try:
        for block in chain(_blocks(source), (b"",)):
            text = decoder.decode(block, final=not block)
            if "\0" in text:
                line += _line_ends(text[: text.index("\0")])
                return f"Line {line} holds a NUL character, so this is not a text file. Save it as CSV UTF-8.", False
            text.encode()  # refuses halves of characters, which the escapes of utf-7 can hold and no file of ours
            line += _line_ends(text)
            some = some or bool(text.strip("\ufeff \t\r\n"))
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line += before.count(b"\n") or before.count(b"\r")
        name = encoding.removesuffix("-sig").upper()
        return (
            f"The file is not {name} text: line {line} holds the byte 0x{error.object[error.start]:02x}. "
            "Save it as CSV UTF-8, or choose its encoding."
        ), bool(block)
    except (ValueError, AttributeError, AssertionError):  # a codec that is not one for text files, such as punycode
        return f'The file cannot be read as "{encoding}". Save it as CSV UTF-8.', False
    return "" if some else "The file is empty. It needs rows of text, and best a header row above them.", False


def _line_ends(text: str) -> int:
    return text.count("\n") or text.count("\r")


def _legacy(source: Source, problem: str) -> str:
    """Guess the encoding of a file that is not UTF-8.

    Raises:
        DataError: Most of it is UTF-8, so that any other reading would change its letters; or it looks like no text.
    """
    words, share = _telling_words(source)
    decoded = b" ".join(words).decode("utf-8", "surrogateescape")
    escaped = len(re.findall("[\udc80-\udcff]", decoded))
    if sum(character > "\x7f" for character in decoded) - escaped >= escaped:
        raise DataError(problem)
    guess = likeliest(words, share)
    if guess is None:
        raise DataError(problem)
    # what the sample says need not hold for the rest
    return next((name for name in (guess, "cp1252") if not _first_problem(source, name)[0]), "latin_1")


def _telling_words(source: Source) -> tuple[list[bytes], float]:
    """Collect the first words that hold more than ASCII, and the share of such bytes in their lines.

    Words are divided at bytes that are never part of another character, in any of the encodings.
    """
    words: list[bytes] = []
    size = high = around = 0
    with open_source(source) as file:
        while size < _SAMPLE_BYTES and (line := file.readline(_BLOCK)):
            if line.isascii():
                continue
            found = [word for word in re.split(rb"[\x00-\x2f;]+", line) if not word.isascii()]
            words += found
            size += sum(map(len, found))
            high += len(line.translate(None, _ASCII))
            around += len(line)
    return words, high / max(1, around)


def _refuse_other_text(head: bytes, encoding: str) -> None:
    """Refuse what is text, but no table: web pages, XML and JSON."""
    decoder = codecs.getincrementaldecoder(encoding)()  # the head may end inside a character
    text = decoder.decode(head).lstrip("\ufeff \t\r\n")
    if text[:15].lower().startswith(("<!doctype html", "<html")):
        raise DataError("This is a web page, not a CSV file. Download the table itself.")
    if text.startswith("<?xml"):
        raise DataError("This is an XML document, not a CSV file. Write it out as a table: CSV (UTF-8).")
    if text.startswith("{") or re.match(r"\[\s*[{\[]", text):
        try:
            json.loads(text.splitlines()[0])
        except (ValueError, RecursionError):
            if not text.startswith("[") and not re.match(r'\{\s*"[^"]*"\s*:', text):
                return
        raise DataError("This is JSON, not a CSV file. Write it out as a table: CSV (UTF-8).")
