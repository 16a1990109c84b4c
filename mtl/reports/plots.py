"""From a run's events to Plotly figures, as plain dictionaries.

Building dictionaries costs a hundredth of what `plotly.graph_objects` costs, and a live plot is drawn every second.
Colours are neutral enough for a light and a dark page; the background is the page's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl.choices import SCORE_NAMES

Figure = dict[str, Any]
History = Sequence[dict[str, Any]]

MAX_POINTS = 300
# Okabe & Ito's palette, which people with colour-blindness can tell apart, in an order that reads on white and black
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999")
NEUTRAL = "#7f8795"


def epochs(history: History) -> list[dict[str, Any]]:
    """Return the `EpochEnd` events."""
    return [event for event in history if event["event"] == "EpochEnd"]


def steps(history: History) -> list[dict[str, Any]]:
    """Return the `StepEnd` events."""
    return [event for event in history if event["event"] == "StepEnd"]


def task_names(history: History) -> list[str]:
    """Return the tasks that were scored or trained, in the order of their first appearance."""
    found: dict[str, None] = {}
    for event in history:
        if event["event"] == "StepEnd":
            found.update(dict.fromkeys(event["losses"]))
        if event["event"] == "EpochEnd" and event["validation"]:
            found.update(dict.fromkeys(event["validation"]["losses"]))
    return list(found)


def loss_curves(history: History) -> Figure:
    """Draw each task's loss over the steps: training as a line, validation as points at the end of each epoch."""
    taken, ends = steps(history), epochs(history)
    traces = []
    for number, task in enumerate(task_names(history)):
        colour = COLOURS[number % len(COLOURS)]
        pairs = [(event["step"], event["losses"][task]) for event in taken if task in event["losses"]]
        x, y = thin([a for a, _ in pairs], [b for _, b in pairs])
        traces.append(_line(f"{task} · training", x, y, colour, width=1.6) | {"meta": task})
        scored = [event for event in ends if event["validation"] and task in event["validation"]["losses"]]
        traces.append(
            _line(
                f"{task} · validation",
                [event["step"] for event in scored],
                [event["validation"]["losses"][task] for event in scored],
                colour,
                dash="dot",
                markers=True,
            )
            | {"meta": task}
        )
    return _figure(traces, "step", "loss", {"rangemode": "tozero"})


def main_scores(history: History) -> dict[str, str]:
    """Return the name of the score that counts for each scored task; older journals do not say which."""
    found: dict[str, str] = {}
    for event in epochs(history):
        for side in ("train", "validation"):
            scored = event[side] or {"scores": {}}
            main = scored.get("main") or {}
            found |= {task: main.get(task) or _usual_score(scores) for task, scores in scored["scores"].items()}
    return found


def _usual_score(scores: dict[str, float]) -> str:
    return next((name for name in ("macro_f1", "entity_f1") if name in scores), next(iter(scores), "macro_f1"))


def score_name(metric: str) -> str:
    """Say a score in words: `macro F1`."""
    return {str(name): words for name, words in SCORE_NAMES.items()}.get(metric, metric.replace("_", " "))


