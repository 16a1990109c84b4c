from __future__ import annotations

from typing import Any

import pytest

from mtl.choices import PhasePatience, Selection
from mtl.training.metrics import Evaluation
from mtl.training.selection import Choice, Chooser
from tests.training.test_plan import planned


def scored(loss: float = 1.0, **scores: float) -> Evaluation:
    """Make an evaluation with one main score for each task."""
    return Evaluation(
        loss,
        dict.fromkeys(scores, loss),
        {task: {"macro_f1": score} for task, score in scores.items()},
        dict.fromkeys(scores, 1),
        dict.fromkeys(scores, "macro_f1"),
    )


def chooser(
    select_by: Selection = "mean_score",
    *,
    patience: int = 2,
    in_phases: PhasePatience = "wait",
    weights: dict[str, float] | None = None,
    **training: Any,
) -> Chooser:
    return Chooser(
        planned(**{"epochs": 9, **training}),
        select_by=select_by,
        weights=weights or {"topic": 1.0, "mood": 1.0},
        patience=patience,
        in_phases=in_phases,
    )


def follow(judge: Chooser, values: list[float]) -> list[tuple[int, Choice]]:
    """Show it one score after the other, in the epochs it asks for."""
    found: list[tuple[int, Choice]] = []
    epoch: int | None = 1
    for value in values:
        if epoch is None:
            break
        choice = judge.look(scored(topic=value), epoch)
        found.append((epoch, choice))
        epoch = choice.next_epoch
    return found


def test_selection_the_earliest_of_equals_stays_the_best() -> None:
    judge = chooser(patience=9)
    assert [choice.improved for _, choice in follow(judge, [0.2, 0.5, 0.5, 0.4, 0.5])] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_selection_by_each_measure() -> None:
    first = scored(1.0, topic=0.9, mood=0.1)
    second = scored(0.5, topic=0.1, mood=0.7)
    for select_by, weights, better in [
        ("mean_score", None, False),
        ("validation_loss", None, True),
        ("weighted_score", {"topic": 1.0, "mood": 3.0}, True),
        ("weighted_score", {"topic": 3.0, "mood": 1.0}, False),
        ("weighted_score", {"topic": 0.0, "mood": 0.0}, False),  # nothing counts: the plain mean
    ]:
        judge = chooser(select_by, weights=weights)  # type: ignore[arg-type]
        judge.look(first, 1)
        assert judge.look(second, 2).improved is better, (select_by, weights)


def test_selection_marks_the_best_epoch_of_each_task() -> None:
    judge = chooser(patience=9)
    looks = [scored(topic=0.5, mood=0.5), scored(topic=0.6, mood=0.4), scored(topic=0.6, mood=0.9), scored(mood=0.95)]
    assert [judge.look(look, epoch).best_tasks for epoch, look in enumerate(looks, start=1)] == [
        ("topic", "mood"), ("topic",), ("mood",), ("mood",),
    ]  # fmt: skip


def test_selection_stops_after_the_patience() -> None:
    found = follow(chooser(), [0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.9])
    assert [choice.stale for _, choice in found] == [0, 0, 1, 0, 1, 2]
    assert found[-1][1].next_epoch is None
    assert found[-1][1].reason == "no improvement for 2 epochs"


def test_selection_without_validation_the_last_epoch_is_the_best() -> None:
    judge = chooser(patience=1, epochs=3)
    choices = [judge.look(None, epoch) for epoch in (1, 2, 3)]
    assert [choice.improved for choice in choices] == [True] * 3
    assert (choices[-1].next_epoch, choices[-1].reason) == (None, "all epochs done")


PHASED = {"unfreezing": {"heads_epochs": 3, "layers": 6, "epochs": 3}, "epochs": 9, "freeze": "nothing"}
FLAT = [0.5] + [0.4] * 20


def test_selection_patience_waits_for_the_last_phase() -> None:
    found = follow(chooser(in_phases="wait", **PHASED), FLAT)
    assert [epoch for epoch, _ in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [choice.stale for _, choice in found][-2:] == [1, 2], "counted from the last phase on"


def test_selection_patience_may_end_a_phase() -> None:
    found = follow(chooser(in_phases="next", **PHASED), FLAT)
    assert [epoch for epoch, _ in found] == [1, 2, 3, 4, 5, 7, 8], "epoch 6 is passed over, and keeps its number"
    assert found[-1][1].reason == "no improvement for 2 epochs"


def test_selection_patience_may_stop_the_run_in_any_phase() -> None:
    found = follow(chooser(in_phases="stop", **PHASED), FLAT)
    assert [epoch for epoch, _ in found] == [1, 2, 3]


@pytest.mark.parametrize("in_phases", ["wait", "next", "stop"])
def test_selection_the_end_is_the_end(in_phases: PhasePatience) -> None:
    rising = [number / 20 for number in range(20)]
    found = follow(chooser(in_phases=in_phases, **PHASED), rising)
    assert [epoch for epoch, _ in found] == list(range(1, 10))
    assert found[-1][1].reason == "all epochs done"
