from __future__ import annotations

import bz2
import encodings.aliases
import gzip
import io
import lzma
import pickle
import re
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from mtl.data import decoding
from mtl.data.decoding import SIGNATURES, settle_encoding
from mtl.data.legacy import LATIN, LEGACY, likeliest
from mtl.data.reading import read_table
from mtl.errors import DataError, UserError
from tests.data.strategies import EVERY

# ------------------------------------------------------------------------------------------------ Unicode encodings

LINES = ["text,topic", "Grüße aus 東京 😀,a", '"two, words",b']
SIXTEEN = "text,topic\nthe team won the game 😀,sports\nit was café weather,weather\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("\n".join(LINES).encode(), "utf-8"),
        ("\n".join(LINES).encode("utf-8-sig"), "utf-8-sig"),
        (b"\xff\xfe" + "\n".join(LINES).encode("utf-16-le"), "utf-16"),
        (b"\xfe\xff" + "\n".join(LINES).encode("utf-16-be"), "utf-16"),
        (b"\xff\xfe\x00\x00" + "\n".join(LINES).encode("utf-32-le"), "utf-32"),
        (b"\x00\x00\xfe\xff" + "\n".join(LINES).encode("utf-32-be"), "utf-32"),
        ("\n".join(LINES).encode("ascii", "ignore"), "utf-8"),
    ],
    ids=["utf-8", "mark", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "ascii"],
)
def test_decoding_unicode_is_recognised_without_a_note(data: bytes, encoding: str) -> None:
    assert settle_encoding(data) == (encoding, ())
    table = read_table(data)
    assert table.headers == ("text", "topic")
    assert table.column("topic") == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_decoding_utf_16_without_a_mark_is_told_by_its_zeros(encoding: str) -> None:
    assert settle_encoding(SIXTEEN.encode(encoding)) == (encoding, ())
    table = read_table(SIXTEEN.encode(encoding))
    assert table.column("text") == ["the team won the game 😀", "it was café weather"]


def test_decoding_a_file_is_decoded_as_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(SIXTEEN.encode("cp1252", "replace"))
    assert settle_encoding(path) == settle_encoding(path.read_bytes()) == ("cp1252", settle_encoding(path)[1])


# ------------------------------------------------------------------------------------------------- legacy encodings

