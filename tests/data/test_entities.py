from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mtl.data.entities import EntityColumn, Span, entity_form, read_entities, read_entity_column
from mtl.errors import DataError

EVERY = settings(max_examples=200, derandomize=True, deadline=None)
SAMPLE = Path(__file__).parents[2] / "data" / "sample.csv"
SPANS = '[{"start": 0, "end": 4, "label": "PER"}]'
TEXT = "Anna Lee met Bo in New York ."


def span(start: object, end: object, label: object = "X", **others: object) -> str:
    """Write a cell of one JSON span."""
    return json.dumps([{"start": start, "end": end, "label": label, **others}])


def marked(text: str, cell: str) -> list[tuple[str, str]]:
    """Read a cell into what each span covers, and its label."""
    spans = read_entities(text, cell)
    assert spans is not None
    return [(text[one.start : one.end], one.label) for one in spans]


# ------------------------------------------------------------------------------------------------------- which form


@pytest.mark.parametrize(
    "cells",
    [
        ["O B-PER I-PER O"],
        ["O O", "B-ORG"],
        ["S-LOC O E-PER"],
        [" O B-x "],
        ["O U-PER", "B-LOC L-LOC"],
        ["B-creative-work  O"],
    ],
)
def test_entities_one_tag_per_word_is_a_form(cells: list[str]) -> None:
    assert entity_form(cells) == "tags"


@pytest.mark.parametrize(
    "cells",
    [
        [SPANS],
        [SPANS, "[]"],
        ["[]", f" {SPANS} "],
        ["[]"] * 500 + [SPANS],
        ['[{"start":0,"end":1,"label":"ORG","score":1}]'],
    ],
    ids=["one", "one and none", "blanks around", "none for long", "further keys"],
)
def test_entities_json_spans_are_a_form(cells: list[str]) -> None:
    assert entity_form(cells) == "spans"


@pytest.mark.parametrize(
    "cells",
    [
        [],
        ["O O O"],
        ["B-PER", "positive"],
        ["O, B-PER"],
        ["X-PER O"],
        ["O B-"],
        ["x-ray", "b-side"],
        ["[]", "[]"],
        ["[1, 2]"],
        ['["PER"]'],
        ['[{"start": 0}]'],
        [SPANS, '[{"start": 0, "end": 4}]'],
        ['{"start": 0, "end": 4, "label": "PER"}'],
        ["[not json"],
        [SPANS, "positive"],
        ["O B-PER", SPANS],
        ["[" * 100_000],
        ['[{"start": ' + "9" * 5_000],
        ["I-" + "x" * 100_000 + " O" * 100_000 + " o"],
    ],
    ids=lambda cells: " / ".join(cell[:20] for cell in cells),
)
def test_entities_other_columns_have_no_form(cells: list[str]) -> None:
    assert entity_form(cells) is None


@pytest.mark.parametrize(("good", "bad"), [("O B-PER", "O X-PER"), (SPANS, SPANS[:-3]), (SPANS, "Anna")])
def test_entities_one_broken_cell_among_many_does_not_hide_the_form(good: str, bad: str) -> None:
    form = entity_form([good])
    assert form is not None
    assert entity_form([good] * 19 + [bad]) == form
    assert entity_form([good] * 18 + [bad] * 2) is None


def test_entities_a_hyphen_among_words_o_is_no_tag() -> None:
    assert entity_form(["O"] * 99 + ["x-ray"]) is None


# ------------------------------------------------------------------------------------------------ one tag per word


