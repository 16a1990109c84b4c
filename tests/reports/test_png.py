from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from mtl.reports import png
from mtl.reports.png import save_plots, save_report_plots
from mtl.tasks import TaskKind, TaskSpec, task_keys

History = list[dict[str, Any]]
Drawn = dict[str, dict[str, Any]]
PARTS = ("embeddings", "layer.0", "layer.1", "head.topic", "head.mood")


def scores(number: int, task: str) -> dict[str, float]:
    base = 0.2 * number if task == "topic" else 0.1 * number
    return {"accuracy": base, "macro_f1": base / 2, "weighted_f1": base / 3, "entity_f1": base / 4}


def side(number: int) -> dict[str, Any]:
    return {
        "loss": 2 / number,
        "losses": {"topic": 1 / number, "mood": 1 / number},
        "scores": {task: scores(number, task) for task in ("topic", "mood")},
        "mean_score": 0.1,
    }


@pytest.fixture
def history() -> History:
    """Three epochs of four steps; the lower parts join in the second."""
    events: History = [{"event": "RunBegin"}]
    for step in range(1, 13):
        number = (step + 3) // 4
        learning = PARTS if number > 1 else PARTS[3:]
        events.append(
            {
                "event": "StepEnd",
                "step": step,
                "epoch": number,
                "loss": 2 / step,
                "losses": {"topic": 1 / step, "mood": 1 / step},
                "weights": {"topic": 1.0, "mood": step / 12},
                "learning_rates": {part: (12 - step) * 1e-4 for part in learning},
            }
        )
        if step % 4 == 0:
            ends = {"train": side(number), "validation": side(number + 1)}
            events.append({"event": "EpochEnd", "epoch": number, "step": step, **ends})
    return events


def tasks(*names: str, kind: TaskKind = "classification") -> tuple[TaskSpec, ...]:
    keys = task_keys(names)
    return tuple(TaskSpec(name=n, key=keys[n], kind=kind, labels=("a", "b")) for n in names)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What would have been drawn, file by file: name of each line -> its heights."""
    found: Drawn = {}

    def keep(figure: Any, axes: Any, file: Path) -> Path:
        found[file.stem] = {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}
        return file

    monkeypatch.setattr(png, "_save", keep)
    return found


def renamed(history: History, new: str) -> History:
    """Give the task `topic` another name throughout."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {new if key == "topic" else key: change(inner) for key, inner in value.items()}
        return value

    return [change(event) for event in history]


def test_png_writes_a_picture_of_the_loss_two_for_each_task_and_two_of_the_training(
    history: History, tmp_path: Path
) -> None:
    written = save_plots(history, tasks("topic", "mood"), tmp_path / "plots")
    names = ["loss_curve", "topic_accuracy", "topic_f1", "mood_accuracy", "mood_f1", "learning_rates", "task_weights"]
    assert [path.name for path in written] == [f"{name}.png" for name in names]
    for path in written:
        height, width, _ = matplotlib.image.imread(path).shape
        assert (width, height) == (770, 462)


def test_png_shows_training_and_validation_in_each(history: History, tmp_path: Path, drawn: Drawn) -> None:
    save_plots(history, tasks("topic", "mood"), tmp_path)
    epochs = [event for event in history if event["event"] == "EpochEnd"]
    assert drawn["loss_curve"] == {
        "training, each step": [event["loss"] for event in history if event["event"] == "StepEnd"],
        "training, epoch mean": [event["train"]["loss"] for event in epochs],
        "validation": [event["validation"]["loss"] for event in epochs],
    }
    for name, metric in (("accuracy", "accuracy"), ("f1", "macro_f1")):
        assert drawn[f"mood_{name}"] == {
            "training": [event["train"]["scores"]["mood"][metric] for event in epochs],
            "validation": [event["validation"]["scores"]["mood"][metric] for event in epochs],
        }


def test_png_of_entities_shows_their_f1(history: History, tmp_path: Path, drawn: Drawn) -> None:
    save_plots(history, tasks("topic", kind="token_classification"), tmp_path)
    assert set(drawn) == {"loss_curve", "topic_f1", "learning_rates"}
    assert drawn["topic_f1"]["training"] == [scores(number, "topic")["entity_f1"] for number in (1, 2, 3)]


def test_png_shows_each_parts_rate_and_each_tasks_weight(history: History, tmp_path: Path, drawn: Drawn) -> None:
    save_plots(history, tasks("topic", "mood"), tmp_path)
    assert set(drawn["learning_rates"]) == set(PARTS)
    heads, layers = drawn["learning_rates"]["head.mood"], drawn["learning_rates"]["layer.1"]
    assert heads[:11] == pytest.approx([(12 - step) * 1e-4 for step in range(1, 12)])
    assert layers[4:11] == heads[4:11]
    assert all(rate != rate for rate in (*layers[:4], heads[11])), "a gap where it was frozen, or 0"
    assert drawn["task_weights"]["topic"] == [1.0] * 12
    assert drawn["task_weights"]["mood"] == pytest.approx([step / 12 for step in range(1, 13)], abs=1e-5)


def test_png_shows_no_weights_of_one_task(history: History, tmp_path: Path, drawn: Drawn) -> None:
    save_plots(history, tasks("topic"), tmp_path)
    assert "task_weights" not in drawn