LANGUAGES = {
    "German, French, Spanish": (
        "cp1252",
        "Das Frühstück im Hotel war köstlich, aber die Zimmer waren zu laut.\n"
        "Le café était très bon et le serveur fort aimable, je reviendrai.\n"
        "¿Dónde está la estación? El niño comió una manzana.",
    ),
    "English with typographic marks": (
        "cp1252",
        "It’s a “great” place – really.\nI don’t like it… at all.\nThe price was £10, or €12.",
    ),
    "English with one accent": ("cp1252", "I love this café so much.\nThe place was fine.\nNothing to say."),
    "Swedish": ("cp1252", "Hotellet var väldigt bra.\nMaten var kall och servicen långsam.\nDet var förfärligt."),
    "Finnish": (
        "cp1252",
        "Hotelli oli erittäin hyvä ja aamiainen herkullinen.\nRuoka oli kylmää ja palvelu hidasta.\n"
        "En tule tänne enää koskaan, se oli kamalaa.",
    ),
    "Icelandic": (
        "cp1252",
        "Hótelið var mjög gott og morgunmaturinn ljúffengur.\nMaturinn var kaldur og þjónustan hæg.\n"
        "Ég kem aldrei hingað aftur, þetta var hræðilegt og ýkt.",
    ),
    "Polish": (
        "cp1250",
        "Zażółć gęślą jaźń, powiedział nauczyciel w szkole.\nBardzo dobra książka, polecam ją każdemu.\n"
        "Obsługa była miła, ale jedzenie niesmaczne i drogie.",
    ),
    "Czech": (
        "cp1250",
        "Příliš žluťoučký kůň úpěl ďábelské ódy.\nHotel byl čistý a snídaně výborná, děkujeme.\n"
        "Služby byly pomalé a číšník nebyl příliš ochotný.",
    ),
    "Hungarian": (
        "cp1250",
        "A szálloda nagyon jó volt, és a reggeli finom.\nAz étel hideg volt, a kiszolgálás lassú.\n"
        "Soha többé nem jövök ide, szörnyű volt, őszintén.",
    ),
    "Slovene": (
        "cp1250",
        "Hotel je bil zelo dober, zajtrk pa okusen.\nHrana je bila hladna, postrežba pa počasna.\n"
        "Nikoli več ne pridem sem, bilo je grozno, še žal mi je.",
    ),
    "Czech, ISO": (
        "iso8859_2",
        "Příliš žluťoučký kůň úpěl ďábelské ódy.\nHotel byl čistý a snídaně výborná, děkujeme.\nSlužby byly pomalé.",
    ),
    "Russian": (
        "cp1251",
        "Очень хороший отель, нам всё понравилось.\nЕда была холодной, а обслуживание медленным.\n"
        "Я больше никогда сюда не вернусь, ужасно.",
    ),
    "Russian, KOI8": (
        "koi8_r",
        "Очень хороший отель, нам всё понравилось.\nЕда была холодной, а обслуживание медленным.\n"
        "Я больше никогда сюда не вернусь, ужасно.",
    ),
    "Greek": (
        "cp1253",
        "Το ξενοδοχείο ήταν πολύ καλό και το πρωινό νόστιμο.\nΤο φαγητό ήταν κρύο και η εξυπηρέτηση αργή.\n"
        "Δεν θα ξαναέρθω ποτέ εδώ, ήταν απαίσια.",
    ),
    "Turkish": (
        "cp1254",
        "Otel çok güzeldi ve kahvaltı lezzetliydi, teşekkürler.\nYemekler soğuktu ve servis çok yavaştı.\n"
        "Bir daha asla gelmeyeceğim, gerçekten kötüydü.",
    ),
    "Hebrew": ("cp1255", "המלון היה מצוין וארוחת הבוקר טעימה מאוד.\nהאוכל היה קר והשירות איטי.\nזה היה נורא."),
    "Arabic": (
        "cp1256",
        "كان الفندق جميلا جدا والإفطار لذيذا.\nالطعام كان باردا والخدمة بطيئة للغاية.\nلن أعود إلى هنا أبدا.",
    ),
    "Latvian": (
        "cp1257",
        "Viesnīca bija ļoti laba, un brokastis bija garšīgas.\nĒdiens bija auksts un apkalpošana lēna.\n"
        "Es nekad šeit vairs neatgriezīšos, tas bija briesmīgi.",
    ),
    "Lithuanian": (
        "cp1257",
        "Viešbutis buvo labai geras, ačiū už viską.\nMaistas buvo šaltas, o aptarnavimas lėtas.\n"
        "Daugiau čia niekada negrįšiu, tai buvo baisu.",
    ),
    "Thai": ("cp874", "โรงแรมดีมากและอาหารเช้าอร่อย\nอาหารเย็นและบริการช้า\nจะไม่กลับมาอีก"),
    "Japanese": ("cp932", "ホテルはとても良かったし、朝食もおいしかったです。\n料理は冷たかった。\n二度と来ません。"),
    "Japanese, EUC": (
        "euc_jp",
        "ホテルはとても良かったし、朝食もおいしかったです。\n料理は冷たかった。\n二度と来ません。",
    ),
    "Chinese": ("gb18030", "酒店非常好，早餐也很好吃。\n菜是凉的，服务也很慢。\n我再也不会来这里了，真的太糟糕了。"),
    "Chinese, traditional": (
        "big5",
        "飯店非常好，早餐也很好吃。\n菜是涼的，服務也很慢。\n我再也不會來這裡了，真的太糟糕了。",
    ),
    "Korean": (
        "cp949",
        "호텔이 아주 좋았고 아침 식사도 맛있었습니다.\n음식은 차갑고 서비스는 느렸습니다.\n정말 끔찍했어요.",
    ),
    "German, Macintosh": (
        "mac_roman",
        "Das Frühstück im Hotel war köstlich.\nDie Zimmer waren für uns zu laut, schöne Aussicht.\nNie wieder dorthin.",
    ),
    "German, MS-DOS": (
        "cp850",
        "Das Frühstück im Hotel war köstlich.\nDie Zimmer waren für uns zu laut, schöne Aussicht.\nÄpfel gab es nicht.",
    ),
    "French, Macintosh": (
        "mac_roman",
        "Le café était très bon et le serveur fort aimable.\nÇa m’a plu, à bientôt.\nLe garçon n’était pas là.",
    ),
}


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(("encoding", "text"), LANGUAGES.values(), ids=LANGUAGES.keys())
def test_decoding_a_few_sentences_of_an_older_encoding_keep_their_letters(
    encoding: str, text: str, header: bool
) -> None:
    sentences = text.split("\n")
    lines = [
        *(["text;label"] if header else []),
        *(f"{sentence};{'ab'[n % 2]}" for n, sentence in enumerate(sentences)),
    ]
    table = read_table("\r\n".join(lines).encode(encoding), header=header, delimiter=";")
    assert next(iter(table.columns.values())) == sentences
    assert table.encoding == encoding
    assert f"It was read as {encoding} ({LEGACY[encoding]}), the likeliest guess" in table.notes[0]


