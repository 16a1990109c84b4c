"""From the report of a tested task (`mtl.reports.testing`) to Plotly figures, as plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.reports.plots import COLOURS, NEUTRAL, Figure, _figure, _line, shorten

# white to the blue of other heat maps: it reads on a light and on a dark page
SHARE_COLOURS = [[0, "#f7f7f7"], [1, "#2c5aa0"]]
MOST_WRITTEN = 15  # classes whose counts are written into the cells of a confusion matrix
MOST_BARS = 40


def confusion_map(report: Mapping[str, Any]) -> Figure:
    """Draw what each class is predicted as: true classes down the side, predicted ones along the top.

    A cell's colour is its share of its row, so rare classes are seen as well as frequent ones.

    Args:
        report: Of one task; without a confusion matrix, as for entities, the figure is empty.
    """
    confusion = report.get("confusion")
    if not confusion:
        return _figure([], "", "")
    names, matrix = [shorten(label, 24) for label in confusion["labels"]], confusion["matrix"]
    trace = {
        "type": "heatmap",
        "x": list(range(len(names))),
        "y": list(range(len(names))),
        "z": [[round(share, 4) for share in row] for row in row_shares(matrix)],
        "customdata": [
            [[true, predicted, count] for predicted, count in zip(names, row, strict=True)]
            for true, row in zip(names, matrix, strict=True)
        ],
        "hovertemplate": "true: %{customdata[0]}<br>predicted: %{customdata[1]}<br>"
        "<b>%{customdata[2]:,}</b> (%{z:.1%} of the row)<extra></extra>",
        "colorscale": SHARE_COLOURS,
        "zmin": 0,
        "zmax": 1,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "tickformat": ".0%"},
        **({"text": matrix, "texttemplate": "%{text}"} if len(names) <= MOST_WRITTEN else {}),
    }
    figure = _figure([trace], "predicted", "true")
    for axis in ("xaxis", "yaxis"):
        figure["layout"][axis] |= {"tickvals": list(range(len(names))), "ticktext": names, "automargin": True}
    figure["layout"]["yaxis"]["autorange"] = "reversed"
    return figure


def row_shares(matrix: Sequence[Sequence[int]]) -> list[list[float]]:
    """Divide each row by its sum; a row of nothing stays one."""
    return [[count / max(1, sum(row)) for count in row] for row in matrix]


def reliability_diagram(report: Mapping[str, Any]) -> Figure:
    """Draw how often predictions of some confidence are right, before and after the temperature.

    On the dotted diagonal confidence is what it says. Points below it are too sure of themselves.
    """
    calibration = report["calibration"]
    diagonal = _line("perfect", [0, 1], [0, 1], NEUTRAL, width=1, dash="dot")
    traces = [diagonal | {"hoverinfo": "skip", "hovertemplate": None}]
    for when, colour in (("before", COLOURS[1]), ("after", COLOURS[0])):
        filled = [part for part in calibration[f"bins_{when}"] if part["count"]]
        line = _line(
            f"{when} (ECE {calibration[f'ece_{when}']:.3f})",
            [round(part["confidence"], 5) for part in filled],
            [part["accuracy"] for part in filled],
            colour,
            markers=True,
        )
        line |= {
            "customdata": [part["count"] for part in filled],
            "hovertemplate": "confidence %{x:.1%}, right %{y:.1%}<br>"
            f"%{{customdata:,}} {calibration['unit']}<extra>%{{fullData.name}}</extra>",
        }
        traces.append(line)
    figure = _figure(traces, "confidence", "share that is right", {"range": [0, 1.02], "tickformat": ".0%"})
    figure["layout"]["xaxis"] |= {"range": [0, 1.02], "tickformat": ".0%"}
    return figure


def class_scores(report: Mapping[str, Any]) -> Figure:
    """Draw each class's F1 as a bar; of more than 40 classes, the most frequent ones."""
    classes = sorted(report["classes"], key=lambda entry: -entry["support"])[:MOST_BARS]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [round(entry["f1"], 4) for entry in classes],
        "y": list(range(len(classes))),
        "customdata": [
            [shorten(entry["label"]), entry["precision"], entry["recall"], entry["support"]] for entry in classes
        ],
        "hovertemplate": "%{customdata[0]}<br><b>F1 %{x:.3f}</b>, precision %{customdata[1]:.3f}, "
        "recall %{customdata[2]:.3f}<br>%{customdata[3]:,} in the test rows<extra></extra>",
        "marker": {"color": COLOURS[0]},
    }
    figure = _figure([trace], "F1", "")
    figure["layout"]["xaxis"]["range"] = [0, 1.02]
    figure["layout"]["yaxis"] |= {
        "tickvals": trace["y"],
        "ticktext": [shorten(entry["label"], 24) for entry in classes],
        "autorange": "reversed",
        "automargin": True,
    }
    figure["layout"]["height"] = 120 + 22 * len(classes)
    return figure
