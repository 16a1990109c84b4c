from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mtl.data.sameness import normalised
from mtl.inference import checks as module
from mtl.inference.checks import check, near_duplicates

CLASSES = ("sports", "food", "weather")
Frozen = Callable[[Sequence[str], str, Path], Generator[tuple[int, int], None, np.ndarray]]


def run(steps: Generator) -> tuple[list[tuple[float, str]], module.Checks | module.NearDuplicates]:
    """Run to the end: the progress on the way, and the result."""
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def planted(topics: Sequence[str]) -> Frozen:
    """Stand in for the encoder: a text is a direction that its first word decides, turned a little by the rest."""

    def embed(texts: Sequence[str], encoder_name: str, cache_dir: Path) -> Generator[tuple[int, int], None, np.ndarray]:
        vectors = np.zeros((len(texts), 40), dtype=np.float32)
        for row, text in enumerate(texts):
            subject, number, *more = normalised(text).split()
            rng = np.random.default_rng(int(number))
            vectors[row, topics.index(subject)] = 1
            vectors[row] += 0.2 * rng.normal(size=40)
            vectors[row, -1] += 0.15 * len(more)
        yield 0, len(texts)
        yield len(texts), len(texts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return embed


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """180 different texts of three topics; their embeddings tell the topics apart and are near to no other."""
    monkeypatch.setattr(module, "frozen_embeddings", planted(CLASSES))
    return [f"{CLASSES[number % 3]} {number}" for number in range(180)]


def topics(texts: Sequence[str]) -> list[str]:
    """Return the label each text should have."""
    return [normalised(text).split()[0] if text.strip() else "" for text in texts]


def test_checks_find_nothing_odd_in_a_clean_table(table: list[str]) -> None:
    told, found = run(check(table, {"topic": topics(table)}, "encoder", Path()))
    assert found.near.groups == ()
    assert found.near.partners == {}
    assert found.clashes == {"topic": ()}
    assert len(found.suspects["topic"].suspects) <= 2
    assert found.suspects["topic"].checked == 180
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, pytest.approx(1))
    sentences = list(dict.fromkeys(sentence for _, sentence in told))
    assert sentences == [
        "Embedding 180 different texts",
        "Comparing every two texts",
        'Checking the labels of "topic"',
    ]


def test_checks_near_duplicates_come_with_all_rows_of_their_texts(table: list[str]) -> None:
    texts = ["", *table, "  ", "SPORTS 0!", "sports 0 again", "food 1 https://example.org", "food 1."]
    _, found = run(check(texts, {}, "encoder", Path(), threshold=0.95))
    # rows 182 and 183: row 1 in capitals, and nearly row 1; rows 184 and 185 equal row 2, which nothing nearly repeats
    assert found.near.groups == ((1, 182, 183),)
    assert {row: partner for row, (partner, _) in found.near.partners.items()} == {1: 183, 182: 183, 183: 1}
    assert all(0.95 <= cosine < 1 for _, cosine in found.near.partners.values())
    _, alone = run(near_duplicates(texts, "encoder", Path(), threshold=0.95))
    assert alone == found.near


def test_checks_near_duplicates_with_different_labels_clash(table: list[str]) -> None:
    texts = ["", *table, "sports 0 again", "food 1 again", "weather 2 again"]
    topic = topics(texts)
    topic[181], topic[183] = "food", ""
    mood = ["good"] * len(texts)
    mood[182] = "bad"
    _, found = run(check(texts, {"topic": topic, "mood": mood}, "encoder", Path()))
    assert [clash.rows for clash in found.clashes["topic"]] == [(1, 181)]
    assert [clash.rows for clash in found.clashes["mood"]] == [(2, 182)]
    assert found.clashes["topic"][0].cosine == pytest.approx(found.near.partners[1][1])


def test_checks_equal_texts_with_different_labels_are_not_reported_again(table: list[str]) -> None:
    texts = [*table, table[0].upper()]
    _, found = run(check(texts, {"topic": [*topics(table), "weather"]}, "encoder", Path()))
    assert found.near.groups == ()
    assert found.clashes == {"topic": ()}


def test_checks_planted_mistakes_are_suspect_in_their_rows(table: list[str]) -> None:
    texts = ["", " ", *table]
    topic, wrong = topics(texts), {10, 41, 77, 103, 150}
    for row in wrong:
        topic[row] = CLASSES[(CLASSES.index(topic[row]) + 1) % 3]
    partly = [label if row % 2 else "" for row, label in enumerate(topic)]
    _, found = run(check(texts, {"topic": topic, "partly": partly, "one": ["same"] * 182}, "encoder", Path()))
    suspects = {suspect.row: suspect for suspect in found.suspects["topic"].suspects}
    assert len(suspects.keys() & wrong) >= 4
    for row in suspects.keys() & wrong:
        assert (suspects[row].given, suspects[row].suggested) == (topic[row], topics(texts)[row])
    assert found.suspects["partly"].checked == 90
    assert {suspect.row % 2 for suspect in found.suspects["partly"].suspects} == {1}
    assert found.suspects["one"].suspects == ()
    assert "not two classes" in found.suspects["one"].sentences[0]


def test_checks_near_duplicates_do_not_vouch_for_each_other(table: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Sequence[int]] = []
    suspect_labels = module.suspect_labels

    def remember(vectors: np.ndarray, labels: Sequence[str], groups: Sequence[int], *, seed: int) -> Generator:
        given.append(groups)
        return suspect_labels(vectors, labels, groups, seed=seed)

    monkeypatch.setattr(module, "suspect_labels", remember)
    texts = [*table, "Sports 0?", "sports 0 again", "food 1"]
    run(check(texts, {"topic": topics(texts)}, "encoder", Path()))
    (groups,) = given
    assert groups[0] == groups[180] == groups[181]
    assert groups[1] == groups[182]
    assert len(set(groups)) == 180


def test_checks_same_table_same_answer(table: list[str]) -> None:
    labels = {"topic": topics(table)[::-1]}
    one, other = (run(check(table, labels, "encoder", Path(), seed=3))[1] for _ in range(2))
    assert one == other


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_checks_of_no_texts_find_nothing(texts: list[str], tiny_encoder_folder: Path, tmp_path: Path) -> None:
    _, found = run(check(texts, {"topic": ["a"] * len(texts)}, str(tiny_encoder_folder), tmp_path))
    assert found.near.groups == ()
    assert found.suspects["topic"].checked == 0


def test_checks_work_on_a_real_encoder_and_stop_anywhere(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    nouns = ["team", "soup", "rain", "coach", "bread", "snow"]
    texts = [f"the {noun} was {word}" for noun in nouns for word in ("great", "awful", "good", "bad")] + [
        "the team was"
    ]
    labels = {"topic": [text.split()[1] for text in texts]}
    arguments = (texts, labels, str(tiny_encoder_folder), tmp_path)
    _, found = run(check(*arguments, threshold=0.5))
    told, again = run(check(*arguments, threshold=0.5))  # fewer steps: the embeddings are there
    assert again == found
    for steps in range(len(told)):
        running = check(*arguments, threshold=0.5)
        for _ in range(steps + 1):
            next(running)
        running.close()
    rows = [row for group in found.near.groups for row in group]
    assert len(rows) == len(set(rows)) > 1
    assert set(found.near.partners) == set(rows)