@pytest.mark.parametrize(
    "cell",
    [
        "I-PER I-PER O I-PER O I-LOC I-LOC O",
        "B-PER I-PER O B-PER O B-LOC I-LOC O",
        "B-PER E-PER O S-PER O B-LOC E-LOC O",
        "B-PER L-PER O U-PER O B-LOC L-LOC O",
        "I-PER E-PER O E-PER O I-LOC L-LOC O",
        "  B-PER   I-PER\tO B-PER O\nB-LOC I-LOC O ",
    ],
    ids=["IOB1", "IOB2", "BIOES", "BILOU", "ends only", "spaced"],
)
def test_entities_every_tagging_gives_the_same_spans(cell: str) -> None:
    assert read_entities(TEXT, cell) == (Span(0, 8, "PER"), Span(13, 15, "PER"), Span(19, 27, "LOC"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("B-A B-A", [("x", "A"), ("y", "A")]),
        ("I-A B-A", [("x", "A"), ("y", "A")]),
        ("I-A I-A", [("x y", "A")]),
        ("I-A I-B", [("x", "A"), ("y", "B")]),
        ("B-A I-B", [("x", "A"), ("y", "B")]),
        ("S-A I-A", [("x", "A"), ("y", "A")]),
        ("U-A E-A", [("x", "A"), ("y", "A")]),
        ("E-A I-A", [("x", "A"), ("y", "A")]),
        ("B-A S-A", [("x", "A"), ("y", "A")]),
        ("B-A L-A", [("x y", "A")]),
        ("B-a-b I-a-b", [("x y", "a-b")]),
        ("B-A I-a", [("x", "A"), ("y", "a")]),
        ("O B-O", [("y", "O")]),
    ],
)
def test_entities_neighbouring_tags_are_joined_or_not(cell: str, expected: list[tuple[str, str]]) -> None:
    assert marked("x y", cell) == expected


def test_entities_an_entity_does_not_go_on_behind_another_word() -> None:
    assert marked("x y z", "B-A O I-A") == [("x", "A"), ("z", "A")]


@pytest.mark.parametrize(
    ("text", "cell", "expected"),
    [
        ("Bo  met  Al", "B-A O B-A", [("Bo", "A"), ("Al", "A")]),
        (" Bo met\tAl\n", "B-A O B-A", [("Bo", "A"), ("Al", "A")]),
        ("in New  York", "O B-A I-A", [("New  York", "A")]),
        ("a  b", "O O B-A", [("b", "A")]),
        ("a  b c", "O B-A I-A O", [("b", "A")]),
        ("a \u00a0Bo", "O B-A", [("Bo", "A")]),
        ("😀 Bo 😀😀 Al", "O B-A O B-A", [("Bo", "A"), ("Al", "A")]),
        ("a a aa a", "O O B-A B-B", [("aa", "A"), ("a", "B")]),
    ],
    ids=["two blanks", "other blanks", "inside", "counted", "begins empty", "no-break space", "emoji", "repeated"],
)
def test_entities_words_are_found_where_they_stand(text: str, cell: str, expected: list[tuple[str, str]]) -> None:
    assert marked(text, cell) == expected


def test_entities_a_repeated_word_is_marked_at_its_own_place() -> None:
    assert read_entities("a a aa a", "O O O B-X") == (Span(7, 8, "X"),)


@pytest.mark.parametrize(
    ("text", "cell", "sentence"),
    [
        ("a b c d e f g h", "O O O O O O B-X", "has 7 tags for 8 words"),
        ("a  b c", "B-X", "has 1 tag for 3 words"),
        ("a", "O O", "has 2 tags for 1 word"),
        ("", "O B-X", "has 2 tags for 0 words"),
        ("a " * 1_200, "O " * 1_300, "has 1,300 tags for 1,200 words"),
        ("a b", "O o", 'has "o", which is no tag (O, B-TYPE or I-TYPE for each word)'),
        ("a b", "O positive", 'has "positive", which is no tag'),
        ("a b", "O X-PER", 'has "X-PER"'),
        ("a b", "O B", 'has "B"'),
        ("a b", "O B-", 'has "B-"'),
        ("a b", "O -PER", 'has "-PER"'),
        ("a b", "O b-PER", 'has "b-PER"'),
        ("a b", "O BI-PER", 'has "BI-PER"'),
        ("a b", "O B_PER", 'has "B_PER"'),
        ("a b", "null", 'has "null", which is no tag'),
        ("a b", "O, B-PER O", 'has "O,"'),
        ("a b", "O " + "x" * 10_000, 'has "' + "x" * 40 + '…"'),
        ("a b", '{"start": 0, "end": 1, "label": "X"}', "no list of spans"),
        ("a  b", "O B-X O", 'has an entity of type "X" where the text has only white space'),
        ("", "B-X", "only white space"),
        ("a b", "O B-x\x01", 'has the label "x\\x01" with a control character'),
    ],
)
def test_entities_tags_that_do_not_fit_are_refused(text: str, cell: str, sentence: str) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_entities(text, cell)


