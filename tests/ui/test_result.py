"""The report of a run and what is taken away, without a browser."""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.errors import CheckpointError
from mtl.runs.store import Run, RunStore
from mtl.settings import settings
from mtl.ui.context import AppContext
from mtl.ui.train import report, result

HOSTILE = "<img src=x onerror=alert(1)>"
BINS = [{"low": 0.0, "high": 1.0, "count": 4, "confidence": 0.8, "accuracy": 0.5}]
CALIBRATION = {
    "temperature": 1.25, "unit": "texts", "ece_before": 0.3, "ece_after": 0.05, "bins_before": BINS,
    "bins_after": BINS,
}  # fmt: skip
TOPIC: dict[str, Any] = {
    "kind": "classification",
    "main": "macro_f1",
    "scores": {"accuracy": 0.9, "macro_f1": 0.85},
    "intervals": {"accuracy": [0.8, 0.95], "macro_f1": [0.75, 0.92]},
    "classes": [{"label": HOSTILE, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 8}],
    "confusion": {"labels": [HOSTILE, "b"], "matrix": [[3, 1], [0, 4]]},
    "baselines": {"majority": {"accuracy": 0.5, "macro_f1": 0.333}, "tfidf": None},
    "baseline_notes": {"tfidf": "The training texts have no words."},
    "calibration": CALIBRATION,
    "mistakes": [
        {"row": "a.csv 17", "text": HOSTILE, "label": "b", "predicted": HOSTILE, "confidence": 0.987},
    ],
}
NER: dict[str, Any] = {
    "kind": "token_classification",
    "main": "entity_f1",
    "scores": {"entity_f1": 0.6, "entity_precision": 0.7, "entity_recall": 0.5},
    "intervals": {"entity_f1": [0.5, 0.7]},
    "classes": [{"label": "PER", "precision": 0.7, "recall": 0.5, "f1": 0.6, "support": 12}],
    "baselines": {"nothing": {"entity_f1": 0.0}, "dictionary": {"entity_f1": 0.4}},
    "calibration": CALIBRATION | {"unit": "tokens"},
    "mistakes": [{"row": 3, "text": "Ann is here", "label": "PER: Ann", "predicted": "", "confidence": None}],
}
FULL: dict[str, Any] = {
    "outcome": "done", "reason": "all epochs done", "best_epoch": 3,
    "test": {"topic": TOPIC["scores"], "ner": NER["scores"]},
    "test_rows": {"topic": 8, "ner": 12},
    "tasks": {"topic": TOPIC, "ner": NER},
    "notes": [],
    "earlier": {
        "run": "20260101-000000-aa", "rows": 120, "before": {"mood": {"accuracy": 0.9, "macro_f1": 0.8}},
        "after": {"mood": {"accuracy": 0.9, "macro_f1": 0.75}},
    },
}  # fmt: skip
OLD = {
    "outcome": "done", "best_epoch": 4, "test": {"topic": {"accuracy": 0.9, "macro_f1": 0.8}},
    "test_rows": {"topic": 315},
}  # fmt: skip