def test_png_of_an_older_journal_leaves_out_what_it_does_not_hold(history: History, tmp_path: Path) -> None:
    old = [{k: v for k, v in event.items() if k not in ("weights", "learning_rates")} for event in history]
    written = save_plots(old, tasks("topic", "mood"), tmp_path / "plots")
    names = ["loss_curve", "topic_accuracy", "topic_f1", "mood_accuracy", "mood_f1"]
    assert [path.name for path in written] == [f"{name}.png" for name in names]


def test_png_of_equal_runs_is_the_same_file(history: History, tmp_path: Path) -> None:
    first, again = (save_plots(history, tasks("topic"), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


@pytest.mark.parametrize("length", [0, 1, 3])
def test_png_of_a_run_that_ended_before_its_first_epoch(history: History, tmp_path: Path, length: int) -> None:
    assert not any(event["event"] == "EpochEnd" for event in history[:length])
    assert all(path.stat().st_size > 0 for path in save_plots(history[:length], tasks("topic"), tmp_path / "plots"))


def test_png_of_a_run_without_validation_rows(history: History, tmp_path: Path) -> None:
    bare = [event | {"validation": None} if event["event"] == "EpochEnd" else event for event in history]
    with_it, without = (
        save_plots(history, tasks("topic"), tmp_path / "a"),
        save_plots(bare, tasks("topic"), tmp_path / "b"),
    )
    for left, right in zip(with_it, without, strict=True):
        same = left.name == "learning_rates.png"
        assert (left.read_bytes() == right.read_bytes()) == same


@pytest.mark.parametrize("name", ["a/b", "../../escape", "$x^", "100% _{", "情感", "type", "a.b", "_x"])
def test_png_takes_any_task_name(history: History, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "plots"
    (task,) = tasks(name)
    written = save_plots(renamed(history, name), (task,), folder)
    names = ("loss_curve", f"{task.key}_accuracy", f"{task.key}_f1", "learning_rates")
    assert {path.name for path in written} == {f"{name}.png" for name in names}
    assert {path.name for path in folder.iterdir()} == {path.name for path in written}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["plots"]


@pytest.mark.parametrize("name", ["$x^ <b>", "_x", "情感"])
def test_png_names_every_task_in_the_legend(history: History, tmp_path: Path, drawn: Drawn, name: str) -> None:
    save_plots(renamed(history, name), tasks(name, "mood"), tmp_path)
    assert [label.strip().replace("\\$", "$") for label in drawn["task_weights"]] == [name, "mood"]
    assert not any(label.startswith("_") for label in drawn["task_weights"]), "matplotlib would leave it out"


def test_png_of_very_many_parts_names_them_beside_the_lines(history: History, tmp_path: Path) -> None:
    for event in history:
        if event["event"] == "StepEnd":
            event["learning_rates"] = {f"layer.{n}": 1e-5 for n in range(24)}
    *_, rates = save_plots(history, tasks("topic"), tmp_path / "plots")
    assert matplotlib.image.imread(rates).shape[:2] == (462, 770)


# ------------------------------------------------------------------------------------------ the report


def task_report(labels: list[str]) -> dict[str, Any]:
    filled = {"low": 0.8, "high": 1.0, "count": 7, "confidence": 0.9, "accuracy": 0.75}
    empty = {"low": 0.6, "high": 0.8, "count": 0, "confidence": None, "accuracy": None}
    bins = {"ece_before": 0.15, "ece_after": 0.15, "bins_before": [empty, filled], "bins_after": [empty, filled]}
    matrix = [[3 * (i == j) + j for j in range(len(labels))] for i in range(len(labels))]
    return {
        "confusion": {"labels": labels, "matrix": matrix},
        "calibration": {"temperature": 1.0, "unit": "texts", **bins},
    }


@pytest.mark.parametrize("count", [3, 40])
def test_png_of_a_report_is_two_pictures_for_each_task(tmp_path: Path, count: int) -> None:
    report = {"tasks": {"a/b": task_report([f"class $ <b> 情感 _ number {n}" for n in range(count)])}}
    written = save_report_plots(report, tasks("a/b"), tmp_path / "plots")
    assert [path.name for path in written] == ["a_b_confusion.png", "a_b_reliability.png"]
    heights = [matplotlib.image.imread(path).shape[0] for path in written]
    assert (heights[0] == 462) == (count == 3), "many classes need a larger picture"
    assert heights[1] == 462


def test_png_of_equal_reports_is_the_same_file(tmp_path: Path) -> None:
    report = {"tasks": {"topic": task_report(["a", "b"])}}
    first, again = (save_report_plots(report, tasks("topic"), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_png_of_a_report_shows_what_the_page_shows(tmp_path: Path, drawn: Drawn) -> None:
    save_report_plots({"tasks": {"topic": task_report(["a", "b"])}}, tasks("topic"), tmp_path)
    assert drawn["topic_reliability"] == {
        "perfect": [0, 1],
        "before (ECE 0.150)": [0.75],
        "after (ECE 0.150)": [0.75],
    }


def test_png_of_a_report_without_tests_or_of_entities(tmp_path: Path) -> None:
    for report in ({}, {"tasks": None}, {"tasks": {}}, {"tasks": {"topic": {}}}):
        assert save_report_plots(report, tasks("topic"), tmp_path / "plots") == []
    entities = {"tasks": {"topic": {"calibration": task_report(["a", "b"])["calibration"]}}}
    written = save_report_plots(entities, tasks("topic", kind="token_classification"), tmp_path / "plots")
    assert [path.name for path in written] == ["topic_reliability.png"]
