from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from plotly import graph_objects

from mtl.reports.plots import Figure
from mtl.reports.test_plots import class_scores, confusion_map, reliability_diagram, row_shares

Report = dict[str, Any]


def bins(*filled: tuple[int, float, float]) -> list[dict[str, Any]]:
    """Five bins, of which some hold predictions: count, confidence, accuracy."""
    empty = [{"count": 0, "confidence": None, "accuracy": None} for _ in range(5 - len(filled))]
    held = [{"count": count, "confidence": c, "accuracy": a} for count, c, a in filled]
    return [part | {"low": n / 5, "high": (n + 1) / 5} for n, part in enumerate([*empty, *held])]


@pytest.fixture
def report() -> Report:
    return {
        "kind": "classification",
        "classes": [
            {"label": "rare <i>", "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 4},
            {"label": "common", "precision": 0.9, "recall": 0.95, "f1": 0.92432, "support": 1000},
        ],
        "confusion": {"labels": ["rare <i>", "common"], "matrix": [[1, 3], [50, 950]]},
        "calibration": {
            "temperature": 2.0,
            "unit": "texts",
            "ece_before": 0.25,
            "ece_after": 0.0125,
            "bins_before": bins((4, 0.7, 0.5), (1000, 0.99, 0.75)),
            "bins_after": bins((1004, 0.75, 0.7625)),
        },
    }


def assert_valid(figure: Figure) -> None:
    """Plotly accepts it, and it goes through JSON unchanged."""
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure
    graph_objects.Figure(figure)


# ------------------------------------------------------------------------------------------ confusion


def test_test_plots_confusion_is_coloured_by_the_share_of_each_row(report: Report) -> None:
    figure = confusion_map(report)
    assert_valid(figure)
    (cells,) = figure["data"]
    assert cells["z"] == [[0.25, 0.75], [0.05, 0.95]]
    assert (cells["zmin"], cells["zmax"]) == (0, 1)
    assert [[cell[2] for cell in row] for row in cells["customdata"]] == report["confusion"]["matrix"]
    assert cells["customdata"][0][1][:2] == ["rare &lt;i&gt;", "common"], "a true class, what it was predicted as"
    assert (cells["text"], cells["texttemplate"]) == (report["confusion"]["matrix"], "%{text}")
    assert figure["layout"]["yaxis"]["autorange"] == "reversed", "the first class is at the top"
    for axis, title in (("xaxis", "predicted"), ("yaxis", "true")):
        assert figure["layout"][axis]["ticktext"] == ["rare &lt;i&gt;", "common"]
        assert figure["layout"][axis]["title"]["text"] == title


@pytest.mark.parametrize(("classes", "written"), [(1, True), (15, True), (16, False), (40, False)])
def test_test_plots_confusion_writes_counts_only_where_they_fit(classes: int, written: bool) -> None:
    matrix = np.eye(classes, dtype=int).tolist()
    figure = confusion_map({"confusion": {"labels": [str(n) for n in range(classes)], "matrix": matrix}})
    assert_valid(figure)
    assert ("texttemplate" in figure["data"][0]) == written


def test_test_plots_confusion_of_entities_is_empty() -> None:
    figure = confusion_map({"kind": "token_classification"})
    assert_valid(figure)
    assert figure["data"] == []


def test_test_plots_row_of_a_class_that_is_not_there_is_white() -> None:
    assert row_shares([[0, 0], [1, 3]]) == [[0, 0], [0.25, 0.75]]


# ------------------------------------------------------------------------------------------ reliability


def test_test_plots_reliability_shows_filled_bins_before_and_after(report: Report) -> None:
    figure = reliability_diagram(report)
    assert_valid(figure)
    perfect, before, after = figure["data"]
    assert perfect["x"] == perfect["y"] == [0, 1]
    assert (before["name"], after["name"]) == ("before (ECE 0.250)", "after (ECE 0.013)")
    assert (before["x"], before["y"], before["customdata"]) == ([0.7, 0.99], [0.5, 0.75], [4, 1000])
    assert (after["x"], after["y"], after["customdata"]) == ([0.75], [0.7625], [1004])
    assert "texts" in after["hovertemplate"]


def test_test_plots_reliability_of_nothing_is_the_diagonal(report: Report) -> None:
    report["calibration"] |= {"bins_before": bins(), "bins_after": bins()}
    figure = reliability_diagram(report)
    assert_valid(figure)
    assert [trace["x"] for trace in figure["data"]] == [[0, 1], [], []]


# ------------------------------------------------------------------------------------------ classes


def test_test_plots_class_scores_are_bars_with_the_most_frequent_class_on_top(report: Report) -> None:
    figure = class_scores(report)
    assert_valid(figure)
    (bars,) = figure["data"]
    assert (bars["type"], bars["orientation"]) == ("bar", "h")
    assert bars["x"] == [0.9243, 0.3333]
    assert bars["customdata"] == [["common", 0.9, 0.95, 1000], ["rare &lt;i&gt;", 0.5, 0.25, 4]]
    assert "customdata[3]" in bars["hovertemplate"], "the support"
    assert figure["layout"]["yaxis"]["ticktext"] == ["common", "rare &lt;i&gt;"]
    assert figure["layout"]["yaxis"]["autorange"] == "reversed"


@pytest.mark.parametrize("count", [0, 1, 40, 200])
def test_test_plots_class_scores_of_any_number_of_classes(count: int) -> None:
    classes = [{"label": f"c{n}", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": n} for n in range(count)]
    figure = class_scores({"classes": classes})
    assert_valid(figure)
    shown = figure["layout"]["yaxis"]["ticktext"]
    assert shown == [f"c{n}" for n in reversed(range(count))][:40]
