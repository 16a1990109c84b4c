"""What the handlers share: which runs are seen, and how texts and errors pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.errors import ConfigError, DataError
from mtl.runs.files import cut_records
from mtl.runs.limits import check_encoder
from mtl.runs.store import SHIPPED, Run, RunStore
from mtl.settings import settings
from mtl.ui import context as context_module
from mtl.ui.context import AppContext, guarded, lines


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """Make a server whose runs are elsewhere than the shipped one."""
    return AppContext(RunStore(tmp_path / "elsewhere", SHIPPED))


def test_context_offers_the_shipped_checkpoint_wherever_the_runs_are(context: AppContext) -> None:
    assert [run.name for run in context.checkpoints()] == ["starter"]
    assert context.open("starter").has_checkpoint


def test_context_passes_over_a_run_whose_configuration_is_of_another_version(context: AppContext) -> None:
    folder = context.store.root / "20260101-000000-00"
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "manifest.json").write_text("{}")
    (folder / "config.yaml").write_text("something: else")
    assert [run.name for run in context.checkpoints()] == ["starter"]


def test_context_hides_a_strangers_run_on_a_shared_page(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()
    run = context.store.create(RunConfig(), read_table(_csv()), token="mine")
    assert [seen.name for seen in context.runs("mine")] == [run.name, "starter"]
    assert [seen.name for seen in context.runs("theirs")] == ["starter"]
    assert [seen.name for seen in context.runs("")] == ["starter"]
    with pytest.raises(ConfigError, match="the encoder is one of"):
        check_encoder(RunConfig.model_validate({"encoder": {"name": "some/model"}}))


def test_context_loads_once_for_the_warm_up_and_for_who_asks_meanwhile(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, begun, go, said = list[Path](), threading.Event(), threading.Event(), list[str]()

    def load(path: Path) -> object:
        loads.append(path)
        begun.set()
        assert go.wait(60)
        return object()

    monkeypatch.setattr("mtl.inference.predictor.Predictor.load", load)
    monkeypatch.setattr(context.queue, "stand_by", lambda: said.append("standby"))
    monkeypatch.setattr(gr, "Info", lambda *_, title: said.append(title))
    monkeypatch.setattr(context_module, "WARM_AFTER_SECONDS", 0.0)
    context.warm()
    assert begun.wait(60)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(context.predictor, "starter") for _ in range(2)]
        _until(lambda: said == ["Warming up"] * 2)
        assert not any(one.done() for one in asked)
        go.set()
        first, second = (one.result(60) for one in asked)
    assert first is second is context.predictor("starter")
    assert len(loads) == 1
    _until(lambda: said == ["Warming up"] * 2 + ["standby"])


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def _csv() -> bytes:
    return b"text,topic\n" + b"".join(b"a sentence number %d,%s\n" % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(40))


def test_lines_of_a_box_skip_blanks_and_an_empty_text_of_a_list_is_an_error() -> None:
    assert lines("one\n\n two \n") == ["one", "two"]
    with pytest.raises(DataError, match="Text 2 is empty"):
        lines(["one", " "])


def test_guarded_shows_a_persons_mistake_and_hides_ours() -> None:
    def mistake() -> None:
        raise DataError("Row 3 <b>is</b> odd.")

    def fault() -> None:
        raise RuntimeError("secret")

    with pytest.raises(gr.Error, match="Row 3 &lt;b&gt;is"):
        guarded(mistake)()
    with pytest.raises(gr.Error, match="Something went wrong") as caught:
        guarded(fault)()
    assert "secret" not in str(caught.value)


def test_lines_refuse_half_a_character() -> None:
    with pytest.raises(DataError, match="Text 2 holds half of a character"):
        lines(["fine", "not \ud800 fine"])


def test_context_begins_once_what_is_wished_for_twice(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Run] = []

    def begin() -> Run:
        time.sleep(0.05)  # long enough for the second click to come
        begun.append(_queued(context, f"2026010{len(begun)}-000000-00"))
        return begun[-1]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: context.once("the same", begin), range(4)))
    assert len(begun) == 1
    assert {run.name for run in found} == {begun[0].name}
    context.once("another", begin)
    monkeypatch.setattr(context_module, "SAME_WISH_SECONDS", 0.0)
    context.once("the same", begin)
    assert len(begun) == 3


def test_context_says_how_long_a_run_is_likely_to_wait(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    training, waiting = (_queued(context, f"2026010{number}-000000-00") for number in (1, 2))
    training.set_status("running", "training")
    training.append_event({"event": "RunBegin", "steps": 100, "epochs": 1})
    for step in (10, 20):
        training.append_event({"event": "StepEnd", "step": step, "epoch": 1})
        training.append_timing({"step": step, "seconds": float(step)})
    monkeypatch.setattr(context.queue, "active", lambda: [training, waiting])
    monkeypatch.setattr(context.queue, "position", lambda run: 0 if run is training else 1)
    assert context.wait_seconds(training) == 0
    assert context.wait_seconds(waiting) == pytest.approx(80)  # 80 steps are left, a second each
    training.set_status("queued", "waiting")
    assert context.wait_seconds(waiting) is None  # no run has ended yet, so nobody knows
    monkeypatch.setattr(context.queue, "typical_seconds", lambda: 300.0)
    assert context.wait_seconds(waiting) == 300


def test_context_shows_a_run_that_goes_on_from_its_cut_journal(context: AppContext) -> None:
    run = _queued(context, "20260101-000000-00")
    run.set_status("running", "training", attempt=1)
    for step in (1, 2, 3):
        run.append_event({"event": "StepEnd", "step": step})
    assert [event["step"] for event in context.history(run).events] == [1, 2, 3]
    cut_records(run.path / "events.jsonl", 1)
    run.set_status("running", "training", attempt=2)
    run.append_event({"event": "StepEnd", "step": 2})
    assert [event["step"] for event in context.history(run).events] == [1, 2]


def _queued(context: AppContext, name: str) -> Run:
    folder = context.store.root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    (folder / "status.json").write_text('{"state": "queued"}')
    return Run(folder)
