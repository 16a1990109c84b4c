from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from plotly import graph_objects
from sklearn.decomposition import PCA

from mtl.reports.plots import (
    Figure,
    embedding_map,
    heatmap,
    loss_curves,
    principal_plane,
    score_curves,
    shorten,
    task_names,
    thin,
)
from mtl.runs.store import Run

History = list[dict[str, Any]]


@pytest.fixture(scope="module")
def history(finished_run: Run) -> History:
    return finished_run.events()[0]


def trace(figure: Figure, name: str) -> dict[str, Any]:
    (found,) = [trace for trace in figure["data"] if trace["name"] == name]
    return found


def assert_valid(figure: Figure) -> None:
    """Plotly accepts it, and it goes through JSON unchanged."""
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure
    graph_objects.Figure(figure)


def test_plots_loss_curves_show_each_step_and_each_epoch(history: History) -> None:
    figure = loss_curves(history)
    assert_valid(figure)
    assert {trace["name"] for trace in figure["data"]} == {
        f"{task} · {side}" for task in ("topic", "mood") for side in ("training", "validation")
    }
    steps = [event for event in history if event["event"] == "StepEnd" and "topic" in event["losses"]]
    line = trace(figure, "topic · training")
    assert line["x"] == [event["step"] for event in steps]
    assert line["y"] == pytest.approx([event["losses"]["topic"] for event in steps], abs=1e-5)
    epochs = [event for event in history if event["event"] == "EpochEnd"]
    points = trace(figure, "topic · validation")
    assert points["x"] == [event["step"] for event in epochs]
    assert points["y"] == pytest.approx([event["validation"]["losses"]["topic"] for event in epochs], abs=1e-5)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_plots_score_curves_show_training_and_validation(history: History, metric: str) -> None:
    figure = score_curves(history, metric)
    assert_valid(figure)
    epochs = [event for event in history if event["event"] == "EpochEnd"]
    for side, name in (("train", "training"), ("validation", "validation")):
        line = trace(figure, f"mood · {name}")
        assert line["x"] == [1, 2, 3]
        assert line["y"] == pytest.approx([e[side]["scores"]["mood"][metric] for e in epochs], abs=1e-5)
    assert figure["layout"]["yaxis"]["title"]["text"] == metric.replace("macro_f1", "macro F1")


def test_plots_score_curves_draw_the_score_that_counts() -> None:
    sides = [
        {"losses": {"topic": 1.0, "ner": 1.0}, "scores": {"topic": {"macro_f1": 0.5, "accuracy": value},
         "ner": {"entity_f1": value / 2, "entity_recall": 0.9}}, "main": {"topic": "accuracy", "ner": "entity_f1"}}
        for value in (0.6, 0.8)
    ]  # fmt: skip
    events = [{"event": "EpochEnd", "epoch": n, "step": n, "train": None, "validation": s} for n, s in enumerate(sides)]
    figure = score_curves(events)
    assert trace(figure, "topic · validation")["y"] == [0.6, 0.8]
    assert trace(figure, "ner · validation")["y"] == [0.3, 0.4]
    assert figure["layout"]["yaxis"]["title"]["text"] == "score"
    for side in sides:  # a journal of before, which does not say which score counts
        del side["main"]
    figure = score_curves(events)
    assert trace(figure, "topic · validation")["y"] == [0.5, 0.5]
    assert trace(figure, "ner · validation")["y"] == [0.3, 0.4]
    assert score_curves([])["data"] == []


def test_plots_gives_a_task_the_same_colour_in_all_its_lines(history: History) -> None:
    for figure in (loss_curves(history), score_curves(history)):
        colours: dict[str, set[str]] = {}
        for line in figure["data"]:
            colours.setdefault(line["name"].split(" · ")[0], set()).add(line["line"]["color"])
        assert all(len(found) == 1 for found in colours.values())
        assert len(set.union(*colours.values())) == 2


def test_plots_of_a_live_run_grow(history: History) -> None:
    """Any beginning of the journal can be drawn, and what was drawn stays."""
    longest: list[float] = []
    for length in range(len(history) + 1):
        for figure in (loss_curves(history[:length]), score_curves(history[:length])):
            json.dumps(figure, allow_nan=False)
        lines = [line for line in loss_curves(history[:length])["data"] if line["name"] == "topic · training"]
        drawn = lines[0]["y"] if lines else []
        assert drawn[: len(longest)] == longest
        longest = drawn
    assert longest