def test_decoding_letters_that_were_broken_before_are_kept_as_they_are() -> None:
    texts = ["Call å£1000 now, a prize of the week is waiting", "I do not know what you mean by that, åÊso long"]
    data = "label,text\n" + "".join(f'ham,"{text}"\n' for text in texts)
    table = read_table(data.encode("cp1252"))
    assert (table.encoding, table.column("text")) == ("cp1252", texts)


def test_decoding_the_guess_can_be_overruled() -> None:
    data = "text,label\nЕда была холодной.,а\n".encode("koi8_r")
    table = read_table(data, encoding="cp866")
    assert table.encoding == "cp866"
    assert table.notes == ()
    assert table.column("text") != ["Еда была холодной."]
    assert read_table(data, encoding="koi8_r").column("text") == ["Еда была холодной."]


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "gb18030"])
def test_decoding_letters_far_into_a_long_cell_are_found(encoding: str) -> None:
    word = {"cp1252": "café", "cp1251": "плохая еда", "gb18030": "酒店非常好，早餐也很好吃。"}[encoding]
    rows = [("the hotel was good " * 1_600 + f"{word} {number}", label) for number, label in enumerate("abab")]
    data = "".join(f"{text};{label}\n" for text, label in rows).encode(encoding)
    assert read_table(data, header=False).column("column 1") == [text for text, _ in rows]


def test_decoding_a_sample_is_never_cut_inside_a_character() -> None:
    text = "酒店非常好早餐也很好吃" * 5_001  # 110,022 bytes without one that is not part of a character
    table = read_table(f"文;类\n{text};正\n{text};负\n".encode("gb18030"))
    assert table.columns == {"文": [text, text], "类": ["正", "负"]}


@pytest.mark.parametrize("encoding", LATIN)
def test_decoding_every_latin_alphabet_is_read_with_its_own_letters(encoding: str) -> None:
    for letters in LATIN[encoding]:
        words = [f"wo{letter}d".encode(encoding, "ignore") for letter in letters]
        words = [word for word in words if not word.isascii()]
        guess = likeliest(words, 0.5)
        assert guess is not None
        assert b" ".join(words).decode(guess) == b" ".join(words).decode(encoding)


# --------------------------------------------------------------------------------------------------- damaged text


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("text,label\nGrüße aus Köln,a\n".encode() + b"caf\xe9,b\n", 3),
        ("text,label\nGrüße,a\nÄpfel,b\nÖl".encode() + b"\xff,c\n", 4),
        ("text,label\rGrüße,a\rÄpfel".encode() + b"\x80,c\r", 3),
        (b"\xef\xbb\xbftext,label\nhello,a\n\xe9t\xe9,b\n", 3),
    ],
    ids=["one cp1252 cell", "a stray byte", "CR line ends", "after a mark"],
)
def test_decoding_damaged_utf_8_is_refused_with_its_line_and_not_read_as_something_else(data: bytes, line: int) -> None:
    with pytest.raises(DataError, match=rf"not UTF-8 text: line {line} holds the byte 0x\w\w. Save it as CSV UTF-8"):
        settle_encoding(data)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_decoding_utf_8_cut_short_is_refused_with_its_line(missing: int) -> None:
    data = "text,label\nhello,a\nbye 😀".encode()[:-missing]
    with pytest.raises(DataError, match="line 3 holds the byte 0xf0"):
        settle_encoding(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_decoding_wide_characters_cut_short_are_refused(encoding: str) -> None:
    with pytest.raises(DataError, match=f"not {encoding.upper()} text"):
        settle_encoding(SIXTEEN.encode(encoding)[:-1])


@pytest.mark.parametrize(
    "data",
    [b"text,label\nhello,a\nwo\0rld,b\n", b"text,label\ncaf\xe9,a\nwo\0rld,b\n", b"text,label\rhello,a\rwo\0rld,b\r"],
    ids=["ASCII", "with older letters", "CR line ends"],
)
def test_decoding_a_nul_is_refused_with_its_line(data: bytes) -> None:
    with pytest.raises(DataError, match="Line 3 holds a NUL character, so this is not a text file"):
        settle_encoding(data)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\xff\xfe", b" \n\t\r\n", b" " * 3_000_000 + b"\n"])
def test_decoding_nothing_but_white_space_is_an_empty_file(data: bytes) -> None:
    with pytest.raises(DataError, match="The file is empty"):
        settle_encoding(data)


def test_decoding_reads_in_blocks_and_splits_no_character_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BLOCK", 3)
    assert settle_encoding("text,label\n東京 😀,é\n".encode()) == ("utf-8", ())


@pytest.mark.parametrize(
    "encoding", sorted({*encodings.aliases.aliases.values(), "mbcs", "idna", "punycode", "no-such"})
)
def test_decoding_any_codec_reads_or_is_refused_in_a_sentence(encoding: str) -> None:
    data = "text,topic\nÜber café,a\n".encode("cp1252")
    try:
        assert len(read_table(data, encoding=encoding)) > 0
    except UserError as error:
        assert str(error).endswith(".")
        assert len(str(error)) < 200


@pytest.mark.parametrize(("encoding", "data"), [("utf-7", b"text\n+2AA-\n"), ("unicode_escape", b"text\n\\ud800\n")])
def test_decoding_half_a_character_is_refused(encoding: str, data: bytes) -> None:
    with pytest.raises(DataError, match="cannot be read as"):
        settle_encoding(data, encoding)


# ------------------------------------------------------------------------------------------------- other kinds of file


@pytest.mark.parametrize("signature", SIGNATURES, ids=[kind for kind, _ in SIGNATURES.values()])
def test_decoding_every_signature_is_refused_with_what_to_do(signature: bytes) -> None:
    kind, advice = SIGNATURES[signature]
    with pytest.raises(DataError, match=re.escape(f"This is {kind}, not a CSV file. {advice}")):
        settle_encoding(signature + b"\x00\x01\x02 and so on")


@pytest.mark.parametrize("word", ["PARTS", "BZhinterland", "ARROW1 the first", "PAR1"])
def test_decoding_ordinary_words_are_no_signature(word: str) -> None:
    assert read_table(f"{word},label\nhello,a\n".encode()).headers[0] == word


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "text,topic\nhello,a\n")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("table.csv"))
    return buffer.getvalue()