# ------------------------------------------------------------------------------------------------------- JSON spans


@pytest.mark.parametrize("cell", ["", " ", "\t\n", "\u00a0"])
def test_entities_an_empty_cell_is_not_annotated(cell: str) -> None:
    assert read_entities("a b", cell) is None


@pytest.mark.parametrize("cell", ["[]", " [ ] ", "O O", " O  O "])
def test_entities_none_marked_is_not_the_same_as_not_annotated(cell: str) -> None:
    assert read_entities("a b", cell) == ()


def test_entities_spans_are_sorted_and_other_keys_left_alone() -> None:
    items = [
        {"label": "LOC", "start": 19, "end": 27, "text": "New York", "score": float("nan"), "more": [[{}]]},
        {"start": 0, "end": 8, "label": "PER", "word": "Anna Lee", "text": None},
        {"start": 9, "end": 12, "label": " a label ", "id": True},
    ]
    expected = (Span(0, 8, "PER"), Span(9, 12, " a label "), Span(19, 27, "LOC"))
    assert read_entities(TEXT, json.dumps(items)) == expected


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("Bo's hat", 0, 2),
        ("(Bo)", 1, 3),
        ("@Bo", 1, 3),
        ("snake_case", 6, 10),
        ("Berlin-Mitte", 0, 6),
        ("Smith²", 0, 5),
        ("Bo", 0, 2),
        ("😀Bo😀", 1, 3),
        ("我住在北京市", 3, 5),
        ("東京タワーへ行く", 0, 2),
        ("ラーメン", 1, 2),
        ("ｱｲｳ", 1, 2),
        ("ฉันอยู่กรุงเทพ", 7, 14),
        ("서울에서", 0, 2),
        ("ສະບາຍດີ", 2, 4),
        ("ភាសាខ្មែរ", 2, 4),
        ("ရန်ကုန်မြို့", 3, 7),
        ("བོད་ཡིག", 1, 2),
        ("Sonyの社長", 0, 4),
        ("2024年5月", 0, 4),
        ("日々LINE", 2, 6),
        ("ꆈꌠꁱꂷ", 0, 2),
    ],
)
def test_entities_a_span_may_end_where_no_spaced_word_is_cut(text: str, start: int, end: int) -> None:
    assert read_entities(text, span(start, end, text=text[start:end])) == (Span(start, end, "X"),)


@pytest.mark.parametrize(
    ("text", "start", "end", "how"),
    [
        ("Anna", 1, 4, '"nna" begins'),
        ("Anna", 0, 3, '"Ann" ends'),
        ("in 2024", 3, 6, '"202" ends'),
        ("G20", 0, 1, '"G" ends'),
        ("Москва", 0, 3, '"Мос" ends'),
        ("cafe\u0301 au", 0, 4, '"cafe" ends'),
        ("हिन्दी", 0, 1, '"ह" ends'),
        ("ａｂｃ", 0, 1, "ends"),
        ("القاهرة", 2, 7, "begins"),
    ],
)
def test_entities_a_span_that_cuts_a_word_is_misaligned(text: str, start: int, end: int, how: str) -> None:
    with pytest.raises(DataError, match=f"^the span {start}-{end} is misaligned: .*{how} inside a word$"):
        read_entities(text, span(start, end))


