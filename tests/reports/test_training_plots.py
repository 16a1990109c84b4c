from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from plotly import graph_objects

from mtl.reports.plots import COLOURS, MAX_POINTS, Figure
from mtl.reports.training_plots import (
    conflict_map,
    embedding_curves,
    rate_curves,
    share_curves,
    task_pairs,
    weight_curves,
)

History = list[dict[str, Any]]
FIGURES: tuple[Callable[[History], Figure], ...] = (
    weight_curves,
    share_curves,
    conflict_map,
    embedding_curves,
    rate_curves,
)
PAIRS = ("topic | <mood>", "topic | age", "<mood> | age")


def step(number: int, **values: Any) -> dict[str, Any]:
    """A step of three tasks, one of them with a name that Plotly would read as HTML."""
    return {
        "event": "StepEnd",
        "step": number,
        "epoch": 1,
        "losses": {"topic": 1.0, "<mood>": 0.5, "age": 2.0},
        "weights": {"topic": 1.0, "<mood>": number / 100, "age": 2.0},
        "learning_rates": {"layer.1": 5e-5 / number, "head.topic": 1e-2},
        "conflict": None,
    } | values


def look(number: int, *parts: str) -> dict[str, Any]:
    """A step with a look: the cosines of the three pairs are -0.3, 0 and 0.9 times its number over 100."""
    cosines = dict(zip(PAIRS, (-0.3 * number / 100, 0.0, 0.9 * number / 100), strict=True))
    shares = {"topic": 0.5, "<mood>": 0.3, "age": 0.2}
    return step(number, conflict={"cosines": dict.fromkeys(parts, cosines), "shares": shares, "norms": shares})


def end(epoch: int, drift: float, alike: float) -> dict[str, Any]:
    health = {"drift": drift, "random_cosine": alike, "start_random_cosine": 0.25, "collapsed": False}
    return {"event": "EpochEnd", "epoch": epoch, "step": epoch * 10, "validation": None, "embedding": health}


def assert_valid(figure: Figure) -> None:
    """Plotly accepts it, and it goes through JSON unchanged."""
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure
    graph_objects.Figure(figure)


def trace(figure: Figure, name: str) -> dict[str, Any]:
    (found,) = [trace for trace in figure["data"] if trace["name"] == name]
    return found


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="nothing yet"),
        pytest.param([{"event": "RunBegin"}], id="begun"),
        pytest.param(
            [
                {"event": "StepEnd", "step": 1, "epoch": 1, "losses": {"topic": 1.0}},
                {"event": "EpochEnd", "epoch": 1, "step": 1, "train": {}, "validation": None},
            ],
            id="a journal of before",
        ),
    ],
)
def test_training_plots_of_nothing_have_no_traces(draw: Callable[[History], Figure], history: History) -> None:
    figure = draw(history)
    assert figure["data"] == []
    assert_valid(figure)


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("count", [1, 2, 20, 1000])
def test_training_plots_are_valid_and_never_too_long(draw: Callable[[History], Figure], count: int) -> None:
    history = [look(number, "layer.0", "layer.1") for number in range(1, count + 1)] + [end(1, 0.1, 0.2)]
    figure = draw(history)
    assert_valid(figure)
    assert figure["data"]
    assert all(1 <= len(line["x"]) <= MAX_POINTS for line in figure["data"])


def test_training_plots_weights_over_the_steps() -> None:
    figure = weight_curves([step(number) for number in range(1, 11)])
    assert [line["name"] for line in figure["data"]] == ["topic", "&lt;mood&gt;", "age"]
    assert [line["line"]["color"] for line in figure["data"]] == list(COLOURS[:3])
    assert trace(figure, "&lt;mood&gt;")["x"] == list(range(1, 11))
    assert trace(figure, "&lt;mood&gt;")["y"] == [number / 100 for number in range(1, 11)]
    assert set(trace(figure, "age")["y"]) == {2.0}


def test_training_plots_weights_of_a_task_that_some_batches_lack() -> None:
    figure = weight_curves([step(1), step(2, weights={"age": 3.0}), step(3, weights={"topic": 5.0})])
    assert trace(figure, "age")["x"] == [1, 2]
    assert trace(figure, "topic")["y"] == [1.0, 5.0]


def test_training_plots_thin_weights_by_averaging() -> None:
    line = trace(weight_curves([step(number) for number in range(1, 1001)]), "&lt;mood&gt;")
    assert len(line["x"]) == 250
    assert (line["x"][0], line["y"][0]) == (2.5, 0.025)


def test_training_plots_shares_at_each_look() -> None:
    history = [step(1), look(2, "layer.0"), step(3), look(4, "layer.0")]
    figure = share_curves(history)
    assert trace(figure, "topic")["x"] == [2, 4]
    assert trace(figure, "&lt;mood&gt;")["y"] == [0.3, 0.3]
    assert trace(figure, "age")["line"]["color"] == trace(weight_curves(history), "age")["line"]["color"]


