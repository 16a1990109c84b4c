"""The saved plots of a run, drawn by matplotlib: how it learnt and, once tested, how good and how honest it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtl.choices import SCORE_NAMES, Score
from mtl.reports.plots import COLOURS, History, epochs, shorten, steps, thin
from mtl.reports.test_plots import MOST_WRITTEN, reliability_diagram, row_shares
from mtl.reports.training_plots import rate_curves, weight_curves
from mtl.tasks import TaskKind, TaskSpec

# kind -> score -> end of the file's name
FILES: dict[TaskKind, dict[Score, str]] = {
    "classification": {"accuracy": "accuracy", "macro_f1": "f1"},
    "token_classification": {"entity_f1": "f1"},
}
DASHES = {"solid": "-", "dot": ":"}
MOST_INSIDE = 6  # names of lines that fit into the plot; more stand beside it


def save_plots(history: History, tasks: Sequence[TaskSpec], folder: Path) -> list[Path]:
    """Write `loss_curve.png`, `<task>_accuracy.png` and `<task>_f1.png`, `learning_rates.png` and `task_weights.png`.

    The last is for several tasks; it and the rates are left out where an old journal does not hold them.

    Args:
        history: The run's events; with no finished epoch the loss curve shows the steps alone.
        tasks: The tasks; their keys name the files.
        folder: Made if it is missing.
    """
    folder.mkdir(exist_ok=True)
    ends = epochs(history)
    written = [_loss(history, folder / "loss_curve.png")]
    for task in tasks:
        for metric, name in FILES[task.kind].items():

            def value(event: dict[str, Any], side: str, task: TaskSpec = task, metric: str = metric) -> float | None:
                return event[side]["scores"].get(task.name, {}).get(metric) if event[side] else None

            file = folder / f"{task.key}_{name}.png"
            written.append(_by_epoch(ends, value, f"{task.name}: {SCORE_NAMES[metric]}", file))
    rates, weights = rate_curves(history)["data"], weight_curves(history)["data"] if len(tasks) > 1 else []
    if rates:
        titles = ("Learning rates", "step", "learning rate")
        written.append(_lines(rates, *titles, folder / "learning_rates.png", log=True))
    if weights:
        titles = ("Weights of the tasks' losses", "step", "weight")
        written.append(_lines(weights, *titles, folder / "task_weights.png"))
    return written


def save_report_plots(report: Mapping[str, Any], tasks: Sequence[TaskSpec], folder: Path) -> list[Path]:
    """Write `<task>_confusion.png` and `<task>_reliability.png` of the tested tasks.

    Args:
        report: As `mtl.reports.testing` makes it; an older one without tasks gives no plot.
        tasks: The tasks; their keys name the files.
        folder: Made if it is missing.
    """
    folder.mkdir(exist_ok=True)
    tested = report.get("tasks") or {}
    written: list[Path] = []
    for task in tasks:
        found = tested.get(task.name, {})
        if found.get("confusion"):
            written.append(_confusion(found["confusion"], task.name, folder / f"{task.key}_confusion.png"))
        if found.get("calibration"):
            file, title = folder / f"{task.key}_reliability.png", f"{task.name}: is the confidence right?"
            traces = reliability_diagram(found)["data"]
            written.append(_lines(traces, title, "confidence", "share that is right", file))
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


def _lines(traces: Sequence[dict[str, Any]], title: str, x: str, y: str, file: Path, *, log: bool = False) -> Path:
    """Draw the lines of a Plotly figure, so that a saved plot shows what the page shows."""
    figure, axes = _axes(title, x, y)
    for trace in traces:
        axes.plot(
            trace["x"],
            [float("nan") if value is None else value for value in trace["y"]],
            color=trace["line"]["color"],
            linewidth=trace["line"]["width"],
            linestyle=DASHES[trace["line"]["dash"]],
            marker="o" if "markers" in trace["mode"] else "",
            markersize=4,
            label=_plain(unescape(trace["name"])),
        )
    axes.set_yscale("log" if log else "linear")
    return _save(figure, axes, file)


def _confusion(confusion: Mapping[str, Any], name: str, file: Path) -> Path:
    labels = [_plain(unescape(shorten(label, 24))) for label in confusion["labels"]]
    size = max(4.2, 1.8 + 0.32 * len(labels))
    figure, axes = _axes(f"{name}: predicted classes of each true class", "predicted", "true", size=(size + 1, size))
    shares = row_shares(confusion["matrix"])
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.grid(False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the row")
    if len(labels) <= MOST_WRITTEN:
        for row, counts in enumerate(confusion["matrix"]):
            for column, count in enumerate(counts):
                colour = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=colour)
    return _save(figure, axes, file)


def _axes(title: str, x: str, y: str, *, size: tuple[float, float] = (7, 4.2)) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(_plain(title), fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain(text: str) -> str:
    """Keep matplotlib from reading dollar signs as mathematics, and a first underscore as "not in the legend"."""
    return (f" {text}" if text.startswith("_") else text).replace("$", r"\$")


def _save(figure: Figure, axes: Any, file: Path) -> Path:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > MOST_INSIDE:  # the last is often the highest
        figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=8)
    elif labels:
        axes.legend(frameon=False, fontsize=9)
    with warnings.catch_warnings():
        # a task's name may be written in any script; what the font lacks is drawn as a box
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        # without the version matplotlib would write into it, equal runs give equal files
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file