NESTED = "[" * 100_000
HOSTILE = {
    "not JSON": ("[oops", "is not JSON: expecting value at character 2 of the cell"),
    "Python's quotes": ("[{'start': 0}]", "is not JSON: expecting property name enclosed in double quotes"),
    "more behind": (f"{SPANS} {SPANS}", "is not JSON: extra data"),
    "cut off": (SPANS[:-1], "is not JSON"),
    "nested": (NESTED, "has brackets nested too deeply"),
    "nested and closed": (NESTED + "]" * 100_000, "has brackets nested too deeply"),
    "nested objects": ('[{"a":' * 50_000, "has brackets nested too deeply"),
    "nested in another key": (SPANS[:-2] + f', "more": {NESTED}', "has brackets nested too deeply"),
    "nested a little": ("[" * 500 + "]" * 500, "span 1 is a JSON list"),
    "names": ('["PER"]', 'span 1 is "PER"'),
    "numbers": ("[1]", "span 1 is 1;"),
    "nothing": ("[null]", "span 1 is null;"),
    "the second": (SPANS[:-1] + ", {}]", "span 2 has null as its start"),
    "no start": ('[{"end": 4, "label": "X"}]', "span 1 has null as its start; a whole number from 0 is expected"),
    "no end": ('[{"start": 4, "label": "X"}]', "span 1 has null as its end"),
    "no label": ('[{"start": 0, "end": 4}]', "span 1 has no label"),
    "empty label": (span(0, 4, ""), "span 1 has no label"),
    "blank label": (span(0, 4, " \n"), "span 1 has no label"),
    "a label of null": (span(0, 4, None), "span 1 has no label"),
    "a number as label": (span(0, 4, 3), "span 1 has no label"),
    "a list as label": (span(0, 4, ["PER"]), "span 1 has no label"),
    "a label that is no text": ('[{"start":0,"end":4,"label":"\\ud800"}]', 'has the label "\\ud800" with a control'),
    "a NUL in the label": ('[{"start":0,"end":4,"label":"a\\u0000"}]', "with a control character"),
    "a line break in the label": (span(0, 4, "a\nb"), 'has the label "a\\nb" with a control character'),
    "the same key twice": (
        '[{"start": 0, "end": 4, "label": "A", "label": "B"}]',
        "has a JSON object with the same name twice",
    ),
    "text as start": (span("0", 4), 'span 1 has "0" as its start'),
    "float": (span(0, 4.5), "span 1 has 4.5 as its end"),
    "whole float": (span(0.0, 4), "span 1 has 0.0 as its start"),
    "exponent": ('[{"start": 0, "end": 4e0, "label": "X"}]', "span 1 has 4.0 as its end"),
    "not a number": (span(float("nan"), 4), "span 1 has NaN as its start"),
    "infinity": ('[{"start": 0, "end": 1e999, "label": "X"}]', "span 1 has Infinity as its end"),
    "true": (span(False, 4), "span 1 has false as its start"),
    "a list as end": (span(0, [4]), "span 1 has a JSON list as its end"),
    "an object as end": (span(0, {"a": 1}), "span 1 has a JSON object as its end"),
    "negative": (span(-4, 4), "span 1 has -4 as its start"),
    "huge": (span(0, 10**400), "the span 0-1" + "0" * 39 + "… ends after the text's 29 characters"),
    "too huge": ('[{"start": 0, "end": ' + "9" * 5_000 + ', "label": "X"}]', "has a number of too many digits"),
    "too huge and negative": ('[{"start": -' + "9" * 5_000 + "}]", "has a number of too many digits"),
    "backwards": (span(8, 5), "the span 8-5 ends before it begins"),
    "nothing inside": (span(5, 5), "the span 5-5 ends where it begins"),
    "behind the text": (span(5, 90), "the span 5-90 ends after the text's 29 characters"),
    "far behind the text": (span(90, 95), "the span 90-95 ends after the text's 29 characters"),
    "one behind the text": (span(28, 30), "the span 28-30 ends after"),
    "another text": (
        span(0, 4, text="Otto"),
        'the span 0-4 is misaligned: it is "Anna" in the text, but "Otto" in the cell',
    ),
    "another case": (span(0, 4, word="anna"), '"Anna" in the text, but "anna" in the cell'),
    "longer text": (span(0, 4, text="Anna Lee"), '"Anna" in the text, but "Anna Lee" in the cell'),
    "shorter text": (span(0, 4, text="Ann"), '"Anna" in the text, but "Ann" in the cell'),
    "a number as text": (span(0, 4, text=4), '"Anna" in the text, but 4 in the cell'),
    "a text that is none": (
        '[{"start":0,"end":4,"label":"X","text":"\\ud800é"}]',
        '"Anna" in the text, but "\\ud800é" in the cell',
    ),
    "blank first": (span(4, 8), 'the span 4-8 is misaligned: " Lee" begins or ends with white space'),
    "blank last": (span(0, 5), '"Anna " begins or ends with white space'),
    "blank only": (span(4, 5), '" " begins or ends with white space'),
    "inside a word": (span(1, 4), "inside a word"),
    "overlap": (
        '[{"start":5,"end":12,"label":"Y"},{"start":0,"end":8,"label":"X"}]',
        "the spans 0-8 and 5-12 overlap",
    ),
    "nested spans": ('[{"start":0,"end":8,"label":"X"},{"start":0,"end":4,"label":"Y"}]', "overlap"),
    "the same twice": (SPANS[:-1] + "," + SPANS[1:], "the spans 0-4 and 0-4 overlap"),
}