def test_training_plots_pairs_in_order_of_appearance() -> None:
    assert task_pairs([]) == []
    assert task_pairs([step(1), look(2, "layer.0")]) == list(PAIRS)


def test_training_plots_conflict_has_the_bottom_layer_at_the_bottom() -> None:
    """Whatever the order in which parts were unfrozen; ten layers are not sorted as words."""
    layers = [f"layer.{number}" for number in range(12)]
    history = [look(1, "projection", "pooling", "layer.11", "layer.10"), look(2, *layers, "other", "embeddings")]
    figure = conflict_map(history)
    (cells,) = figure["data"]
    assert cells["y"] == ["embeddings", *layers, "other", "pooling", "projection"]
    assert figure["layout"]["yaxis"]["type"] == "category"
    assert "autorange" not in figure["layout"]["yaxis"], "the first is at the bottom"
    assert cells["x"] == [1, 2]
    assert (cells["zmin"], cells["zmax"]) == (-1, 1)
    by_part = dict(zip(cells["y"], cells["z"], strict=True))
    assert by_part["embeddings"] == [None, 0.004]
    assert by_part["layer.11"] == [0.002, 0.004]
    assert by_part["pooling"] == [0.002, None]


@pytest.mark.parametrize(("pair", "cosine"), [(PAIRS[0], -0.3), (PAIRS[1], 0.0), (PAIRS[2], 0.9), (None, 0.2)])
def test_training_plots_conflict_of_a_pair_or_of_all(pair: str | None, cosine: float) -> None:
    (cells,) = conflict_map([look(100, "layer.0")], pair)["data"]
    assert cells["z"] == [[pytest.approx(cosine)]]


def test_training_plots_conflict_of_a_pair_that_was_never_seen() -> None:
    assert conflict_map([look(1, "layer.0")], "a | b")["data"] == []


def test_training_plots_thin_conflict_by_averaging_what_is_there() -> None:
    history = [look(number, *(["layer.0"] if number % 2 else []), "layer.1") for number in range(1, 601)]
    (cells,) = conflict_map(history, PAIRS[2])["data"]
    assert len(cells["x"]) == 300
    assert cells["x"][:2] == [1.5, 3.5]
    assert cells["z"][0][:2] == [0.009, 0.027], "every second look has no layer.0"
    assert cells["z"][1][:2] == [0.0135, 0.0315]


def test_training_plots_embedding_from_the_start_on() -> None:
    history = [end(1, 0.1, 0.2), end(2, 0.3, 0.15), {"event": "EpochEnd", "epoch": 3, "embedding": None}]
    drift, alike = embedding_curves(history)["data"]
    assert drift["x"] == alike["x"] == [0, 1, 2]
    assert drift["y"] == [0.0, 0.1, 0.3]
    assert alike["y"] == [0.25, 0.2, 0.15]


def test_training_plots_rates_of_each_part_with_gaps_where_it_is_frozen() -> None:
    history = [
        step(1, learning_rates={"layer.1": 5e-05, "head.topic": 1e-2}),
        step(2, learning_rates={"layer.1": 1.23456e-07, "layer.0": 1e-06, "head.topic": 5e-3}),
        step(3, learning_rates={"layer.1": 0.0, "head.topic": 0.0}),
    ]
    figure = rate_curves(history)
    assert [line["name"] for line in figure["data"]] == ["layer.0", "layer.1", "head.topic"]
    assert trace(figure, "layer.1")["y"] == [5e-05, 1.235e-07, None], "nothing is rounded away; 0 has no logarithm"
    assert trace(figure, "layer.0")["y"] == [None, 1e-06, None]
    assert figure["layout"]["yaxis"]["type"] == "log"
    assert_valid(figure)


@pytest.mark.parametrize("layers", [1, 2, 6, 12, 24])
def test_training_plots_rates_tell_all_parts_apart(layers: int) -> None:
    heads = ["head.topic", "head.mood", "head.age"]
    parts = ["embeddings", *(f"layer.{number}" for number in range(layers)), "pooling", "projection", *heads]
    figure = rate_curves([step(1, learning_rates=dict.fromkeys(parts, 1e-5))])
    assert [line["name"] for line in figure["data"]] == [*parts[:-3], *sorted(heads)]
    looks = {(line["line"]["color"], line["line"]["dash"]) for line in figure["data"]}
    assert len(looks) == len(parts)
    assert figure["layout"]["hovermode"] == "x unified", "all are named where they lie upon each other"


def test_training_plots_thin_rates() -> None:
    rates = [{"layer.0": number * 1e-6} | ({"layer.1": 1e-5} if number > 400 else {}) for number in range(1, 601)]
    figure = rate_curves([step(i + 1, learning_rates=values) for i, values in enumerate(rates)])
    assert trace(figure, "layer.0")["y"][:2] == [1.5e-06, 3.5e-06]
    line = trace(figure, "layer.1")
    assert line["y"] == [None] * 200 + [1e-5] * 100
