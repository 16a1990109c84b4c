from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest

from mtl.reports.diagnosis import MOST_SENTENCES, diagnose

History = list[dict[str, Any]]
# mean training loss, mean validation loss and main score of one task at the end of each epoch
Course = list[tuple[float, float, float]]

LEARNS: Course = [(0.9, 0.8, 0.6), (0.6, 0.65, 0.75), (0.45, 0.6, 0.8), (0.35, 0.6, 0.82)]
STALLS: Course = [(1.1, 1.1, 0.33), (1.1, 1.1, 0.3), (1.099, 1.1, 0.34), (1.098, 1.1, 0.33)]
HELD: Course = [(1.1, 1.0, 0.5), (1.08, 1.0, 0.5), (1.07, 1.0, 0.5), (1.07, 1.0, 0.5)]
SOLVED: Course = [(0.05, 0.05, 0.98), (0.05, 0.05, 0.98), (0.05, 0.05, 0.98), (0.05, 0.05, 0.98)]
OVERFITS: Course = [(0.9, 0.8, 0.7), (0.5, 0.6, 0.75), (0.3, 0.7, 0.74), (0.1, 0.8, 0.73)]


def run(
    courses: Mapping[str, Course],
    *,
    weights: Mapping[str, float] | None = None,
    shares: Mapping[str, float] | None = None,
    cosines: Mapping[str, Mapping[str, float]] | None = None,
    embeddings: list[tuple[float, float, bool]] | None = None,
    rates: list[float] | None = None,
    metric: str = "macro_f1",
    steps: int = 4,
) -> History:
    """A journal of so many steps an epoch, with what each test needs in it."""
    history: History = [{"event": "RunBegin", "steps": 99, "epochs": 99}]
    look = {"cosines": cosines or {}, "shares": shares or {}, "norms": shares or {}} if cosines or shares else None
    rate = itertools.chain(rates or [], itertools.repeat(1e-5))
    for epoch in range(1, len(next(iter(courses.values()))) + 1):
        now = {task: course[epoch - 1] for task, course in courses.items()}
        history += [
            {
                "event": "StepEnd",
                "step": (epoch - 1) * steps + number,
                "epoch": epoch,
                "loss": 1.0,
                "losses": {task: loss for task, (loss, _, _) in now.items()},
                "weights": dict(weights or dict.fromkeys(courses, 1.0)),
                "learning_rates": {"layer.0": next(rate)},
                "gradient_norm": 1.0,
                "conflict": look,
            }
            for number in range(1, steps + 1)
        ]
        sides = [
            {
                "loss": 1.0,
                "losses": {task: values[side] for task, values in now.items()},
                "scores": {task: {metric: values[2]} for task, values in now.items()},
                "counts": dict.fromkeys(courses, 100),
                "mean_score": 0.5,
                "main": dict.fromkeys(courses, metric),
            }
            for side in (0, 1)
        ]
        health = None
        if embeddings:
            drift, alike, collapsed = embeddings[epoch - 1]
            health = {"drift": drift, "random_cosine": alike, "start_random_cosine": 0.05, "collapsed": collapsed}
        end = {"event": "EpochEnd", "epoch": epoch, "step": epoch * steps, "train": sides[0], "validation": sides[1]}
        history.append(end | {"improved": True, "epochs_without_improvement": 0, "embedding": health})
    return history


def only(history: History) -> str:
    (sentence,) = diagnose(history)
    return sentence


def test_diagnosis_of_a_healthy_run_is_silent() -> None:
    history = run(
        {"topic": LEARNS, "mood": SOLVED},
        shares={"topic": 0.7, "mood": 0.3},
        cosines={"layer.0": {"topic | mood": 0.05}, "layer.1": {"topic | mood": -0.05}},
        embeddings=[(0.1, 0.05, False), (0.2, 0.04, False), (0.3, 0.02, False), (0.3, 0.02, False)],
    )
    assert all(diagnose(history[:length]) == [] for length in range(len(history) + 1))


def test_diagnosis_of_one_that_overfits() -> None:
    history = run({"topic": OVERFITS, "mood": LEARNS})
    sentence = only(history)
    assert sentence.startswith("topic overfits")
    assert "since epoch 3" in sentence
    assert diagnose(history[:-5]) == [], "one epoch above the best is not enough"


@pytest.mark.parametrize(
    "course",
    [
        pytest.param([(0.9, 0.8, 0.7), (0.5, 0.6, 0.75), (0.3, 0.61, 0.74), (0.1, 0.62, 0.73)], id="hardly rises"),
        pytest.param([(0.9, 0.8, 0.7), (0.5, 0.6, 0.75), (0.3, 0.7, 0.74), (0.1, 0.61, 0.73)], id="comes back"),
        pytest.param([(0.9, 0.8, 0.7), (0.5, 0.6, 0.75), (0.6, 0.7, 0.74), (0.6, 0.8, 0.73)], id="trains no better"),
        pytest.param([(0.9, 0.8, 0.7), (0.5, 0.6, 0.75), (0.3, 0.7, 0.76), (0.1, 0.8, 0.80)], id="scores better"),
    ],
)
def test_diagnosis_of_one_that_does_not_overfit(course: Course) -> None:
    assert diagnose(run({"topic": course})) == []


