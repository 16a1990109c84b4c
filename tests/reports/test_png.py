from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from mtl.config import task_specs
from mtl.reports import png
from mtl.reports.png import save_plots
from mtl.runs.store import Run
from mtl.tasks import TaskSpec, task_keys

History = list[dict[str, Any]]


@pytest.fixture(scope="module")
def history(finished_run: Run) -> History:
    return finished_run.events()[0]


def tasks(*names: str) -> tuple[TaskSpec, ...]:
    keys = task_keys(names)
    return tuple(TaskSpec(name=n, key=keys[n], kind="classification", labels=("a", "b")) for n in names)


def renamed(history: History, new: str) -> History:
    """Give the task `topic` another name throughout."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {new if key == "topic" else key: change(inner) for key, inner in value.items()}
        return value

    return [change(event) for event in history]


def test_png_writes_a_picture_of_the_loss_and_two_for_each_task(
    history: History, finished_run: Run, tmp_path: Path
) -> None:
    written = save_plots(history, task_specs(finished_run.config), tmp_path / "plots")
    names = ["loss_curve", "topic_accuracy", "topic_f1", "mood_accuracy", "mood_f1"]
    assert [path.name for path in written] == [f"{name}.png" for name in names]
    for path in written:
        height, width, _ = matplotlib.image.imread(path).shape
        assert (width, height) == (770, 462)


def test_png_shows_training_and_validation_in_each(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, dict[str, Any]] = {}

    def keep(figure: Any, axes: Any, file: Path) -> Path:
        drawn[file.stem] = {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}
        return file

    monkeypatch.setattr(png, "_save", keep)
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
        assert left.read_bytes() != right.read_bytes()


@pytest.mark.parametrize("name", ["a/b", "../../escape", "$x^", "100% _{", "情感", "type", "a.b"])
def test_png_takes_any_task_name(history: History, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "plots"
    (task,) = tasks(name)
    written = save_plots(renamed(history, name), (task,), folder)
    assert {path.name for path in written} == {"loss_curve.png", f"{task.key}_accuracy.png", f"{task.key}_f1.png"}
    assert {path.name for path in folder.iterdir()} == {path.name for path in written}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["plots"]