def score_curves(history: History, metric: str | None = None) -> Figure:
    """Draw each task's score over the epochs, validation in full lines and training in dotted ones.

    Args:
        history: Events of a run.
        metric: One score for all tasks; None: of each the one that counts.
    """
    ends, main = epochs(history), main_scores(history)
    traces = []
    for number, task in enumerate(task_names(history)):
        colour, name = COLOURS[number % len(COLOURS)], metric or main.get(task, "macro_f1")
        for side, dash in (("validation", "solid"), ("train", "dot")):
            scored = [event for event in ends if event[side] and name in event[side]["scores"].get(task, {})]
            traces.append(
                _line(
                    f"{task} · {'training' if side == 'train' else side}",
                    [event["epoch"] for event in scored],
                    [event[side]["scores"][task][name] for event in scored],
                    colour,
                    dash=dash,
                    markers=True,
                )
                | {"meta": task}
            )
    shown = {metric} if metric else set(main.values())
    figure = _figure(traces, "epoch", score_name(shown.pop()) if len(shown) == 1 else "score", {"range": [0, 1.02]})
    figure["layout"]["xaxis"] |= {"dtick": max(1, len(ends) // 10), "range": [0.5, max(3, len(ends)) + 0.5]}
    return figure


def thin(x: Sequence[float], y: Sequence[float], most: int = MAX_POINTS) -> tuple[list[float], list[float]]:
    """Average neighbours so that at most `most` points remain; short series stay as they are."""
    if len(x) <= most:
        return list(x), list(y)
    width = -(-len(x) // most)
    cuts = range(0, len(x), width)
    return (
        [float(np.mean(x[i : i + width])) for i in cuts],
        [float(np.mean(y[i : i + width])) for i in cuts],
    )


def heatmap(values: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draw a matrix of cosine similarities, from -1 to 1.

    Args:
        values: Shape: (rows, columns).
        rows: Texts down the side.
        columns: Texts along the top.
    """
    small = values.size <= 400
    trace = {
        "type": "heatmap",
        "z": [[round(float(value), 4) for value in row] for row in values],
        "x": list(range(len(columns))),
        "y": list(range(len(rows))),
        "customdata": [[[row, column] for column in columns] for row in rows],
        "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}<br><b>%{z:.3f}</b><extra></extra>",
        "colorscale": [[0, "#b35806"], [0.5, "#f7f7f7"], [1, "#2c5aa0"]],
        "zmin": -1,
        "zmax": 1,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "title": {"text": "cosine"}},
        **({"texttemplate": "%{z:.2f}"} if small else {}),
    }
    figure = _figure([trace], "", "")
    for axis, texts in (("xaxis", columns), ("yaxis", rows)):
        figure["layout"][axis].update(
            tickvals=list(range(len(texts))), ticktext=[shorten(text) for text in texts], automargin=True
        )
    figure["layout"]["yaxis"]["autorange"] = "reversed"
    figure["layout"]["xaxis"]["side"] = "top"
    return figure


def embedding_map(embeddings: np.ndarray, texts: Sequence[str], groups: Sequence[str]) -> Figure:
    """Draw texts as points in the plane of the two main directions of their embeddings (PCA).

    Args:
        embeddings: Shape: (N, D).
        texts: Shown when a point is hovered.
        groups: What colours the points; usually the predicted class.
    """
    points, share = principal_plane(embeddings)
    traces = []
    for number, group in enumerate(dict.fromkeys(groups)):
        chosen = [i for i, value in enumerate(groups) if value == group]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": group,
                "x": points[chosen, 0].round(5).tolist(),
                "y": points[chosen, 1].round(5).tolist(),
                "text": [shorten(texts[i], 90) for i in chosen],
                "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
                "marker": {"size": 9, "color": COLOURS[number % len(COLOURS)], "opacity": 0.85},
            }
        )
    names = [f"direction {n + 1} ({value:.0%} of the variance)" for n, value in enumerate(share)]
    return _figure(traces, names[0], names[1])


def principal_plane(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Project vectors onto their two main directions.

    Args:
        vectors: Shape: (N, D).

    Returns:
        The points, shape (N, 2), and the share of the variance along each direction. The sign of a direction is
        fixed by its largest entry, so equal input gives equal pictures.
    """
    if len(vectors) < 2:
        return np.zeros((len(vectors), 2)), (0.0, 0.0)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((2, vectors.shape[1]))
    found = min(2, len(directions))
    plane[:found] = directions[:found]
    largest = plane[np.arange(2), np.abs(plane).argmax(axis=1)]
    plane *= np.where(largest < 0, -1.0, 1.0)[:, None]
    variance = sizes**2 / max(float((sizes**2).sum()), 1e-12)
    share = (float(variance[0]), float(variance[1]) if len(variance) > 1 else 0.0)
    return centred @ plane.T, share


def shorten(text: str, most: int = 32) -> str:
    """Cut a text for a label and make it harmless as the small HTML that Plotly reads."""
    text = " ".join(text.split())
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _line(
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    colour: str,
    *,
    width: float = 2,
    dash: str = "solid",
    markers: bool = False,
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": name,
        "mode": "lines+markers" if markers else "lines",
        "x": list(x),
        "y": [round(float(value), 5) for value in y],
        "line": {"color": colour, "width": width, "dash": dash},
        "marker": {"size": 6, "color": colour},
        "hovertemplate": "%{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
    }


def _figure(traces: list[dict[str, Any]], x: str, y: str, y_axis: dict[str, Any] | None = None) -> Figure:
    axis = {"gridcolor": "rgba(127,135,149,.22)", "zeroline": False, "linecolor": "rgba(127,135,149,.4)"}
    return {
        "data": traces,
        "layout": {
            "xaxis": {**axis, "title": {"text": x, "standoff": 8}},
            "yaxis": {**axis, "title": {"text": y}, **(y_axis or {})},
            "margin": {"l": 56, "r": 16, "t": 14, "b": 52},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": NEUTRAL},
            "hovermode": "closest",
        },
    }