@pytest.mark.parametrize(("cell", "sentence"), HOSTILE.values(), ids=HOSTILE)
def test_entities_spans_that_do_not_fit_are_refused(cell: str, sentence: str) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)) as caught:
        read_entities(TEXT, cell)
    message = str(caught.value)
    assert len(message) < 200
    assert message.encode().decode() == message
    assert not message.endswith(".")
    assert not message[0].isupper()  # the caller puts the row before it
    assert "\n" not in message


def test_entities_touching_spans_do_not_overlap() -> None:
    cell = json.dumps([{"start": 2, "end": 4, "label": "B"}, {"start": 0, "end": 2, "label": "A"}])
    assert marked("北京大学", cell) == [("北京", "A"), ("大学", "B")]


def test_entities_spans_that_share_one_character_overlap() -> None:
    cell = json.dumps([{"start": 0, "end": 5, "label": "A"}, {"start": 4, "end": 8, "label": "B"}])
    with pytest.raises(DataError, match="the spans 0-5 and 4-8 overlap"):
        read_entities("Anna-Lee", cell)


def test_entities_one_cell_may_hold_very_many() -> None:
    words = 50_000
    text = "Bo " * words
    expected = tuple(Span(3 * word, 3 * word + 2, "A") for word in range(words))
    items = [{"start": one.start, "end": one.end, "label": "A", "text": "Bo"} for one in reversed(expected)]
    assert read_entities(text, json.dumps(items)) == expected
    assert read_entities(text, "B-A " * words) == expected
    assert read_entities(text, "I-A " * words) == (Span(0, 3 * words - 1, "A"),)


def test_entities_long_spans_over_each_other_are_not_copied_one_by_one() -> None:
    text = "x " * 400_000 + "x"  # cut out each time, these would be 10 GB
    items = [{"start": 2 * place, "end": len(text), "label": "A"} for place in range(20_000)]
    with pytest.raises(DataError, match="overlap"):
        read_entities(text, json.dumps(items))


# ----------------------------------------------------------------------------------------------------------- columns


