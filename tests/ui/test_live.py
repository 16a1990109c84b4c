"""The live view without a browser: what is drawn of a run, and what may be started by whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from mtl.config import RunConfig
from mtl.config_text import from_dict
from mtl.data.reading import read_table
from mtl.errors import ConfigError, DataError, LimitError
from mtl.runs.queue import RunQueue
from mtl.runs.store import Run, RunStore, Status
from mtl.settings import settings
from mtl.ui.context import AppContext
from mtl.ui.train import figures, sharing, starting
from mtl.ui.train.status import last_epoch_html, patience_words, standing, status_html

Event = dict[str, Any]
HOSTILE = "<img src=x onerror=alert(1)>"
PHASES = [1, 1, 2, 2, 3]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    """Make a server whose queue has no turn for anyone, so that nothing trains."""
    found = AppContext(RunStore(tmp_path / "runs"))
    found.queue = RunQueue(found.store, slots=0)
    yield found
    found.queue.close()


@pytest.fixture
def files(tmp_path: Path) -> list[list[str]]:
    """A file of two tasks, as the page hands it over."""
    path = tmp_path / "mood.csv"
    lines = [f"the sentence number {n},{'ab'[n % 2]},{'xyz'[n % 3]}" for n in range(60)]
    path.write_text("\n".join(["text,topic,mood", *lines]))
    return [[str(path), "mood.csv"]]


@pytest.fixture
def run(context: AppContext, files: list[list[str]]) -> Run:
    """A run that waits."""
    return context.store.create(RunConfig(), read_table(Path(files[0][0]).read_bytes()), token="mine")


def begin(**changes: Any) -> Event:
    plan = {"components": [], "epochs": [{"epoch": n, "phase": phase} for n, phase in enumerate(PHASES, start=1)]}
    numerics = {"device": "cpu", "precision": "float32"}
    return {
        "event": "RunBegin", "steps": 50, "epochs": 5, "rows": {}, "parameters": 10, "trainable": 5,
        "numerics": numerics, "warnings": [], "plan": plan, **changes,
    }  # fmt: skip


def step(number: int, tasks: tuple[str, ...] = ("topic", "mood"), **changes: Any) -> Event:
    values = dict.fromkeys(tasks, 1.0)
    return {
        "event": "StepEnd", "step": number, "epoch": 1 + number // 10, "loss": 2.0, "losses": values,
        "weights": values, "learning_rates": {"layer.0": 1e-5}, "conflict": None, **changes,
    }  # fmt: skip


def end(epoch: int, scores: dict[str, dict[str, float]], main: dict[str, str], **changes: Any) -> Event:
    side = {"loss": 1.0, "losses": dict.fromkeys(scores, 0.5), "scores": scores, "main": main}
    return {
        "event": "EpochEnd", "epoch": epoch, "step": 10 * epoch, "train": side, "validation": side, "improved": True,
        "epochs_without_improvement": 0, "best_tasks": list(scores), "phase": 1, "embedding": None, **changes,
    }  # fmt: skip


def classes(macro: float, accuracy: float = 0.5) -> dict[str, float]:
    return {"accuracy": accuracy, "macro_f1": macro}


ENTITIES = {"entity_f1": 0.7, "entity_precision": 0.8, "entity_recall": 0.6}
MAIN = {"topic": "macro_f1", "mood": "macro_f1"}


def test_status_says_patience_phase_and_the_best_epoch(run: Run) -> None:
    scores = {"topic": classes(0.5), "mood": classes(0.4)}
    events = [
        begin(), step(1), end(1, scores, MAIN), end(2, scores, MAIN, improved=False, epochs_without_improvement=1),
        step(21, epoch=3),
    ]  # fmt: skip
    where = standing(run, events)
    assert (where["best_epoch"], where["epochs_without_improvement"]) == (1, 1)
    assert (where["phase"], where["phases"]) == (2, 3)
    drawn = status_html(run, Status("running", "training"), events, [], 0)
    assert "phase 2 of 3" in drawn
    assert "no gain for 1 epoch; it counts in the last phase" in drawn
    assert standing(run, [])["best_epoch"] is None


@pytest.mark.parametrize(
    ("stale", "phase", "in_phases", "words"),
    [
        (0, 3, "wait", "the last epoch was the best"),
        (1, 3, "wait", "no gain for 1 of 3 epochs"),
        (2, 1, "wait", "no gain for 2 epochs; it counts in the last phase"),
        (2, 1, "next", "no gain for 2 of 3 epochs, then the next phase"),
        (2, 1, "stop", "no gain for 2 of 3 epochs"),
    ],
)
def test_patience_is_said_as_it_counts(stale: int, phase: int, in_phases: str, words: str) -> None:
    where = {
        "epochs_without_improvement": stale, "patience": 3, "patience_in_phases": in_phases, "phase": phase,
        "phases": 3,
    }  # fmt: skip
    assert patience_words(where) == words


def test_last_epoch_shows_each_task_by_its_own_score_and_its_own_best_epoch() -> None:
    first = end(1, {"topic": classes(0.9), "ner": ENTITIES}, {"topic": "macro_f1", "ner": "entity_f1"})
    last = end(
        2, {"topic": classes(0.8, 0.85), "ner": ENTITIES}, {"topic": "macro_f1", "ner": "entity_f1"},
        improved=False, best_tasks=["ner"],
    )  # fmt: skip
    drawn = last_epoch_html([first, last])
    for cell in ("0.800 macro F1", "0.850 accuracy", "0.700 entity F1", "0.800 entity precision"):
        assert f">{cell}</td>" in drawn
    assert "the best so far is epoch 1" in drawn
    rows = drawn.split("<tr>")
    assert rows[2].endswith(">1</td></tr>")
    assert ">2</td></tr>" in rows[3]


def test_last_epoch_of_an_older_journal_names_its_scores_in_the_header() -> None:
    event = end(1, {HOSTILE: classes(0.75)}, {})
    del event["train"]["main"], event["best_tasks"]  # the two sides are one dictionary here
    drawn = last_epoch_html([event])
    assert ">macro F1</th>" in drawn
    assert ">0.750</td>" in drawn
    assert "best epoch" not in drawn
    assert "<img" not in drawn


@pytest.fixture
def curves() -> figures.Curves:
    """The plots, as keys: without a page they are only what updates are looked up by."""
    plots: dict[str, Any] = {name: name for name in figures.KINDS}
    parts: list[Any] = ["loss", "scores", "fold", "opened", "choice", "about"]
    return figures.Curves(*parts, plots)


def test_figures_are_sent_only_when_their_data_changed(curves: figures.Curves) -> None:
    events = [begin(), step(1)]
    updates, seen = figures.fresh(curves, events, "a", {}, opened=False, kind="weights")
    assert set(updates) == {"loss", "scores"}
    updates, seen = figures.fresh(curves, events, "a", seen, opened=False, kind="weights")
    assert updates == {}
    events.append(step(2))
    updates, seen = figures.fresh(curves, events, "a", seen, opened=False, kind="weights")
    assert set(updates) == {"loss"}
    events.append(end(1, {"topic": classes(0.5)}, MAIN))
    updates, seen = figures.fresh(curves, events, "a", seen, opened=False, kind="weights")
    assert set(updates) == {"loss", "scores"}
    updates, _ = figures.fresh(curves, events, "another", seen, opened=False, kind="weights")
    assert set(updates) == {"loss", "scores"}, "another run is another figure"


def test_figures_behind_the_fold_are_drawn_when_it_is_open(curves: figures.Curves) -> None:
    events = [begin(), step(1), step(2)]
    updates, seen = figures.fresh(curves, events, "a", {}, opened=True, kind="weights")
    assert updates["weights"]["visible"] is True
    assert [line["name"] for line in updates["weights"]["value"]["data"]] == ["topic", "mood"]
    assert {updates[name]["visible"] for name in figures.KINDS if name != "weights"} == {False}
    updates, seen = figures.fresh(curves, events, "a", seen, opened=True, kind="weights")
    assert updates == {}
    updates, _ = figures.fresh(curves, events, "a", seen, opened=True, kind="conflict")
    assert updates["weights"]["visible"] is False
    assert "Not looked at so far" in updates["about"]
    assert "value" not in updates["conflict"]


@pytest.mark.parametrize("kind", ["", "no such", None])
def test_figures_take_a_choice_that_does_not_exist_for_the_first(curves: figures.Curves, kind: Any) -> None:
    updates = figures.chosen(curves, [step(1)], kind)
    assert updates[figures.FIRST]["visible"] is True


def test_figures_of_weights_need_two_tasks(curves: figures.Curves) -> None:
    updates = figures.chosen(curves, [step(1, ("topic",))], "weights")
    assert "nothing to weigh" in updates["about"]


def test_start_learns_on_only_from_a_run_that_the_visitor_sees(
    context: AppContext, files: list[list[str]], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()
    for source in (str(run.path), "../runs", run.name, "never-was"):
        config = from_dict({"training": {"start_from": source}})
        with pytest.raises(ConfigError, match=r"^training\.start_from: there is no such run\.$"):
            starting.start(context, config, files, "theirs")
    with pytest.raises(ConfigError, match="has no checkpoint|no such run") as own:
        starting.start(context, from_dict({"training": {"start_from": str(run.path)}}), files, "mine")
    assert "no such run" in str(own.value), "a path is refused even to the owner"


def test_start_needs_a_file(context: AppContext) -> None:
    with pytest.raises(DataError, match="Choose a CSV file first"):
        starting.start(context, RunConfig(), [], "")


def test_start_gives_a_stranger_a_secret_on_a_shared_page(
    context: AppContext, files: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()
    run, token = starting.start(context, RunConfig(), files)
    assert token
    assert run.owned_by(token)
    assert not run.owned_by("")


def test_compare_queues_a_joint_run_and_each_task_alone(context: AppContext, files: list[list[str]]) -> None:
    head, _ = starting.compare(context, RunConfig(), files, 2, "mine")
    waiting = context.queue.active()
    assert waiting[0].name == head.name
    assert [run.title for run in waiting] == [
        "jointly, seed 0", "topic alone, seed 0", "mood alone, seed 0",
        "jointly, seed 1", "topic alone, seed 1", "mood alone, seed 1",
    ]  # fmt: skip
    assert all(run.owned_by("mine") for run in waiting)
    found = sharing.outcome(context, head)
    assert found is not None
    assert (found["done"], found["total"], found["finished"]) == (0, 6, False)
    assert sharing.outcome(context, waiting[1]) is None


def test_compare_takes_all_back_when_the_queue_cannot_hold_them(
    context: AppContext, files: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTL_MAX_QUEUED_RUNS", "5")
    settings.cache_clear()
    with pytest.raises(LimitError, match="needs 6 runs, and only 5 more can wait"):
        starting.compare(context, RunConfig(), files, 2)
    assert context.store.list() == []
    assert context.queue.active() == []


@pytest.mark.parametrize("seeds", [0, 6, None, "2", True, 1.0])
def test_compare_refuses_a_number_of_seeds_that_is_none(
    context: AppContext, files: list[list[str]], seeds: Any
) -> None:
    with pytest.raises(ConfigError, match="between 1 and 5"):
        starting.compare(context, RunConfig(), files, seeds)
    assert context.store.list() == []


def test_compare_needs_two_tasks(context: AppContext, files: list[list[str]]) -> None:
    config = from_dict({"data": {"text_column": "text", "task_columns": ["topic"]}})
    with pytest.raises(ConfigError, match="one task"):
        starting.compare(context, config, files, 1)
    assert context.store.list() == []
    assert "needs two tasks" in sharing.about_html(1, 1)
    assert "12 runs" in sharing.about_html(3, 3)


def test_comparison_shows_how_far_it_is_and_then_what_to_do() -> None:
    assert sharing.comparison_html(None) == ""
    going = {"done": 2, "total": 6, "finished": False, "tasks": [], "gain": None, "sentence": "2 of 6 runs are done."}
    drawn = sharing.comparison_html(going)
    assert "2 of 6 runs are done" in drawn
    assert 'aria-valuenow="33"' in drawn
    task = {
        "task": HOSTILE, "metric": "macro_f1", "joint": 0.9, "alone": 0.88, "difference": 0.02, "low": -0.01,
        "high": 0.05,
    }  # fmt: skip
    drawn = sharing.comparison_html(going | {"finished": True, "tasks": [task], "gain": -0.01, "sentence": HOSTILE})
    assert "+0.020 (−0.010 to +0.050)" in drawn
    assert "−1.0 %" in drawn
    assert "<img" not in drawn


def test_comparison_that_cannot_be_read_is_no_error(run: Run, context: AppContext) -> None:
    (run.path / "comparison.json").write_text('{"joint": 3}')
    found = sharing.outcome(context, run)
    assert found is not None
    assert found["finished"]
    assert "cannot be read" in sharing.comparison_html(found)


def test_updates_are_gradios(curves: figures.Curves) -> None:
    """What `fresh` returns for a plot that stays away is an update, not a value."""
    updates = figures.chosen(curves, [], "plan")
    assert updates["plan"] == gr.update(visible=False)
