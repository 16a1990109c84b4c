from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.reading import Table, read_table
from mtl.errors import ConfigError
from mtl.inference.predictor import Predictor
from mtl.runs.checkpoint import load_checkpoint
from mtl.runs.starting import start_model
from mtl.runs.store import Run, RunStore
from mtl.runs.worker import StopRequest, work
from mtl.training.components import components

Continue = Callable[..., Run]


@pytest.fixture
def store(finished_run: Run, tmp_path: Path) -> RunStore:
    """A store beside a run that learnt topic and mood."""
    return RunStore(tmp_path / "runs")


@pytest.fixture
def table(tiny_csv_bytes: bytes) -> Table:
    """The tiny table without its topics, and with a task that is new."""
    found = read_table(tiny_csv_bytes)
    things = ["long" if len(text) > 30 else "short" for text in found.columns["text"]]
    return Table({"text": found.columns["text"], "mood": found.columns["mood"], "size": things})


@pytest.fixture
def go_on(store: RunStore, table: Table, raw_config: RunConfig, finished_run: Run) -> Continue:
    """Make a run that learns on from the finished one."""

    def go_on(*settings: str, rows: Table = table) -> Run:
        given = [f"training.start_from={finished_run.path}", "training.epochs=1", *settings]
        return store.create(override(raw_config, given), rows)

    return go_on


def test_starting_takes_over_the_encoder_and_the_heads_that_match(go_on: Continue, finished_run: Run) -> None:
    run = go_on()
    old, _, manifest = load_checkpoint(finished_run.best)
    start = start_model(run.config, run.source)
    assert [task.name for task in start.model.tasks] == ["mood", "size", "topic"]
    parts, before = components(start.model), components(old)
    for name in ("embeddings", "layer.0", "layer.1", "head.mood", "head.topic"):
        pairs = zip(parts[name].parameters(), before[name].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), name
    assert start.base_sha256 == manifest["base"]["sha256"]
    assert list(start.config.tasks) == ["mood", "size", "topic"]
    assert list(run.config.tasks) == ["mood", "size"]
    assert any("kept as they are" in note and "topic" in note for note in start.notes)


def test_starting_the_encoder_is_that_of_the_checkpoint_whatever_is_asked(go_on: Continue, finished_run: Run) -> None:
    run = go_on("encoder.pooling=cls", "encoder.projection=4")
    assert run.config.encoder == finished_run.config.encoder


def test_starting_trains_on_and_keeps_the_absent_task_answering(go_on: Continue, finished_run: Run) -> None:
    run = go_on("training.freeze=nothing")
    assert work(run, StopRequest()).state == "done"
    predictor = Predictor.load(run.path)
    assert set(predictor.predict(["the soup was great"])[0]) == {"mood", "size", "topic"}
    assert set(run.tasks) == {"mood", "size", "topic"}
    old, new = (load_checkpoint(one.best)[0].state_dict() for one in (finished_run, run))
    kept = [name for name in old if name.startswith("heads.topic.") and "temperature" not in name]
    assert kept
    assert all(torch.equal(old[name], new[name]) for name in kept), "the absent head is kept as it is"
    learnt = "heads.mood.layers.1.weight"
    assert not torch.equal(old[learnt], new[learnt])


def test_starting_reports_the_old_tasks_before_and_after(go_on: Continue, finished_run: Run) -> None:
    run = go_on("training.freeze=encoder,head.mood")
    work(run, StopRequest())
    earlier = json.loads((run.path / "report.json").read_text())["earlier"]
    assert earlier["run"] == finished_run.name
    assert earlier["rows"] == len(finished_run.split().validation)
    assert set(earlier["before"]) == set(earlier["after"]) == {"mood", "topic"}
    report = finished_run.report() or {}
    assert earlier["before"] == report["validation"], "where the earlier run had left them"
    assert earlier["after"] == earlier["before"], "nothing of theirs has learnt"


def test_starting_frozen_parts_that_learnt_earlier_are_saved(go_on: Continue, finished_run: Run) -> None:
    run = go_on("training.freeze=encoder")
    work(run, StopRequest())
    old, new = (load_checkpoint(one.best)[0] for one in (finished_run, run))
    for name in ("layer.0", "layer.1"):
        pairs = zip(components(old)[name].parameters(), components(new)[name].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_starting_a_task_with_other_labels_gets_a_new_head(go_on: Continue, finished_run: Run, table: Table) -> None:
    moods = [cell and f"very {cell}" for cell in table.columns["mood"]]
    run = go_on(rows=Table({"text": table.columns["text"], "mood": moods}))
    start = start_model(run.config, run.source)
    assert {task.name: task.labels for task in start.model.tasks}["mood"] == ("very bad", "very good")
    assert "New heads: mood." in start.notes
    assert start.earlier is not None
    assert start.earlier.tasks == ("topic",)


def test_starting_keeps_the_order_of_the_labels(go_on: Continue, finished_run: Run) -> None:
    run = go_on("tasks.mood.labels=[good, bad]", "data.task_columns=mood")
    assert run.config.tasks["mood"].labels == finished_run.config.tasks["mood"].labels


def test_starting_again_from_a_run_that_learnt_on(go_on: Continue, store: RunStore, table: Table) -> None:
    first = go_on("training.freeze=bottom.1")
    work(first, StopRequest())
    second = store.create(override(first.config, [f"training.start_from={first.name}", "training.epochs=1"]), table)
    assert work(second, StopRequest()).state == "done"
    assert set(second.tasks) == {"mood", "size", "topic"}


@pytest.mark.parametrize("name", ["nothing-here", "../outside", "/etc"])
def test_starting_from_what_is_no_run_is_one_clear_error(
    store: RunStore, raw_config: RunConfig, table: Table, name: str
) -> None:
    with pytest.raises(ConfigError, match=r"^training\.start_from: "):
        store.create(override(raw_config, [f"training.start_from={name}"]), table)
    assert store.list() == []


def test_starting_from_a_run_without_a_checkpoint_is_refused(go_on: Continue, store: RunStore, table: Table) -> None:
    waiting = go_on()
    config = override(waiting.config, [f"training.start_from={waiting.name}"])
    with pytest.raises(ConfigError, match="has no checkpoint to learn on from"):
        store.create(config, table)