def test_plots_of_a_run_without_validation_rows(history: History) -> None:
    bare = [event | {"validation": None} if event["event"] == "EpochEnd" else event for event in history]
    for figure in (loss_curves(bare), score_curves(bare)):
        assert_valid(figure)
    assert trace(loss_curves(bare), "mood · validation")["x"] == []
    assert trace(score_curves(bare), "mood · training")["x"] == [1, 2, 3]


def test_plots_name_the_tasks_in_order_of_appearance(history: History) -> None:
    assert task_names([]) == []
    assert task_names(history) == ["topic", "mood"]


def test_plots_thin_long_series_by_averaging() -> None:
    x, y = thin(list(range(1, 1001)), [float(value) for value in range(1000)], most=300)
    assert len(x) == len(y) == 250
    assert (x[0], y[0]) == (2.5, 1.5)
    assert sum(y) / len(y) == pytest.approx(499.5)
    assert x == sorted(x)


@pytest.mark.parametrize("length", [0, 1, 299, 300, 301, 5000])
def test_plots_thin_keeps_short_series_and_never_exceeds_the_most(length: int) -> None:
    series = [float(value) for value in range(length)]
    x, y = thin(series, series)
    assert len(x) <= 300
    if length <= 300:
        assert x == y == series


def test_plots_heatmap_shows_every_pair() -> None:
    values = np.array([[1.0, -0.25, 0.5], [0.12345, 0.0, 1.0]])
    figure = heatmap(values, ["a", "<b> & co"], ["c", "d", "e" * 99])
    assert_valid(figure)
    (cells,) = figure["data"]
    np.testing.assert_allclose(cells["z"], values, atol=1e-4)
    assert (cells["zmin"], cells["zmax"]) == (-1, 1)
    assert figure["layout"]["yaxis"]["ticktext"] == ["a", "&lt;b&gt; &amp; co"]
    assert figure["layout"]["yaxis"]["autorange"] == "reversed", "the first text is at the top"
    assert len(figure["layout"]["xaxis"]["ticktext"][2]) == 32
    assert "texttemplate" in cells


def test_plots_heatmap_writes_numbers_only_where_they_fit() -> None:
    texts = [str(number) for number in range(21)]
    assert "texttemplate" not in heatmap(np.zeros((21, 21)), texts, texts)["data"][0]


def test_plots_map_groups_the_texts() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    texts = ["one", "two <b>", "three", "four", "five " * 40]
    figure = embedding_map(vectors, texts, ["x", "y", "x", "z", "y"])
    assert_valid(figure)
    assert [trace["name"] for trace in figure["data"]] == ["x", "y", "z"]
    points, share = principal_plane(vectors)
    assert trace(figure, "y")["x"] == pytest.approx(points[[1, 4], 0].tolist(), abs=1e-4)
    assert trace(figure, "y")["text"][0] == "two &lt;b&gt;"
    assert len(trace(figure, "y")["text"][1]) == 90
    assert f"{share[0]:.0%}" in figure["layout"]["xaxis"]["title"]["text"]


def test_plots_plane_is_that_of_a_principal_component_analysis() -> None:
    vectors = np.random.default_rng(1).normal(size=(40, 6)) * [5, 4, 1, 1, 1, 1] + 3
    points, share = principal_plane(vectors)
    reference = PCA(2).fit(vectors)
    expected = reference.transform(vectors)
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)
    assert share == pytest.approx(tuple(reference.explained_variance_ratio_))
    again, _ = principal_plane(vectors.copy())
    np.testing.assert_array_equal(points, again)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_plots_plane_of_few_vectors(count: int) -> None:
    vectors = np.random.default_rng(2).normal(size=(count, 4)).astype(np.float32)
    points, share = principal_plane(vectors)
    assert points.shape == (count, 2)
    assert all(0 <= part <= 1 for part in share)
    assert_valid(embedding_map(vectors, ["t"] * count, ["g"] * count))


def test_plots_plane_of_equal_vectors_is_one_point() -> None:
    points, share = principal_plane(np.ones((3, 4)))
    np.testing.assert_array_equal(points, np.zeros((3, 2)))
    assert share == (0.0, 0.0)


def test_plots_shorten_makes_a_text_harmless_and_short() -> None:
    assert shorten("  two\n words ") == "two words"
    assert shorten("<script>&") == "&lt;script&gt;&amp;"
    assert shorten("x" * 32) == "x" * 32
    assert shorten("x" * 33) == "x" * 31 + "…"
    assert shorten("<" * 50, 5) == "&lt;" * 4 + "…"
