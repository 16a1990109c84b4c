"""The list of runs, and what can be done with one, without a browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.errors import CheckpointError
from mtl.runs.files import append_record
from mtl.runs.store import SHIPPED, Run, RunStore
from mtl.runs.summary import Summary, scores_that_count, summarise
from mtl.settings import settings
from mtl.ui import api, picker
from mtl.ui.context import AppContext
from mtl.ui.runs.cards import card, head_html, took
from mtl.ui.tabs import runs

HOSTILE = "<img src=x onerror=alert(1)>"
REPORT = {
    "best_epoch": 2, "test": {"topic": {"accuracy": 0.9, "macro_f1": 0.8}}, "test_rows": {"topic": 6},
    "tasks": {"topic": {"main": "accuracy"}},
}  # fmt: skip


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """Make a server whose runs are elsewhere than the shipped one."""
    return AppContext(RunStore(tmp_path / "elsewhere", SHIPPED))


@pytest.fixture
def run(context: AppContext) -> Run:
    """A finished run of one task, with a report."""
    lines = "\n".join(["text,topic", *(f"the sentence number {n},{'ab'[n % 2]}" for n in range(40))])
    found = context.store.create(RunConfig(), read_table(lines.encode()), files=["some/folder/a.csv"], token="mine")
    found.set_status("done", "finished", "all epochs done")
    (found.path / "report.json").write_text(json.dumps(REPORT))
    append_record(found.path / "events.jsonl", {"event": "RunBegin", "rows": {"train": 28, "validation": 6, "test": 6}})
    for number in range(1, 100):
        append_record(found.path / "events.jsonl", {"event": "StepEnd", "step": number})
        found.append_timing({"step": number, "seconds": number * 2.5})
    return found


def test_summary_holds_what_a_list_needs(run: Run) -> None:
    found = summarise(run)
    assert found.tasks == ("topic",)
    assert found.files == ("a.csv",), "no folders of anyone"
    assert found.rows == {"train": 28, "validation": 6, "test": 6}
    assert found.scores == {"topic": ("accuracy", 0.9)}
    assert found.preset == "balanced"
    assert found.seconds == 247.5
    assert found.started is not None
    assert not found.has_checkpoint


def test_summary_is_made_anew_when_a_file_changes(run: Run) -> None:
    assert summarise(run) is summarise(run)
    run.set_title("mine")
    assert summarise(run).title == "mine"
    run.append_timing({"step": 100, "seconds": 300.0})
    assert summarise(run).seconds == 300.0
    (run.path / "report.json").unlink()
    assert summarise(run).scores == {}


def test_summary_of_a_queued_run_has_no_rows_and_no_time(context: AppContext, run: Run) -> None:
    for file in ("events.jsonl", "timing.jsonl", "report.json"):
        (run.path / file).unlink()
    found = summarise(run)
    assert (found.rows, found.seconds, found.scores) == ({}, None, {})


@pytest.mark.parametrize("seconds", [[], [1.0], [1.0, 2.0], [float(n) for n in range(60)]])
def test_summary_reads_the_last_clock_time(run: Run, seconds: list[float]) -> None:
    (run.path / "timing.jsonl").unlink()
    for number, value in enumerate(seconds):
        run.append_timing({"step": number, "seconds": value})
    assert summarise(run).seconds == (seconds[-1] if seconds else None)


def test_summary_of_a_torn_clock_time_is_the_one_before(run: Run) -> None:
    with (run.path / "timing.jsonl").open("a") as file:
        file.write('12345678 {"step": 1')
    assert summarise(run).seconds == 247.5


def test_summary_of_a_run_that_cannot_be_read_says_so(run: Run) -> None:
    (run.path / "config.yaml").write_text("something: else")
    found = summarise(Run(run.path))
    assert found.problem
    assert "Cannot be read" in card(found)
    assert "Something is not a setting" in head_html(found)


def test_scores_that_count_of_old_and_new_reports() -> None:
    assert scores_that_count(None) == scores_that_count({"test": None}) == {}
    assert scores_that_count({"test": {"t": {"accuracy": 0.9, "macro_f1": 0.8}}}) == {"t": ("macro_f1", 0.8)}
    assert scores_that_count({"test": {"t": {"entity_f1": 0.5}}, "tasks": None}) == {"t": ("entity_f1", 0.5)}


def test_titles_are_one_line_and_not_too_long(run: Run) -> None:
    assert run.title == ""
    run.set_title("  my\n\tbest\x00 run  ")
    assert run.title == "my best run"
    with pytest.raises(CheckpointError, match="at most 80 characters"):
        run.set_title("x" * 81)
    run.set_title("half \ud800 a character")
    assert run.title == "half a character"
    run.set_title("")
    assert run.title == ""
    (run.path / "title.txt").write_bytes(b"\xff\xfe")
    assert run.title == ""


def test_the_starter_keeps_its_name(context: AppContext) -> None:
    with pytest.raises(CheckpointError, match="keeps its name"):
        context.open("starter").set_title("mine now")


def test_card_is_plain_text_and_the_head_is_escaped(run: Run) -> None:
    run.set_title(HOSTILE)
    found = summarise(run)
    first, second, third = card(found).split("\n")
    assert first == HOSTILE, "the list shows text, not HTML"
    assert second == "Done · topic\N{NO-BREAK SPACE}0.900"
    assert third.startswith("a.csv · 40 rows · balanced · 4 min · ")
    drawn = head_html(found)
    assert "<img" not in drawn
    assert "28 train, 6 validation, 6 test" in drawn
    assert "All epochs done." in drawn
    assert picker.label(run).startswith(HOSTILE), "a choice of a dropdown is text too"


@pytest.mark.parametrize(("seconds", "words"), [(None, ""), (3.2, "3 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_took_is_said_in_fitting_units(seconds: float | None, words: str) -> None:
    assert took(seconds) == words


def listed(found: list[Summary], shown: str = "", looked: str = "", before: str = "") -> dict[str, Any]:
    return runs._listed(found, frozenset(), shown, looked, before)


def test_list_is_sent_only_when_it_changed(context: AppContext, run: Run) -> None:
    found = [summarise(one) for one in context.runs()]
    first = listed(found)
    assert [name for _, name in first["chosen"]["choices"]] == [run.name, "starter"]
    assert listed(found, before=first["listed"]).keys() == {"timer"}
    run.set_title("another")
    again = listed([summarise(one) for one in context.runs()], before=first["listed"])
    assert "another" in again["chosen"]["choices"][0][0]


def test_list_that_was_asked_for_before_a_run_was_chosen_does_not_close_it(run: Run) -> None:
    late = listed([summarise(run)])
    assert late.keys() == {"chosen", "listed", "timer"}
    assert "value" not in late["chosen"], "what is chosen stays chosen"
    assert listed([summarise(run)], run.name, f"{run.name}:done", late["listed"]).keys() == {"timer"}


def test_list_closes_a_run_that_is_gone_and_reopens_one_whose_state_changed(run: Run) -> None:
    assert listed([summarise(run)], run.name)["look"] == f"{run.name}:done"
    run.set_status("running", "training")
    going = listed([summarise(run)], run.name, f"{run.name}:done")
    assert going["look"] == f"{run.name}:running"
    assert going["timer"].active is True
    gone = listed([], run.name, f"{run.name}:done")
    assert (gone["shown"], gone["look"], gone["chosen"]["value"]) == ("", "", None)


def test_list_says_which_runs_are_shared(run: Run) -> None:
    (choice,) = runs._listed([summarise(run)], frozenset({run.name}), "", "", "")["chosen"]["choices"]
    assert "\nshared with you · a.csv" in choice[0]
    assert "shared with you" in head_html(summarise(run), shared=True)
    assert "shared with you" not in head_html(summarise(run))
    assert picker.choices([run], {run.name})[0][0].endswith(", shared with you")


def test_picking_a_run_that_was_deleted_elsewhere_is_one_sentence(context: AppContext, run: Run) -> None:
    assert runs._picked(context, run.name, "")[0] == run.name
    shutil.rmtree(run.path)
    for name in (run.name, None, "", "../elsewhere", ["x"]):
        with pytest.raises(CheckpointError, match="no such run"):
            runs._picked(context, name, "")  # type: ignore[arg-type]


def test_delete_removes_a_finished_run_once(context: AppContext, run: Run) -> None:
    run.set_status("running", "training")
    with pytest.raises(CheckpointError, match="still going on"):
        context.delete(run.name, "")
    run.set_status("done", "finished")
    context.delete(run.name, "")
    assert not run.path.exists()
    with pytest.raises(CheckpointError, match="no such run"):
        context.delete(run.name, "")
    with pytest.raises(CheckpointError, match="came with the app"):
        context.delete("starter", "")


def test_delete_in_two_windows_at_once_is_one_sentence(
    context: AppContext, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quicker(path: Path, target: Path) -> None:
        raise FileNotFoundError(2, "no such file", str(path))

    monkeypatch.setattr(Path, "rename", quicker)
    with pytest.raises(CheckpointError, match="no such run"):
        context.delete(run.name, "")


def test_strangers_neither_see_nor_delete_a_run(context: AppContext, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()
    for token in ("theirs", "", None):
        with pytest.raises(CheckpointError, match="no such run"):
            context.delete(run.name, token)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match="no such run"):
            runs._picked(context, run.name, token)  # type: ignore[arg-type]
    assert run.path.exists()
    context.delete(run.name, "mine")


def test_api_lists_a_run_with_its_scores(run: Run) -> None:
    found = api._listed(summarise(run))
    assert json.loads(json.dumps(found)) == found
    assert found["scores"] == {"topic": {"score": "accuracy", "value": 0.9}}
    assert (found["run"], found["state"], found["files"]) == (run.name, "done", ["a.csv"])


def test_api_status_says_patience_and_best_epoch(context: AppContext, run: Run) -> None:
    side = {
        "loss": 1.0,
        "losses": {"topic": 1.0},
        "scores": {"topic": {"macro_f1": 0.5}},
        "main": {"topic": "macro_f1"},
    }
    (run.path / "events.jsonl").unlink()
    for epoch, improved, stale in ((1, True, 0), (2, False, 1)):
        run.append_event(
            {
                "event": "EpochEnd", "epoch": epoch, "step": epoch, "train": side, "validation": side,
                "improved": improved, "epochs_without_improvement": stale, "best_tasks": ["topic"] * improved,
            }
        )  # fmt: skip
    found = api._status(context, run.name, "")
    assert (found["best_epoch"], found["epochs_without_improvement"], found["patience"]) == (1, 1, 3)
    assert found["best_epochs"] == {"topic": 1}
    assert (found["unfreezing_phase"], found["unfreezing_phases"]) == (1, 1)
    assert found["state"] == "done"
    assert found["test"] == REPORT["test"]


def test_picker_shows_the_scores_that_count(context: AppContext, run: Run) -> None:
    drawn = picker.scores_html(context, run.name, "")
    assert "topic: test accuracy" in drawn
    assert "0.900" in drawn
    assert "no such run" in picker.scores_html(context, "never-was", "")
    assert "No checkpoint" in picker.scores_html(context, None, "")
