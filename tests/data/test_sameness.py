from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from mtl.data.sameness import Groups, normalised, same_words
from tests.data.strategies import ANY_TEXT, EVERY

SAME = [
    ("A  b\tc\n", "a B c"),
    ("straße", "STRASSE"),
    ("\u00a0x", "X "),
    ("Hello, world!", "hello world"),
    ("so - what?", "So: what"),
    ("«quoted» “text”", "quoted text"),
    ("你好，世界。", "你好 世界"),
    ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
    ("ﬁne", "fine"),
    ("cafe\u0301", "café"),
    ("it’s", "it's"),
    ("a...", "a"),
]
LINKED = [
    ("see https://t.co/abc", "see http://example.org/x?y=1 !"),
    ("see www.example.org/x", "SEE"),
    ("@anna thank you", "thank you @ben_2"),
    ("@anna", "@anna"),
]
DIFFERENT = [
    ("a b", "ab"),
    ("e", "é"),
    ("great", "not great"),
    ("so good 😀", "so good 😡"),
    (":)", ":("),
    ("!!!", "?"),
    ("", "."),
    ("mail me at a@b.org", "mail me at a"),
    ("1 + 1", "1 1 1"),
    ("https://a.org", "https://b.org"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_sameness_case_white_space_and_punctuation_do_not_tell_texts_apart(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert same_words(one) == same_words(other)


@pytest.mark.parametrize(("one", "other"), LINKED)
def test_sameness_links_and_mentions_do_not_tell_texts_apart(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(("one", "other"), LINKED[:3])
def test_sameness_links_and_mentions_are_words_where_labels_are_compared(one: str, other: str) -> None:
    assert same_words(one) != same_words(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_sameness_letters_accents_signs_and_bare_links_do(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(ANY_TEXT | st.text(st.sampled_from("aB.! \t@:/w😀東é")))
@EVERY
def test_sameness_of_a_text_is_settled_in_one_step(text: str) -> None:
    for form in (normalised, same_words):
        assert form(form(text)) == form(text)
        assert form(f"  {text}\n") == form(text)
        assert bool(form(text)) is bool(text.strip())
        assert form(text) == " ".join(form(text).split())


@given(ANY_TEXT)
@example("WWW.")
@example("x https://")
@example("www.example.org")
@example("@north")
@EVERY
def test_sameness_of_words_implies_sameness(text: str) -> None:
    other = f"({text.upper()})"
    if same_words(text) == same_words(other):
        assert normalised(text) == normalised(other)


# ------------------------------------------------------------------------------------------------------------ groups

PAIRS = st.lists(st.lists(st.integers(0, 19), max_size=5), max_size=12)


@given(PAIRS)
@EVERY
def test_sameness_groups_are_what_the_joins_connect(joins: list[list[int]]) -> None:
    groups = Groups(20)
    sets = [{row} for row in range(20)]
    for rows in joins:
        groups.join(iter(rows))
        whole = set().union(*(sets[row] for row in rows))
        for row in whole:
            sets[row] = whole
    assert [groups.find(row) for row in range(20)] == [min(found) for found in sets]


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=20))
@EVERY
def test_sameness_equal_keys_are_joined_and_none_equals_nothing(keys: list[str | None]) -> None:
    groups = Groups(len(keys))
    groups.join_equal(keys)
    for row, key in enumerate(keys):
        assert groups.find(row) == (row if key is None else keys.index(key))


def test_sameness_a_long_chain_is_one_group() -> None:
    groups = Groups(100_000)
    for row in range(99_999, 0, -1):
        groups.join((row, row - 1))
    assert {groups.find(row) for row in range(100_000)} == {0}
