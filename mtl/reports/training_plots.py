"""From a run's events to figures of how it was trained: weights, conflict, drift and learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtl.reports.plots import (
    COLOURS,
    MAX_POINTS,
    NEUTRAL,
    Figure,
    History,
    _figure,
    _line,
    epochs,
    shorten,
    steps,
    task_names,
    thin,
)

# orange against, white unrelated, blue together: told apart with any colour-blindness
DIVERGING = [[0, "#b35806"], [0.5, "#f7f7f7"], [1, "#2c5aa0"]]
# blue at the bottom, green, amber at the top: they differ in lightness too, and read on white and black
LAYER_COLOURS = ("#0072b2", "#009e73", "#e69f00")
ABOVE_LAYERS = ("other", "pooling", "projection", "layer_norm")


def weight_curves(history: History) -> Figure:
    """Draw each task's effective weight over the steps."""
    taken = [(event["step"], event.get("weights") or {}) for event in steps(history)]
    return _figure(_task_lines(history, taken), "step", "weight of the loss", {"rangemode": "tozero"})


def share_curves(history: History) -> Figure:
    """Draw each task's part of the gradients' norms in the shared encoder, over the looks."""
    taken = [(step, look.get("shares") or {}) for step, look in looks(history)]
    lines = _task_lines(history, taken, markers=True)
    return _figure(lines, "step", "share of the gradient", {"range": [0, 1.02], "tickformat": ".0%"})


def conflict_map(history: History, pair: str | None = None) -> Figure:
    """Draw how far the tasks' gradients agree: the layers upwards, the bottom one at the bottom, over the looks.

    Args:
        history: Events of a run.
        pair: One of `task_pairs`; None: the mean over all pairs.
    """
    found = [(step, _cosine_by_part(look, pair)) for step, look in looks(history)]
    parts = sorted({part for _, cosines in found for part in cosines}, key=_height)
    if not parts:
        return _figure([], "step", "")
    x, rows = _thin_rows([step for step, _ in found], [[cosines.get(part) for _, cosines in found] for part in parts])
    trace = {
        "type": "heatmap",
        "x": x,
        "y": [shorten(part) for part in parts],
        "z": [[None if value is None else round(value, 4) for value in row] for row in rows],
        "hovertemplate": "%{y}, step %{x}<br><b>%{z:.3f}</b><extra></extra>",
        "hoverongaps": False,
        "colorscale": DIVERGING,
        "zmin": -1,
        "zmax": 1,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "title": {"text": "cosine"}},
    }
    return _figure([trace], "step", "", {"type": "category", "automargin": True})


def task_pairs(history: History) -> list[str]:
    """Return the pairs of tasks whose gradients were compared, in the order of their first appearance."""
    found: dict[str, None] = {}
    for _, look in looks(history):
        for pairs in look["cosines"].values():
            found.update(dict.fromkeys(pairs))
    return list(found)


