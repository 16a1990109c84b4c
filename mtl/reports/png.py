"""The saved plots of a run, drawn by matplotlib: loss, and accuracy and F1 of each task, train and validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtl.reports.plots import COLOURS, History, epochs, steps, thin
from mtl.tasks import TaskSpec

FILES = {"accuracy": "accuracy", "macro_f1": "f1"}


def save_plots(history: History, tasks: Sequence[TaskSpec], folder: Path) -> list[Path]:
    """Write `loss_curve.png`, `<task>_accuracy.png` and `<task>_f1.png`.

    Args:
        history: The run's events; with no finished epoch the loss curve shows the steps alone.
        tasks: The tasks; their keys name the files.
        folder: Made if it is missing.
    """
    folder.mkdir(exist_ok=True)
    ends = epochs(history)
    written = [_loss(history, folder / "loss_curve.png")]
    for task in tasks:
        for metric, name in FILES.items():

            def value(event: dict[str, Any], side: str, task: TaskSpec = task, metric: str = metric) -> float | None:
                return event[side]["scores"].get(task.name, {}).get(metric) if event[side] else None

            file = folder / f"{task.key}_{name}.png"
            written.append(_by_epoch(ends, value, f"{task.name}: {metric.replace('macro_f1', 'macro F1')}", file))
    return written


def _loss(history: History, file: Path) -> Path:
    taken, ends = steps(history), epochs(history)
    figure, axes = _axes("Loss (weighted sum over the tasks)", "step", "loss")
    x, y = thin([event["step"] for event in taken], [event["loss"] for event in taken])
    axes.plot(x, y, color=COLOURS[0], alpha=0.35, linewidth=1, label="training, each step")
    for side, colour in (("train", COLOURS[0]), ("validation", COLOURS[1])):
        scored = [event for event in ends if event[side]]
        if scored:
            label = "training, epoch mean" if side == "train" else "validation"
            axes.plot([e["step"] for e in scored], [e[side]["loss"] for e in scored], "o-", color=colour, label=label)
    return _save(figure, axes, file)


def _by_epoch(
    ends: Sequence[dict[str, Any]], value: Callable[[dict[str, Any], str], float | None], title: str, file: Path
) -> Path:
    figure, axes = _axes(title, "epoch", "score")
    for side, colour in (("train", COLOURS[0]), ("validation", COLOURS[1])):
        points = [(event["epoch"], value(event, side)) for event in ends]
        points = [(epoch, score) for epoch, score in points if score is not None]
        if points:
            label = "training" if side == "train" else side
            axes.plot([p[0] for p in points], [p[1] for p in points], "o-", color=colour, label=label)
    axes.set_ylim(0, 1.02)
    return _save(figure, axes, file)


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(_plain(title), fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain(text: str) -> str:
    """Keep matplotlib from reading dollar signs as mathematics."""
    return text.replace("$", r"\$")


def _save(figure: Figure, axes: Any, file: Path) -> Path:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9)
    with warnings.catch_warnings():
        # a task's name may be written in any script; what the font lacks is drawn as a box
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        # without the version matplotlib would write into it, equal runs give equal files
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file
