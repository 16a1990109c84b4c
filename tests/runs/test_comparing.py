from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.reading import Table, is_missing, read_table
from mtl.errors import ConfigError
from mtl.runs.comparing import SCORERS, advice, comparison, create, outcome, outcomes
from mtl.runs.store import Run, RunStore
from mtl.runs.worker import StopRequest, work


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def table(tiny_csv_bytes: bytes) -> Table:
    return read_table(tiny_csv_bytes)


@pytest.fixture
def runs(store: RunStore, table: Table, raw_config: RunConfig) -> list[Run]:
    return create(store, override(raw_config, ["training.epochs=2"]), table, seeds=2, files=["tiny.csv"])


def test_comparing_makes_a_joint_run_and_one_for_each_task_and_seed(runs: list[Run]) -> None:
    assert [list(run.config.tasks) for run in runs] == [["topic", "mood"], ["topic"], ["mood"]] * 2
    assert [run.config.training.seed for run in runs] == [0, 0, 0, 1, 1, 1]
    named = comparison(runs[0])
    names = [run.name for run in runs]
    assert named == {"joint": names[::3], "alone": {"topic": names[1::3], "mood": names[2::3]}}
    assert comparison(runs[1]) is None


def test_comparing_all_have_one_split_and_one_budget(runs: list[Run]) -> None:
    joint = runs[0]
    for run in runs[1:]:
        (task, *others) = run.config.tasks
        assert {run.config.training.epochs, joint.config.training.epochs} == {2}
        for side in ("train", "validation", "test"):
            rows = set(getattr(run.split(), side))
            cells = run.table().columns[task]
            expected = {row for row in getattr(joint.split(), side) if others or not is_missing(cells[row])}
            assert rows == expected


def test_comparing_says_how_far_it_is_and_then_what_it_found(store: RunStore, runs: list[Run]) -> None:
    assert outcome(store, runs[1]) is None
    for number, run in enumerate(runs):
        found = outcome(store, runs[0])
        assert found is not None
        assert (found["done"], found["total"], found["finished"]) == (number, 6, False)
        assert found["sentence"] == f"{number} of 6 runs are done."
        assert work(run, StopRequest()).state == "done"
    found = outcome(store, runs[0])
    assert found is not None
    assert found["finished"]
    for one in found["tasks"]:
        ours = np.mean([run.report()["test"][one["task"]]["macro_f1"] for run in (runs[0], runs[3])])
        alone = runs[1:6:3] if one["task"] == "topic" else runs[2:6:3]
        theirs = np.mean([run.report()["test"][one["task"]]["macro_f1"] for run in alone])
        assert (one["joint"], one["alone"]) == (pytest.approx(ours), pytest.approx(theirs))
        assert one["difference"] == pytest.approx(ours - theirs)
        assert one["low"] <= one["difference"] + 1e-9
        assert one["high"] >= one["difference"] - 1e-9
    gains = [one["difference"] / one["alone"] for one in found["tasks"]]
    assert found["gain"] == pytest.approx(np.mean(gains))
    assert found["sentence"]
    json.dumps(found, allow_nan=False)
    assert outcome(store, runs[0]) == found, "kept beside the run"


def test_comparing_with_a_run_that_failed_or_was_deleted_says_so(store: RunStore, runs: list[Run]) -> None:
    for run in runs[1:]:
        run.set_status("failed", "finished", "no reason")
    store.delete(runs[2])
    work(runs[0], StopRequest())
    found = outcome(store, runs[0])
    assert found is not None
    assert (found["finished"], found["tasks"]) == (True, [])
    assert "cannot be compared" in found["sentence"]


def test_comparing_one_task_is_refused_and_leaves_nothing(store: RunStore, table: Table, raw_config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="nothing is shared"):
        create(store, override(raw_config, ["data.task_columns=topic"]), table)
    with pytest.raises(ConfigError, match="between 1 and 5"):
        create(store, raw_config, table, seeds=6)
    assert store.list() == []


def test_comparing_scores_are_those_of_scikit_learn() -> None:
    pairs = np.random.default_rng(0).integers(0, 4, size=(60, 2))
    truth, guess = pairs[:, 0], pairs[:, 1]
    assert SCORERS["accuracy"](pairs) == pytest.approx(accuracy_score(truth, guess))
    assert SCORERS["macro_f1"](pairs) == pytest.approx(f1_score(truth, guess, average="macro"))
    assert SCORERS["weighted_f1"](pairs) == pytest.approx(f1_score(truth, guess, average="weighted"))
    assert SCORERS["macro_recall"](pairs) == pytest.approx(recall_score(truth, guess, average="macro"))


def test_comparing_entities_counts_exact_spans() -> None:
    counts = np.array([[1, 2, 1], [0, 0, 3], [2, 2, 2]])  # found, predicted, true
    assert SCORERS["entity_f1"](counts) == pytest.approx(2 * 3 / (4 + 6))
    assert SCORERS["entity_precision"](counts) == pytest.approx(3 / 4)
    assert SCORERS["entity_recall"](counts) == pytest.approx(3 / 6)
    assert SCORERS["entity_f1"](np.zeros((2, 3))) == 0.0


def test_comparing_reads_a_runs_test_rows(finished_run: Run) -> None:
    found = outcomes(finished_run, "mood")
    report = finished_run.report() or {}
    pairs = np.array(list(found.values()))
    assert SCORERS["accuracy"](pairs) == pytest.approx(report["test"]["mood"]["accuracy"])


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ([(-0.1, 0.1), (-0.2, 0.3)], "No difference is shown: train jointly"),
        ([(0.01, 0.1), (-0.2, 0.3)], "Sharing pays: one is better"),
        ([(-0.2, -0.1), (-0.2, 0.3)], "Sharing costs one: try more epochs"),
        ([(-0.2, -0.1), (0.1, 0.3)], "Sharing costs one, though two gains"),
    ],
)
def test_comparing_says_what_to_do(intervals: list[tuple[float, float]], words: str) -> None:
    tasks = [
        {"task": name, "low": low, "high": high} for name, (low, high) in zip(["one", "two"], intervals, strict=True)
    ]
    assert words in advice(tasks)