def embedding_curves(history: History) -> Figure:
    """Draw how far the embeddings have moved and how alike random texts are, from the start on."""
    found = [(event["epoch"], event["embedding"]) for event in epochs(history) if event.get("embedding")]
    if not found:
        return _figure([], "epoch", "")
    x = [0, *(epoch for epoch, _ in found)]
    drift = [0.0, *(health["drift"] for _, health in found)]
    alike = [found[0][1]["start_random_cosine"], *(health["random_cosine"] for _, health in found)]
    traces = [
        _line("drift from the start (1 - cosine)", x, drift, COLOURS[0], markers=True),
        _line("mean cosine of random texts", x, alike, COLOURS[1], dash="dot", markers=True),
    ]
    figure = _figure(traces, "epoch", "", {"rangemode": "tozero"})
    figure["layout"]["xaxis"]["dtick"] = max(1, len(found) // 10)
    return figure


def rate_curves(history: History) -> Figure:
    """Draw each part's learning rate over the steps, on a logarithmic axis; a gap where the part is frozen."""
    taken = [(event["step"], event.get("learning_rates") or {}) for event in steps(history)]
    parts = sorted({part for _, rates in taken for part in rates}, key=_height)
    x, rows = _thin_rows(
        [step for step, _ in taken], [[rates.get(part) or None for _, rates in taken] for part in parts]
    )
    colours = _part_colours(parts)
    traces = []
    for part, row in zip(parts, rows, strict=True):
        line = _line(
            shorten(part), x, [], colours[part], width=1.6, dash="dot" if part.startswith("head.") else "solid"
        )
        # four digits of any size, where other lines have five after the point
        line |= {"y": [None if rate is None else float(f"{rate:.4g}") for rate in row]}
        traces.append(line | {"hovertemplate": "%{y:.3g}"})
    figure = _figure(traces, "step", "learning rate", {"type": "log", "exponentformat": "e", "dtick": 1})
    # parts of one rate lie upon each other: the box names them all, the top one first as in the legend
    figure["layout"]["hovermode"] = "x unified"
    figure["layout"]["legend"] = {"orientation": "v", "traceorder": "reversed"}
    return figure


def looks(history: History) -> list[tuple[int, dict[str, Any]]]:
    """Return the looks at the tasks' gradients, each with its step."""
    return [(event["step"], event["conflict"]) for event in steps(history) if event.get("conflict")]


def _task_lines(
    history: History, taken: Sequence[tuple[int, Mapping[str, float]]], *, markers: bool = False
) -> list[dict[str, Any]]:
    """Draw a value of each task over the steps, in the task's colour; a task without any is left out."""
    traces = []
    for number, task in enumerate(task_names(history)):
        pairs = [(step, values[task]) for step, values in taken if task in values]
        if pairs:
            x, y = thin([step for step, _ in pairs], [value for _, value in pairs])
            traces.append(_line(shorten(task), x, y, COLOURS[number % len(COLOURS)], width=1.6, markers=markers))
    return traces


def _cosine_by_part(look: Mapping[str, Any], pair: str | None) -> dict[str, float]:
    """Return component -> cosine of a pair, or the mean over the pairs."""
    if pair is not None:
        return {part: pairs[pair] for part, pairs in look["cosines"].items() if pair in pairs}
    return {part: sum(pairs.values()) / len(pairs) for part, pairs in look["cosines"].items() if pairs}


def _thin_rows(
    x: Sequence[float], rows: Sequence[Sequence[float | None]]
) -> tuple[list[float], list[list[float | None]]]:
    """Average neighbouring columns of a table with gaps so that few enough remain; a gap is no value.

    Args:
        x: One value for each column.
        rows: The table, row by row.
    """
    width = -(-len(x) // MAX_POINTS)
    if width <= 1:
        return list(x), [list(row) for row in rows]
    cuts = range(0, len(x), width)
    return (
        [sum(x[i : i + width]) / len(x[i : i + width]) for i in cuts],
        [[_mean(row[i : i + width]) for i in cuts] for row in rows],
    )


def _mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return sum(given) / len(given) if given else None


def _height(part: str) -> tuple[int, int, str]:
    """Sort the parts of a model from the bottom to the top, whatever the order in which they began to learn."""
    kind, _, number = part.partition(".")
    if kind == "layer" and number.isdigit():
        return 1, int(number), ""
    if part in ABOVE_LAYERS:
        return 2, ABOVE_LAYERS.index(part), ""
    return (0 if part == "embeddings" else 3), 0, part


def _part_colours(parts: Sequence[str]) -> dict[str, str]:
    """Give every layer a colour by its height and the other parts one each."""
    layers = [part for part in parts if part.startswith("layer.")]
    others = [part for part in parts if part not in layers]
    free = [colour for colour in COLOURS if colour not in LAYER_COLOURS]
    found = {part: NEUTRAL if part == "embeddings" else free[i % len(free)] for i, part in enumerate(others)}
    return found | {part: _blend(i / max(1, len(layers) - 1)) for i, part in enumerate(layers)}


def _blend(height: float) -> str:
    """Return the colour at a height from 0, the bottom, to 1, along `LAYER_COLOURS`."""
    position = height * (len(LAYER_COLOURS) - 1)
    below = min(int(position), len(LAYER_COLOURS) - 2)
    ends = [[int(LAYER_COLOURS[below + n][i : i + 2], 16) for i in (1, 3, 5)] for n in (0, 1)]
    return "#" + "".join(f"{round(a + (b - a) * (position - below)):02x}" for a, b in zip(*ends, strict=True))