def test_diagnosis_of_one_that_stalls() -> None:
    sentence = only(run({"topic": STALLS, "mood": LEARNS}))
    assert sentence.startswith("topic has not begun to learn")


@pytest.mark.parametrize(
    ("course", "metric"),
    [
        pytest.param(SOLVED, "macro_f1", id="knew it from the start"),
        pytest.param([(1.1, 1.0, 0.3), (1.0, 1.0, 0.3)], "macro_f1", id="its loss falls"),
        pytest.param([(1.1, 1.0, 0.5), (1.1, 1.0, 0.5)], "macro_f1", id="better than guessing"),
        pytest.param([(3.0, 3.0, 0.2), (3.0, 3.0, 0.2)], "macro_f1", id="better than guessing among twenty"),
        pytest.param([(1.1, 1.0, 0.3), (1.1, 1.0, 0.3)], "entity_f1", id="an entity by chance is none"),
        pytest.param([(1.1, 1.0, 0.3)], "macro_f1", id="one epoch"),
    ],
)
def test_diagnosis_of_one_that_does_not_stall(course: Course, metric: str) -> None:
    assert diagnose(run({"topic": course}, metric=metric)) == []


@pytest.mark.parametrize(
    ("loss", "score", "metric"),
    [(0.69, 0.5, "macro_recall"), (3.0, 0.06, "macro_f1"), (2.2, 0.0, "entity_f1"), (900.0, 0.0, "macro_f1")],
)
def test_diagnosis_of_guessing_by_classes_and_kind(loss: float, score: float, metric: str) -> None:
    assert "not begun to learn" in only(run({"topic": [(loss, loss, score)] * 2}, metric=metric))


def test_diagnosis_waits_for_the_warm_up() -> None:
    rising = [step * 1e-6 for step in range(1, 17)]
    assert diagnose(run({"topic": STALLS}, rates=rising)) == []
    assert "not begun to learn" in only(run({"topic": STALLS}, rates=[*rising[:-1], rising[-2]]))


def test_diagnosis_of_one_that_dominates_the_gradient() -> None:
    history = run({"topic": LEARNS, "mood": HELD}, shares={"topic": 0.9, "mood": 0.1})
    sentence = only(history)
    assert sentence.startswith("topic dominates: it makes 90% of the step, and mood does not improve")
    assert diagnose(run({"topic": LEARNS, "mood": LEARNS}, shares={"topic": 0.9, "mood": 0.1})) == []
    assert diagnose(run({"topic": LEARNS, "mood": SOLVED}, shares={"topic": 0.9, "mood": 0.1})) == []
    assert diagnose(run({"topic": LEARNS, "mood": HELD}, shares={"topic": 0.7, "mood": 0.3})) == []


def test_diagnosis_counts_a_gradient_with_its_weight() -> None:
    """The looks are at the bare losses; what moves the encoder is the gradient times the weight."""
    courses, shares = {"topic": LEARNS, "mood": HELD}, {"topic": 0.5, "mood": 0.5}
    assert "topic dominates" in only(run(courses, shares=shares, weights={"topic": 9.0, "mood": 1.0}))
    shares = {"topic": 0.9, "mood": 0.1}
    assert diagnose(run(courses, shares=shares, weights={"topic": 1.0, "mood": 9.0})) == []


def test_diagnosis_of_one_that_dominates_the_loss_where_no_gradient_was_seen() -> None:
    courses = {"topic": LEARNS, "mood": HELD}
    sentence = only(run(courses, weights={"topic": 30.0, "mood": 1.0}))
    assert sentence.startswith("topic dominates: it makes 91% of the step")  # 30 * 0.35 of 30 * 0.35 + 1.07
    assert diagnose(run(courses)) == []
    assert diagnose(run({"mood": HELD})) == [], "alone"


def test_diagnosis_names_all_that_are_held_back() -> None:
    courses = {"topic": LEARNS, "a": HELD, "b": HELD, "c": HELD}
    sentence = only(run(courses, shares={"topic": 0.97, "a": 0.01, "b": 0.01, "c": 0.01}))
    assert "a, b and c do not improve" in sentence


COSINES = {
    "layer.0": {"topic | mood": -0.6, "topic | age": 0.3},
    "layer.1": {"topic | mood": -0.8, "topic | age": 0.2},
    "layer.2": {"topic | mood": -0.7, "topic | age": 0.1},
}


def test_diagnosis_of_a_conflict() -> None:
    sentence = only(run({"topic": LEARNS, "mood": LEARNS, "age": LEARNS}, cosines=COSINES))
    assert sentence.startswith("topic and mood pull the encoder in different directions")
    assert "-0.70 on average, lowest in layer.1 and layer.2" in sentence