def test_entities_a_column_keeps_its_rows_and_names_those_that_do_not_fit() -> None:
    texts = ["Bo met Al", "Bo met Al", "Bo", "Bo met Al", "Al", "Bo"]
    cells = ["I-PER O B-LOC", "O B-PER", " ", '[{"start": 0, "end": 2, "label": "LOC"}]', "O", '[{"start": 1}]']
    assert read_entity_column(texts, cells) == EntityColumn(
        spans=((Span(0, 2, "PER"), Span(7, 9, "LOC")), None, None, (Span(0, 2, "LOC"),), (), None),
        problems=((1, "has 2 tags for 3 words"), (5, "span 1 has null as its end; a whole number from 0 is expected")),
        types={"LOC": 2, "PER": 1},
        converted=1,
    )


def test_entities_types_begin_with_the_most_frequent() -> None:
    column = read_entity_column(["a b c"] * 3, ["B-X B-Y B-Y", "O O B-Z", "B-Z O B-Z"])
    assert list(column.types.items()) == [("Z", 3), ("Y", 2), ("X", 1)]


@pytest.mark.parametrize(
    ("cell", "converted"),
    [
        ("B-A I-A B-B", 0),
        ("I-A I-A B-A", 1),
        ("I-A I-B I-A", 3),
        ("B-A I-B O", 1),
        ("B-A E-A S-B", 0),
        ("O O E-A", 1),
        ("L-A U-A O", 1),
        ("B-A L-A L-A", 1),
    ],
)
def test_entities_that_do_not_begin_with_b_are_counted(cell: str, converted: int) -> None:
    assert read_entity_column(["x y z"], [cell]).converted == converted


def test_entities_of_a_row_that_does_not_fit_are_not_counted() -> None:
    column = read_entity_column(["x y", "x y"], ["I-A O O", "I-A x"])
    assert (column.converted, column.types, len(column.problems)) == (0, {}, 2)


def test_entities_an_empty_column_is_read() -> None:
    assert read_entity_column([], []) == EntityColumn((), (), {}, 0)


def test_entities_every_row_needs_its_cell() -> None:
    with pytest.raises(ValueError, match="shorter"):
        read_entity_column(["a", "b"], ["O"])


def test_entities_of_the_example_file_all_fit() -> None:
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [row["entities"] for row in rows]
    column = read_entity_column([row["text"] for row in rows], cells)
    assert column.problems == ()
    assert sum(column.types.values()) == sum(cell.count('"label"') for cell in cells) > 0
    assert sum(spans is None for spans in column.spans) == cells.count("") > 0
    assert column.spans.count(()) == cells.count("[]") > 0


# -------------------------------------------------------------------------------------------------------- properties

# Letters of spaced and unspaced scripts, digits, marks, punctuation, an emoji; never white space.
WORDS = st.text(st.sampled_from("abÉ9ßж京ไ한の.,'-_[{O😀\u0301"), min_size=1, max_size=6)
LABELS = st.sampled_from(["PER", "LOC", "creative-work", "O", "B-x"])


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    """Draw a text and entities of it: (first word, last word, label), in order, often right behind each other."""
    words = draw(st.lists(WORDS, min_size=1, max_size=12))
    glue = draw(st.sampled_from([" ", "  ", "\t", " \n", "\u00a0"]))
    entities = []
    at = draw(st.integers(0, 3))
    while at < len(words):
        last = min(len(words) - 1, at + draw(st.integers(0, 3)))
        entities.append((at, last, draw(LABELS)))
        at = last + 1 + draw(st.integers(0, 2))
    return glue.join(words), entities


def tagged(count: int, entities: list[tuple[int, int, str]], scheme: str) -> list[str]:
    """Write entities as tags, straight from each scheme's definition."""
    tags = ["O"] * count
    before: tuple[int, str] | None = None
    for first, last, label in entities:
        inside = [f"I-{label}"] * (last - first + 1)
        if scheme == "IOB1":
            if before == (first - 1, label):
                inside[0] = f"B-{label}"
        else:
            if scheme != "IOB2":
                inside[-1] = f"{'E' if scheme == 'BIOES' else 'L'}-{label}"
            inside[0] = f"B-{label}"
            if scheme != "IOB2" and first == last:
                inside[0] = f"{'S' if scheme == 'BIOES' else 'U'}-{label}"
        tags[first : last + 1] = inside
        before = (last, label)
    return tags