@pytest.fixture
def section() -> report.ReportSection:
    """The components, as keys."""
    names: list[Any] = ["overview", "choice", "detail", "confusion", "calibration", "reliability", "mistakes"]
    return report.ReportSection(*names)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that is over, without anything in it yet."""
    lines = "\n".join(["text,topic", *(f"the sentence number {n},{'ab'[n % 2]}" for n in range(40))])
    found = RunStore(tmp_path / "runs").create(RunConfig(), read_table(lines.encode()))
    found.set_status("done", "finished", "all epochs done")
    return found


def write(run: Run, found: dict[str, Any]) -> None:
    (run.path / "report.json").write_text(json.dumps(found))


def test_report_shows_every_task_beside_its_baselines() -> None:
    drawn = report.report_html(FULL)
    assert "Test rows were scored once, with the best checkpoint (epoch 3)" in drawn
    for cell in ("0.850 macro F1", "0.750–0.920", "0.333", "0.600 entity F1", "0.400", "12"):
        assert f">{cell}</td>" in drawn
    assert ">no network</th>" in drawn
    assert "<img" not in drawn


def test_report_of_one_kind_of_task_names_the_score_and_the_baselines() -> None:
    drawn = report.report_html(FULL | {"tasks": {"topic": TOPIC}, "test": {"topic": TOPIC["scores"]}})
    for title in ("macro F1", "most frequent class", "TF-IDF"):
        assert f">{title}</th>" in drawn
    assert ">0.850</td>" in drawn
    assert ">–</td>" in drawn, "a baseline that could not be made"


def test_report_says_what_became_of_the_earlier_tasks() -> None:
    drawn = report.earlier_html(FULL["earlier"])
    assert "Tasks of 20260101-000000-aa, on its 120 validation rows" in drawn
    assert "−0.050" in drawn
    assert report.earlier_html(None) == report.earlier_html({"before": {}}) == ""


def test_report_of_an_older_version_still_shows() -> None:
    drawn = report.report_html(OLD)
    for cell in ("0.900", "0.800", "315"):
        assert f">{cell}</td>" in drawn


def test_report_without_test_rows_says_why(section: report.ReportSection, run: Run) -> None:
    assert "no test score is claimed" in report.report_html({"test": None, "notes": []})
    assert "diverged" in report.report_html({"test": None, "tasks": None, "notes": ["The run diverged."]})
    assert "did not end by itself" in report.show(section, run)["overview"]
    run.set_status("running", "training")
    assert "when the run ends" in report.show(section, run)["overview"]


def test_report_opens_with_the_first_task_and_shows_the_others_on_request(
    section: report.ReportSection, run: Run
) -> None:
    write(run, FULL)
    shown: dict[Any, Any] = report.show(section, run)
    assert shown["choice"] == gr.update(choices=["topic", "ner"], value="topic", visible=True)
    assert shown["confusion"]["visible"] is True
    assert "0.500" in shown["detail"]["value"]
    other: dict[Any, Any] = report.show_task(section, FULL, "ner")
    assert other["confusion"] == gr.update(visible=False)
    assert "tokens" in other["calibration"]["value"]
    assert "overlooked" in other["mistakes"]["value"]


@pytest.mark.parametrize("task", ["", "weather", None, ["topic"]])
def test_report_of_a_task_that_is_not_there_is_empty(section: report.ReportSection, task: Any) -> None:
    shown: dict[Any, Any] = report.show_task(section, FULL, task)
    assert {key for key, value in shown.items() if value == gr.update(visible=False)} == set(section.of_task)


def test_report_never_turns_peoples_texts_into_html() -> None:
    drawn = report.task_html(HOSTILE, TOPIC) + report.mistakes_html(TOPIC["mistakes"])
    assert "<img" not in drawn
    assert drawn.count("&lt;img") == 4


def test_report_folds_what_is_long() -> None:
    many = copy.deepcopy(TOPIC)
    many["classes"] = TOPIC["classes"] * 13
    assert "The scores of 13 classes" in report.task_html("topic", many)
    drawn = report.mistakes_html(TOPIC["mistakes"] * 7)
    assert "2 more" in drawn
    assert "There are none" in report.mistakes_html([])


def test_report_says_what_calibration_did() -> None:
    drawn = report.calibration_html(CALIBRATION)
    assert "temperature of 1.25" in drawn
    assert "30.0 points apart before and 5.0 after" in drawn


def test_result_says_why_a_run_ended_early(run: Run) -> None:
    run.set_status("failed", "finished", "The training process crashed.")
    assert "No checkpoint" in result.result_html(run)
    (run.best).mkdir()
    (run.best / "manifest.json").write_text("{}")
    run.set_status("stopped", "finished", "stopped on request")
    drawn = result.result_html(run)
    assert "Stopped on request." in drawn
    assert "now answers" in drawn


def test_download_of_a_run_without_checkpoint_has_its_results(tmp_path: Path, run: Run) -> None:
    write(run, OLD)
    (run.path / "owner.json").write_text('{"token_sha256": "x"}')
    context = AppContext(RunStore(run.path.parent))
    (archive,) = result.download(context, run.name, "")
    names = {Path(name).name for name in zipfile.ZipFile(archive).namelist()}
    assert {"config.yaml", "report.json"} <= names
    assert not {"owner.json", "data.csv", "split.json"} & names


def test_download_is_refused_to_strangers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()
    context = AppContext(RunStore(run.path.parent))
    with pytest.raises(CheckpointError, match="no such run"):
        result.download(context, run.name, "theirs")