def test_diagnosis_of_a_mild_conflict_needs_a_task_that_suffers() -> None:
    mild = {"layer.0": {"topic | mood": -0.2}}
    assert diagnose(run({"topic": LEARNS, "mood": LEARNS}, cosines=mild)) == []
    assert "topic and mood pull" in only(run({"topic": LEARNS, "mood": HELD}, cosines=mild))
    assert diagnose(run({"topic": LEARNS, "mood": HELD}, cosines={"layer.0": {"topic | mood": -0.09}})) == []


def test_diagnosis_of_a_conflict_needs_several_looks() -> None:
    history = run({"topic": LEARNS, "mood": LEARNS, "age": LEARNS}, cosines=COSINES)
    looked = [event for event in history if event["event"] == "StepEnd"]
    for event in looked[2:]:
        event["conflict"] = None
    assert diagnose(history) == []
    looked[-1]["conflict"] = looked[0]["conflict"]
    assert len(diagnose(history)) == 1


def test_diagnosis_of_a_conflict_that_is_over_is_silent() -> None:
    history = run({"topic": LEARNS, "mood": LEARNS, "age": LEARNS}, cosines=COSINES, steps=10)
    for event in history:
        if event["event"] == "StepEnd" and event["step"] > 30:
            event["conflict"] = event["conflict"] | {"cosines": {"layer.0": {"topic | mood": 0.2}}}
    assert diagnose(history) == []


def test_diagnosis_names_tasks_with_a_bar_in_them() -> None:
    courses = {"a | b": LEARNS, "c": LEARNS}
    assert only(run(courses, cosines={"layer.0": {"a | b | c": -0.9}})).startswith("a | b and c pull")


def test_diagnosis_of_a_collapse() -> None:
    fine, gone = (0.2, 0.1, False), (0.7, 0.97, True)
    sentence = only(run({"topic": LEARNS}, embeddings=[fine, fine, gone, gone]))
    assert sentence.startswith("The embeddings have collapsed")
    assert "0.97 on average, at the start 0.05" in sentence
    assert diagnose(run({"topic": LEARNS}, embeddings=[fine, gone, gone, fine])) == []


def test_diagnosis_of_a_far_drift() -> None:
    near, far = (0.4, 0.1, False), (0.62, 0.1, False)
    sentence = only(run({"topic": LEARNS}, embeddings=[near, near, far, far]))
    assert sentence.startswith("The embeddings have moved far")
    assert "drift 0.62" in sentence
    assert "stay_close" in sentence
    assert diagnose(run({"topic": LEARNS}, embeddings=[near, near, near, far])) == [], "it may come back"
    assert diagnose(run({"topic": LEARNS}, embeddings=[far, far, far, near])) == []


def test_diagnosis_of_a_far_drift_in_a_run_of_one_epoch() -> None:
    history = run({"topic": LEARNS[:1]}, embeddings=[(0.62, 0.1, False)])
    assert diagnose(history) == []
    assert "moved far" in only([*history, {"event": "RunEnd", "outcome": "done"}])


def test_diagnosis_says_the_most_serious_first_and_not_too_much() -> None:
    history = run(
        {"topic": OVERFITS, "mood": STALLS, "age": HELD},
        shares={"topic": 0.9, "mood": 0.05, "age": 0.05},
        cosines={"layer.0": {"topic | mood": -0.5}},
        embeddings=[(0.9, 0.99, True)] * 4,
    )
    sentences = diagnose(history)
    assert len(sentences) == MOST_SENTENCES
    begins = ["The embeddings have collapsed", "mood has not begun", "topic dominates", "topic overfits"]
    assert [sentence.startswith(begin) for sentence, begin in zip(sentences, begins, strict=True)] == [True] * 4


def without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: without(inner, keys) for key, inner in value.items() if key not in keys}
    return [without(inner, keys) for inner in value] if isinstance(value, list) else value


def test_diagnosis_reads_journals_of_before() -> None:
    """They have no looks at gradients or embeddings and do not say which score counts."""
    history = run({"topic": OVERFITS, "mood": HELD}, weights={"topic": 90.0, "mood": 1.0}, cosines=COSINES)
    old = without(history, {"conflict", "embedding", "main"})
    assert [sentence.split()[:2] for sentence in diagnose(old)] == [["topic", "dominates:"], ["topic", "overfits:"]]
    assert diagnose(without(old, {"weights", "learning_rates"}))[-1].startswith("topic overfits")


def test_diagnosis_of_a_run_without_validation_rows() -> None:
    history = [event | {"validation": None} if event["event"] == "EpochEnd" else event for event in run({"a": STALLS})]
    assert only(history).startswith("a has not begun to learn")


def test_diagnosis_of_a_task_that_some_epochs_lack() -> None:
    history = run({"topic": OVERFITS, "mood": LEARNS})
    for event in history[:6]:
        for side in ("losses", "train", "validation"):
            if side in event:
                event[side] = without(event[side], {"topic"})
    assert only(history).startswith("topic overfits")


def test_diagnosis_survives_json() -> None:
    history = run({"topic": OVERFITS, "mood": STALLS}, shares={"topic": 0.9, "mood": 0.1}, cosines=COSINES)
    assert diagnose(json.loads(json.dumps(history))) == diagnose(history)