def placed(text: str, entities: list[tuple[int, int, str]]) -> tuple[Span, ...]:
    """Turn words into characters by a regular expression, as the reader does not."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    return tuple(Span(words[first][0], words[last][1], label) for first, last, label in entities)


@EVERY
@given(annotated(), st.sampled_from(["IOB1", "IOB2", "BIOES", "BILOU"]))
def test_entities_written_in_any_scheme_are_read_back(
    drawn: tuple[str, list[tuple[int, int, str]]], scheme: str
) -> None:
    text, entities = drawn
    tags = tagged(len(text.split()), entities, scheme)
    cell = " ".join(tags)
    column = read_entity_column([text], [cell])
    assert column.problems == ()
    assert column.spans == (placed(text, entities),)
    assert column.converted == sum(tags[first].startswith("I-") for first, _, _ in entities)
    assert (scheme == "IOB1") or column.converted == 0
    assert not entities or len(tags) < 2 or entity_form([cell]) == "tags"


@EVERY
@given(annotated(), st.randoms(use_true_random=False), st.booleans())
def test_entities_written_as_json_are_read_back(
    drawn: tuple[str, list[tuple[int, int, str]]], order: Any, ascii_only: bool
) -> None:
    text, entities = drawn
    expected = placed(text, entities)
    items = [
        {"start": one.start, "end": one.end, "label": one.label, "text": text[one.start : one.end]} for one in expected
    ]
    order.shuffle(items)
    cell = json.dumps(items, ensure_ascii=ascii_only)
    assert read_entities(text, cell) == expected
    assert entity_form([cell]) == ("spans" if entities else None)


NUMBERS = st.integers(-2, 14) | st.floats() | st.booleans() | st.none() | st.text(max_size=2)
ITEMS = st.fixed_dictionaries(
    {"start": NUMBERS, "end": NUMBERS, "label": st.text(max_size=3) | st.none()},
    optional={"text": st.text(max_size=3), "word": st.none()},
)
JSON = st.recursive(ITEMS | NUMBERS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
TAGS = st.lists(st.from_regex(r"[BIOESLUX]?-?[AB]?", fullmatch=True), max_size=6).map(" ".join)
CELLS = st.text(max_size=20) | TAGS | st.lists(JSON, max_size=3).map(json.dumps)


@EVERY
@given(st.text(st.sampled_from("ab \t京\u0301.😀"), max_size=12), CELLS)
def test_entities_any_cell_gives_sound_spans_or_a_sentence(text: str, cell: str) -> None:
    entity_form([cell])
    try:
        spans = read_entities(text, cell)
    except DataError as error:
        assert 5 < len(str(error)) < 250
        return
    assert (spans is None) == (not cell.strip())
    end = 0
    for one in spans or ():
        assert end <= one.start < one.end <= len(text)
        assert text[one.start : one.end] == text[one.start : one.end].strip()
        assert one.label.strip()
        end = one.end


@EVERY
@given(st.lists(st.tuples(st.sampled_from(["a b", "a  b", "", "京都"]), CELLS), max_size=8))
def test_entities_a_column_is_its_cells_one_by_one(rows: list[tuple[str, str]]) -> None:
    column = read_entity_column([text for text, _ in rows], [cell for _, cell in rows])
    problems = dict(column.problems)
    assert len(column.spans) == len(rows)
    assert list(problems) == sorted(problems)
    for index, (text, cell) in enumerate(rows):
        try:
            assert column.spans[index] == read_entities(text, cell)
            assert index not in problems
        except DataError as error:
            assert (column.spans[index], problems[index]) == (None, str(error))
    assert sum(column.types.values()) == sum(len(spans) for spans in column.spans if spans)
