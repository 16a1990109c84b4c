"""The report of the test rows. `test_report` is called through its module, or pytest would take it for a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import classification_report, confusion_matrix
from torch import Tensor

from mtl.choices import SCORES
from mtl.data.batching import IGNORE_INDEX
from mtl.data.entities import Span
from mtl.data.splitting import Examples
from mtl.modeling.heads import Entity, EntityPrediction
from mtl.reports import testing
from mtl.tasks import TaskSpec
from mtl.training.calibration import expected_calibration_error
from mtl.training.entity_scores import entity_scores, entity_scores_by_type
from mtl.training.events import RunEnd
from mtl.training.metrics import Evaluation, class_scores

LABELS = ("food", "sports", "weather", "=other")
TOPIC = TaskSpec(name="topic", key="topic", kind="classification", labels=LABELS)
NAMES = TaskSpec(name="names", key="names", kind="token_classification", labels=("LOC", "PER"))


def world(rows: int = 400, *, classes: int = 4, sharpness: float = 3.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and labels of a model that is more certain than it should be by a factor; each sixth row is unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(rows, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    labels[::6] = IGNORE_INDEX
    return sharpness * logits, labels


def evaluated(logits: Tensor, labels: Tensor, **others: Any) -> Evaluation:
    labelled = labels != IGNORE_INDEX
    scores = class_scores(labels[labelled], logits.argmax(dim=1)[labelled])
    return Evaluation(
        loss=0.5,
        losses={"topic": 0.5},
        scores={"topic": scores},
        counts={"topic": int(labelled.sum())},
        main={"topic": "macro_f1"},
        logits={"topic": logits},
        labels={"topic": labels},
        **others,
    )


def examples(labels: Tensor, names: Sequence[str] = LABELS) -> Examples:
    cells = tuple("" if label == IGNORE_INDEX else names[label] for label in labels.tolist())
    return Examples(
        tuple(f"text {n} on {cell}" for n, cell in enumerate(cells)), {"topic": cells}, tuple(range(len(cells)))
    )


def ended(test: Evaluation | None, **temperatures: float) -> RunEnd:
    return RunEnd("done", "all epochs done", 2, test, test, temperatures)


def report(logits: Tensor, labels: Tensor, *, temperature: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """Report one task of classes; the rows of the file begin at 100."""
    rows = examples(labels)
    end = ended(evaluated(logits, labels), topic=temperature)
    return testing.test_report(end, [TOPIC], train=rows, test=rows, places=lambda row: row + 100, seed=seed)


# ------------------------------------------------------------------------------------------ what there always is


def test_testing_keeps_what_the_report_always_had() -> None:
    logits, labels = world()
    found = report(logits, labels)
    expected = evaluated(logits, labels)
    assert (found["outcome"], found["reason"], found["best_epoch"]) == ("done", "all epochs done", 2)
    assert found["validation"] == found["test"] == expected.scores
    assert (found["test_loss"], found["test_rows"]) == (0.5, expected.counts)
    assert (found["tasks"]["topic"]["kind"], found["tasks"]["topic"]["main"]) == ("classification", "macro_f1")
    assert found["tasks"]["topic"]["scores"] == expected.scores["topic"]
    assert found["notes"] == []


def test_testing_claims_nothing_where_nothing_was_tested() -> None:
    none = Examples((), {"topic": ()}, ())
    rows = examples(world()[1])
    saved = {"topic": {"accuracy": 0.75}}
    diverged = RunEnd("diverged", "why", 1, None, None, {})
    for end, test, note in (
        (ended(None), none, "There are no test rows"),
        (ended(None), rows, "The test rows were not scored"),
        (diverged, rows, "The run diverged"),
    ):
        found = testing.test_report(end, [TOPIC], train=rows, test=test, places=str, validation=saved)
        assert [found[key] for key in ("test", "test_loss", "test_rows", "tasks")] == [None] * 4
        assert found["validation"] == saved
        (sentence,) = found["notes"]
        assert note in sentence


def test_testing_says_which_task_has_no_labelled_test_row() -> None:
    logits, labels = world()
    rows = examples(labels)
    other = TaskSpec(name="a mood", key="a_mood", kind="classification", labels=("good", "bad"))
    found = testing.test_report(
        ended(evaluated(logits, labels)), [TOPIC, other], train=rows, test=rows, places=lambda row: row
    )
    assert list(found["tasks"]) == ["topic"]
    assert found["notes"] == ["No test row is labelled for a mood, so no test score is claimed for it."]


@pytest.mark.parametrize("rows", [2, 3, 50])
def test_testing_of_any_number_of_rows_is_plain_json(rows: int) -> None:
    found = report(*world(rows))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# ------------------------------------------------------------------------------------------ classes of texts


def test_testing_scores_class_by_class_as_scikit_learn() -> None:
    logits, labels = world()
    found = report(logits, labels)["tasks"]["topic"]["classes"]
    labelled = labels != IGNORE_INDEX
    reference = classification_report(
        labels[labelled], logits.argmax(1)[labelled], target_names=LABELS, output_dict=True, zero_division=0
    )
    assert [entry["label"] for entry in found] == list(LABELS)
    for entry in found:
        expected = reference[entry["label"]]
        assert entry == {
            "label": entry["label"],
            "precision": pytest.approx(expected["precision"]),
            "recall": pytest.approx(expected["recall"]),
            "f1": pytest.approx(expected["f1-score"]),
            "support": expected["support"],
        }


def test_testing_gives_a_class_that_is_nowhere_zeros() -> None:
    truth, guess = np.array([0, 0, 1]), np.array([0, 1, 1])
    *_, absent = testing.class_table(truth, guess, ("a", "b", "c"))
    assert absent == {"label": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_testing_confusion_is_scikit_learns() -> None:
    logits, labels = world()
    labelled = labels != IGNORE_INDEX
    found = report(logits, labels)["tasks"]["topic"]["confusion"]
    assert found["labels"] == list(LABELS)
    assert found["matrix"] == confusion_matrix(labels[labelled], logits.argmax(1)[labelled]).tolist()


def test_testing_confusion_of_many_classes_joins_the_rare_ones() -> None:
    names = ("other", *(f"class {n}" for n in range(1, 60)))
    generator = np.random.default_rng(0)
    truth = np.concatenate([np.arange(60), generator.integers(20, 60, 2000)])
    guess = np.where(generator.random(len(truth)) < 0.7, truth, generator.integers(0, 60, len(truth)))
    found = testing.confusion(truth, guess, names)
    full = confusion_matrix(truth, guess, labels=range(60))
    assert len(found["labels"]) == len(set(found["labels"])) == 40
    shown = [names.index(label) for label in found["labels"][:-1]]
    assert shown == sorted(shown)
    assert min(full.sum(1)[shown]) >= max(np.delete(full.sum(1), shown)), "the most frequent ones"
    matrix = np.array(found["matrix"])
    np.testing.assert_array_equal(matrix[:-1, :-1], full[np.ix_(shown, shown)])
    np.testing.assert_array_equal(matrix[:-1].sum(1), full.sum(1)[shown])
    np.testing.assert_array_equal(matrix[:, :-1].sum(0), full.sum(0)[shown])
    assert matrix.sum() == len(truth)


def test_testing_confusion_does_not_mistake_a_class_for_the_rest() -> None:
    names = ("other", *(f"class {n}" for n in range(1, 41)))
    found = testing.confusion(np.arange(41), np.arange(41), names)
    assert (found["labels"][0], found["labels"][-1]) == ("other", "other (2)")


def test_testing_intervals_hold_the_scores_and_are_seeded() -> None:
    logits, labels = world()
    found = report(logits, labels)["tasks"]["topic"]
    assert set(found["intervals"]) == set(found["scores"]) == set(SCORES["classification"])
    for name, (low, high) in found["intervals"].items():
        assert 0 <= low < found["scores"][name] < high <= 1
    assert report(logits, labels)["tasks"]["topic"] == found
    assert report(logits, labels, seed=1)["tasks"]["topic"]["intervals"] != found["intervals"]


def test_testing_sets_the_scores_beside_simple_baselines() -> None:
    found = report(*world())["tasks"]["topic"]
    assert set(found["baselines"]) == {"majority", "tfidf"}
    for scores in found["baselines"].values():
        assert set(scores) == set(found["scores"])
    assert found["baselines"]["majority"]["accuracy"] < found["baselines"]["tfidf"]["accuracy"]
    assert found["baseline_notes"] == {}


def test_testing_says_why_there_is_no_baseline() -> None:
    logits, labels = world()
    rows = examples(labels)
    train = replace(rows, cells={"topic": tuple(cell and "food" for cell in rows.cells["topic"])})
    found = testing.test_report(ended(evaluated(logits, labels)), [TOPIC], train=train, test=rows, places=str)
    assert found["tasks"]["topic"]["baselines"]["tfidf"] is None
    assert "one class" in found["tasks"]["topic"]["baseline_notes"]["tfidf"]


def test_testing_looks_at_labelled_rows_only() -> None:
    logits, labels = world()
    labelled = labels != IGNORE_INDEX
    bare = report(logits[labelled], labels[labelled])["tasks"]["topic"]
    full = report(logits, labels)["tasks"]["topic"]
    for part in ("scores", "intervals", "classes", "confusion", "calibration"):
        assert full[part] == bare[part], part


def test_testing_calibration_is_that_of_the_runs_temperature() -> None:
    logits, labels = world(4000)
    found = report(logits, labels, temperature=3.0)["tasks"]["topic"]["calibration"]
    assert (found["temperature"], found["unit"]) == (3.0, "texts")
    assert found["ece_before"] == pytest.approx(expected_calibration_error(logits.double().softmax(1), labels))
    assert found["ece_before"] > 0.15
    assert found["ece_after"] < 0.03
    labelled = int((labels != IGNORE_INDEX).sum())
    for when in ("before", "after"):
        bins = found[f"bins_{when}"]
        assert sum(part["count"] for part in bins) == labelled
        apart = sum(p["count"] * abs(p["accuracy"] - p["confidence"]) for p in bins if p["count"]) / labelled
        assert found[f"ece_{when}"] == pytest.approx(apart)
    rows = examples(labels)
    unfitted = testing.test_report(ended(evaluated(logits, labels)), [TOPIC], train=rows, test=rows, places=str)
    assert unfitted["tasks"]["topic"]["calibration"]["bins_after"] == found["bins_before"]


def test_testing_temperature_changes_confidences_alone() -> None:
    logits, labels = world()
    raw, cool = (report(logits, labels, temperature=value)["tasks"]["topic"] for value in (1.0, 3.0))
    for part in ("scores", "intervals", "classes", "confusion", "baselines"):
        assert raw[part] == cool[part], part
    assert raw["mistakes"][0]["confidence"] > cool["mistakes"][0]["confidence"]


def test_testing_mistakes_are_the_most_confident_ones() -> None:
    logits, labels = world()
    found = report(logits, labels, temperature=3.0)["tasks"]["topic"]["mistakes"]
    confidences = (logits.double() / 3).softmax(1).max(1).values
    guesses = logits.argmax(1)
    wrong = [i for i in range(400) if labels[i] not in (IGNORE_INDEX, guesses[i])]
    expected = sorted(wrong, key=lambda i: -float(confidences[i]))[:20]
    assert len(wrong) > 20
    assert [mistake["row"] for mistake in found] == [100 + i for i in expected]
    for mistake, i in zip(found, expected, strict=True):
        assert mistake["text"] == f"text {i} on {LABELS[labels[i]]}"
        assert (mistake["label"], mistake["predicted"]) == (LABELS[labels[i]], LABELS[guesses[i]])
        assert mistake["confidence"] == pytest.approx(float(confidences[i]), abs=1e-4)


def test_testing_mistakes_of_a_model_without_any() -> None:
    labels = torch.arange(8) % 4
    assert report(9.0 * torch.nn.functional.one_hot(labels, 4), labels)["tasks"]["topic"]["mistakes"] == []


# ------------------------------------------------------------------------------------------ entities

TEXTS = ("Bob Ray saw Rome", "Rome is old", "Ann and Bob", "not annotated", "nothing here")
TRUTH = [
    (Span(0, 7, "PER"), Span(12, 16, "LOC")),
    (Span(0, 4, "LOC"),),
    (Span(0, 3, "PER"), Span(8, 11, "PER")),
    None,
    (),
]
GUESSES = [
    EntityPrediction((Entity(4, 7, "PER", 0.6), Entity(12, 16, "LOC", 0.9))),
    EntityPrediction((Entity(0, 4, "PER", 0.8),)),
    EntityPrediction((Entity(0, 3, "PER", 0.7),)),
    EntityPrediction((Entity(0, 3, "PER", 1.0),)),
    EntityPrediction((Entity(0, 7, "LOC", 0.95),)),
]


def entity_report(texts: Sequence[str] = TEXTS, truth: Any = TRUTH, guesses: Any = GUESSES) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    test = Evaluation(
        loss=0.5,
        losses={"names": 0.5},
        scores={"names": entity_scores(truth, guesses)},
        counts={"names": sum(spans is not None for spans in truth)},
        main={"names": "entity_f1"},
        logits={"names": torch.randn(30, 5, generator=generator)},
        labels={"names": torch.randint(0, 5, (30,), generator=generator)},
        entities={"names": list(guesses)},
        spans={"names": list(truth)},
    )
    train = Examples(("see Rome", "see Ann"), {"names": ("O B-LOC", "O B-PER")}, (0, 1))
    rows = Examples(tuple(texts), {"names": ("",) * len(texts)}, tuple(range(len(texts))))
    found = testing.test_report(ended(test, names=2.0), [NAMES], train=train, test=rows, places=lambda row: row + 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found["tasks"]["names"]


def test_testing_of_entities_scores_type_by_type() -> None:
    found = entity_report()
    by_type = entity_scores_by_type(TRUTH, GUESSES)
    assert found["classes"] == [{"label": label, **by_type[label]} for label in ("LOC", "PER")]
    assert found["classes"][0] == {"label": "LOC", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert found["scores"]["entity_f1"] == pytest.approx(2 * 2 / (5 + 5))
    assert (found["kind"], found["main"]) == ("token_classification", "entity_f1")
    assert "confusion" not in found


def test_testing_of_entities_has_intervals_and_baselines() -> None:
    found = entity_report()
    for name, (low, high) in found["intervals"].items():
        assert 0 <= low <= found["scores"][name] <= high <= 1
    assert set(found["intervals"]) == set(found["scores"]) == set(SCORES["token_classification"])
    assert set(found["baselines"]["nothing"].values()) == {0.0}
    assert found["baselines"]["dictionary"] == pytest.approx(
        {"entity_f1": 2 * 3 / (3 + 5), "entity_precision": 1.0, "entity_recall": 3 / 5}
    )


def test_testing_of_entities_calibrates_tokens() -> None:
    found = entity_report()["calibration"]
    assert (found["temperature"], found["unit"]) == (2.0, "tokens")
    assert sum(part["count"] for part in found["bins_after"]) == 30


def test_testing_mistakes_in_entities_are_wrong_ones_and_then_missed_ones() -> None:
    assert entity_report()["mistakes"] == [
        {"row": 6, "text": "nothing here", "label": "", "predicted": "LOC: nothing", "confidence": 0.95},
        {"row": 3, "text": "Rome is old", "label": "LOC: Rome", "predicted": "PER: Rome", "confidence": 0.8},
        {"row": 2, "text": "Bob Ray saw Rome", "label": "PER: Bob Ray", "predicted": "PER: Ray", "confidence": 0.6},
        {"row": 4, "text": "Ann and Bob", "label": "PER: Bob", "predicted": "", "confidence": None},
    ]


def test_testing_mistakes_in_entities_beside_each_other_are_two() -> None:
    found = entity_report(["上海人"], [(Span(0, 2, "LOC"),)], [EntityPrediction((Entity(2, 3, "PER", 0.5),))])
    assert [(m["label"], m["predicted"]) for m in found["mistakes"]] == [("", "PER: 人"), ("LOC: 上海", "")]


def test_testing_mistakes_in_entities_stand_beside_all_that_they_overlap() -> None:
    truth = (Span(0, 3, "PER"), Span(4, 7, "PER"))
    found = entity_report(["Bob Ray ran"], [truth], [EntityPrediction((Entity(0, 7, "PER", 0.5),))])
    assert [(m["label"], m["predicted"]) for m in found["mistakes"]] == [("PER: Bob, PER: Ray", "PER: Bob Ray")]


@pytest.mark.parametrize(("wrong", "missed"), [(30, 30), (30, 4), (3, 30), (0, 2), (0, 0)])
def test_testing_mistakes_in_entities_share_the_places(wrong: int, missed: int) -> None:
    texts = ["Bob"] * (wrong + missed + 1)
    truth = [()] * wrong + [(Span(0, 3, "PER"),)] * missed + [()]
    guesses = [EntityPrediction((Entity(0, 3, "PER", n / 100),)) for n in range(wrong)]
    guesses += [EntityPrediction(())] * (missed + 1)
    confidences = [mistake["confidence"] for mistake in entity_report(texts, truth, guesses)["mistakes"]]
    sure = [value for value in confidences if value is not None]
    assert len(confidences) == min(20, wrong + missed)
    assert len(sure) >= min(10, wrong)
    assert confidences.count(None) >= min(10, missed)
    assert sure == [round((wrong - 1 - n) / 100, 4) for n in range(len(sure))]
    assert confidences == sure + [None] * confidences.count(None)


def test_testing_cuts_a_long_text_down_to_the_mistake() -> None:
    text = "so " * 1000 + "Bob" + " so" * 1000
    (mistake,) = entity_report([text], [()], [EntityPrediction((Entity(3000, 3003, "PER", 0.5),))])["mistakes"]
    assert "Bob" in mistake["text"]
    assert (mistake["text"][0], mistake["text"][-1], len(mistake["text"])) == ("…", "…", 502)
    (mistake,) = entity_report([text], [()], [EntityPrediction((Entity(0, 2, "PER", 0.5),))])["mistakes"]
    assert mistake["text"] == text[:500] + "…"