def database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "table.db")
    connection.execute("create table texts (text, label)")
    connection.close()
    return (folder / "table.db").read_bytes()


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


MADE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "gzip": (lambda _: gzip.compress(b"text,topic\nhello,a\n"), "a gzip archive"),
    "bzip2": (lambda _: bz2.compress(b"text,topic\nhello,a\n"), "a bzip2 archive"),
    "xz": (lambda _: lzma.compress(b"text,topic\nhello,a\n"), "an xz archive"),
    "zip": (lambda _: zipped("table.csv"), "a zip archive"),
    "xlsx": (lambda _: zipped("xl/workbook.xml"), "an Excel workbook"),
    "tar": (lambda _: tarred(), "a tar archive"),
    "sqlite": (database, "a SQLite database"),
    "numpy": (lambda _: array(), "a NumPy array"),
    "webp": (lambda _: b"RIFF\x24\x00\x00\x00WEBPVP8 ", "a WebP image"),
    **{f"pickle {n}": ((lambda _, n=n: pickle.dumps(["a"], n)), "a Python pickle") for n in range(2, 6)},
}


@pytest.mark.parametrize(("make", "kind"), MADE.values(), ids=MADE.keys())
def test_decoding_files_that_other_programs_made_are_named(
    make: Callable[[Path], bytes], kind: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"This is {kind}, not a CSV file"):
        settle_encoding(make(tmp_path))


def test_decoding_mustard_is_no_tar_archive() -> None:
    data = b"text,label\n" + b"x" * 245 + b"mustard,a\n"
    assert data[257:262] == b"ustar"
    assert len(read_table(data)) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("\n <!DOCTYPE html>\n<html></html>", "a web page"),
        ("<HTML lang=en>", "a web page"),
        ('<?xml version="1.0"?><rows/>', "an XML document"),
        ('{"text": "hello", "label": "a"}\n{"text": "bye", "label": "b"}\n', "JSON"),
        ('{"data": [\n', "JSON"),
        ('[{"text": "hello"}]', "JSON"),
        ('[\n  {"text": "hello"}\n]', "JSON"),
        ('[["hello", "a"]]', "JSON"),
        ("[" * 100_000, "JSON"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_decoding_text_that_is_no_table_is_named(text: str, kind: str, encoding: str) -> None:
    with pytest.raises(DataError, match=f"This is {kind}, not a CSV file"):
        settle_encoding(text.encode(encoding))


@pytest.mark.parametrize(
    "text", ["{city},label\nx,a\n", "[1],label\nx,a\n", "<b>text,label\nx,a\n", "{text,label}\nx,a\n", "[a],b\nx,y\n"]
)
def test_decoding_brackets_alone_are_no_other_format(text: str) -> None:
    assert len(read_table(text.encode())) == 1


@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "utf-16", "utf-7", "cp1252", "shift_jis", "big5"]))
@EVERY
def test_decoding_any_bytes_are_text_of_the_encoding_or_refused(data: bytes, wanted: str | None) -> None:
    try:
        encoding, _ = settle_encoding(data, wanted)
    except UserError:
        return
    assert data.decode(encoding).strip("\ufeff \t\r\n")
    assert "\0" not in data.decode(encoding)
