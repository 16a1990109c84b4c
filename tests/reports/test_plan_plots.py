from __future__ import annotations

import json
import math
from typing import Any

import plotly.graph_objects as go
import pytest

from mtl.config import resolve, task_specs
from mtl.config_text import from_dict
from mtl.reports.plan_plots import _labels, plan_map, short_rate
from mtl.training.plan import RatePlan

SIZES = {"embeddings": 1000, **{f"layer.{number}": 100 for number in range(6)}, "pooling": 5, "head.topic": 3}
TASKS = {"topic": {"kind": "classification", "labels": ["a", "b"]}}


def planned(**training: Any) -> dict[str, Any]:
    """Make the plan of a run of 10 steps an epoch, as it is read back from a run's journal."""
    config = resolve(from_dict({"tasks": TASKS, "training": training}), 320)
    assert isinstance(config.training.epochs, int)
    plan = RatePlan(SIZES, config, task_specs(config), [10] * config.training.epochs)
    return json.loads(json.dumps(plan.as_dict()))


def test_plan_map_shows_the_exact_rate_of_each_part_in_each_epoch() -> None:
    plan = planned(preset="progressive", epochs=8)
    frozen, learning, *_ = plan_map(plan)["data"]
    assert learning["x"] == list(range(1, 9))
    assert learning["y"] == list(SIZES), "the bottom of the model is the first row, which Plotly draws lowest"
    for row, part in enumerate(SIZES):
        for column, epoch in enumerate(plan["epochs"]):
            rate = epoch["middle_rates"].get(part)
            assert (frozen["z"][row][column] is None) == (rate is not None)
            assert learning["z"][row][column] == (None if rate is None else pytest.approx(math.log10(rate), abs=1e-4))
            words = learning["customdata"][row][column]
            assert words.startswith(f"<b>{part}</b>, epoch {epoch['epoch']}, phase {epoch['phase']}")
            assert ("frozen: rate 0" in words) == (rate is None)
            assert rate is None or f"middle {short_rate(rate, 4)}" in words


def test_plan_map_bars_are_the_share_that_learns_and_the_cost() -> None:
    plan = planned(preset="progressive", epochs=8)
    *_, share, cost = plan_map(plan)["data"]
    total = sum(SIZES.values())
    assert share["y"] == pytest.approx([epoch["trainable"] / total for epoch in plan["epochs"]], abs=1e-4)
    assert cost["y"] == [epoch["cost"] for epoch in plan["epochs"]]
    assert share["y"][0] < share["y"][-1] == 1


def test_plan_map_draws_a_line_where_a_phase_begins() -> None:
    lines = plan_map(planned(preset="progressive", epochs=8))["layout"]["shapes"]
    assert [line["x0"] for line in lines] == [2.5, 4.5, 6.5]
    assert plan_map(planned(epochs=3))["layout"]["shapes"] == []


@pytest.mark.parametrize(
    "training",
    [
        {"epochs": 1},
        {"preset": "frozen"},
        {"freeze": ["everything"], "epochs": 2},
        {"preset": "progressive", "epochs": 40},
        {"schedule": "constant", "warmup": 0, "epochs": 2, "encoder_learning_rate": 1e-3, "head_learning_rate": 1e-3},
    ],
)
def test_plan_map_is_a_figure_that_plotly_accepts_and_json_can_hold(training: dict[str, Any]) -> None:
    figure = plan_map(planned(**training))
    go.Figure(figure)
    json.dumps(figure, allow_nan=False)
    axis = figure["layout"]["coloraxis"]
    assert axis["cmin"] < axis["cmax"]
    assert axis["showscale"] == (training.get("freeze") is None)


def test_plan_map_of_a_long_run_stays_small_and_keeps_its_phases() -> None:
    figure = plan_map(planned(preset="progressive", epochs=1000))
    assert figure["data"][1]["x"][:2] == [1, 10]
    assert figure["data"][2]["x"] == figure["data"][1]["x"]
    assert [line["x0"] for line in figure["layout"]["shapes"]] == [2.5, 4.5, 6.5]
    assert "one in 9" in figure["layout"]["xaxis"]["title"]["text"]
    assert len(json.dumps(figure)) < 400_000


def test_plan_map_needs_room_for_its_numbers() -> None:
    few, many = (plan_map(planned(epochs=count))["layout"]["meta"]["room"] for count in (3, 30))
    assert few < 330 < 1000 < many, "three epochs have their numbers on a phone, thirty nowhere"


@pytest.mark.parametrize("plan", [{}, {"epochs": [], "components": []}])
def test_plan_map_of_an_old_run_is_empty(plan: dict[str, Any]) -> None:
    assert plan_map(plan)["data"] == []


def test_plan_map_keeps_long_names_apart() -> None:
    long = ["head.a_very_long_name_of_a_task", "head.a_very_long_name_of_a_task_1", "layer.0"]
    labels = _labels(long)
    assert len(set(labels)) == 3
    assert max(map(len, labels)) <= 16
    assert labels[2] == "layer.0"


@pytest.mark.parametrize(
    ("rate", "words"), [(5e-5, "5e-5"), (4.47e-5, "4.5e-5"), (0.01, "1e-2"), (9.96e-6, "1e-5"), (0, "0"), (1, "1e0")]
)
def test_short_rate_is_short(rate: float, words: str) -> None:
    assert short_rate(rate) == words
