from __future__ import annotations

import json
from typing import Any

import pytest

from mtl.choices import Sampling
from mtl.config import RunConfig
from mtl.data.splitting import Examples
from mtl.reports import exposure as module
from mtl.reports.exposure import Exposure, Frequency, what_if
from mtl.training.task_sampling import SAMPLINGS

TEXTS = tuple(f"Ada met Bob {number}" for number in range(60))
CELLS = {
    "topic": tuple("a" if row % 3 else "b" if row < 40 else "" for row in range(60)),
    "Names": tuple("" if row < 40 else "B-PER O B-PER O" if row % 2 else "O O O O" for row in range(60)),
    "empty": ("",) * 60,
}


def look(sampling: Sampling, scores: dict[str, float] | None = None, **training: Any) -> Exposure:
    tasks = {"topic": {"labels": ["a", "b"]}, "Names": {"kind": "token_classification", "labels": ["PER"]}, "empty": {}}
    values = {"epochs": 4, "batch_size": 10, "sampling": sampling, **training}
    config = RunConfig.model_validate({"tasks": tasks, "training": values})
    return what_if(Examples(TEXTS, CELLS, tuple(range(60))), config, scores)


def test_exposure_of_joint_batches_is_every_row_once() -> None:
    found = look("joint")
    assert found.epochs == (1, 2, 3, 4)
    assert found.steps == (6, 6, 6, 6)
    assert found.per_row == Frequency(1, 1, 1)
    assert found.tasks["topic"].rows == (54,) * 4  # 60 without 42, 45 … 57
    assert found.tasks["names"].rows == (20,) * 4
    assert found.tasks["names"].per_row == Frequency(1, 1, 1)
    assert found.sentences == ()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_exposure_of_every_sampling_adds_up(sampling: Sampling) -> None:
    found = look(sampling)
    assert found.tasks["empty"] == module.TaskExposure(0, (0,) * 4, (0,) * 4, None)
    for task in (found.tasks["topic"], found.tasks["names"]):
        assert task.per_row is not None
        assert task.per_row.mean == pytest.approx(sum(task.rows) / 4 / task.labelled, abs=1e-4)
        assert task.per_row.lowest <= task.per_row.mean <= task.per_row.highest
    if sampling != "joint":
        assert tuple(map(sum, zip(*(task.batches for task in found.tasks.values()), strict=True))) == found.steps
        assert found.steps == (8,) * 4  # 54 and 20 rows, by 10
    assert json.loads(json.dumps(found.as_dict()))["tasks"]["topic"]["rows"] == list(found.tasks["topic"].rows)


def test_exposure_shows_what_uniform_does_to_a_small_task() -> None:
    found = look("uniform")
    assert found.tasks["topic"].batches == found.tasks["names"].batches == (4,) * 4
    assert found.tasks["names"].rows == (40,) * 4
    assert found.tasks["names"].per_row == Frequency(2, 2, 2)
    assert found.tasks["topic"].per_row is not None
    assert found.tasks["topic"].per_row.mean == pytest.approx(40 / 54, abs=1e-4)


def test_exposure_assumes_scores_from_the_second_epoch_on() -> None:
    assert look("difficulty").tasks["topic"].batches == (6, 6, 6, 6)
    assert look("difficulty", {"topic": 0.9, "names": 0.7}).tasks["topic"].batches == (6, 2, 2, 2)


def test_exposure_balances_classes_read_from_the_cells() -> None:
    found = look("proportional", row_sampling="class_balance").tasks["topic"].per_row
    assert found is not None
    assert found.highest == pytest.approx(54 / 28, abs=0.1)  # 14 rows are b, which is to come 27 times
    assert found.lowest < 1


def test_exposure_follows_a_curriculum() -> None:
    found = look("joint", curriculum={"start": 0.5, "epochs": 2})
    # 40 rows of topic, 14 of both tasks and 6 of names: a half, three quarters, all
    assert found.steps == (3, 5, 6, 6)
    assert found.per_row == Frequency(round((30 + 46 + 60 + 60) / 240, 4), 0.5, 1)


def test_exposure_of_a_large_run_looks_at_three_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 200)
    found = look("annealed", epochs=9)
    assert found.epochs == (1, 5, 9)
    assert found.sentences == ("There are many rows, so only the epochs 1, 5 and 9 were counted.",)
    assert len(found.tasks["topic"].batches) == 3
    assert look("annealed", epochs=3).epochs == (1, 2, 3)
