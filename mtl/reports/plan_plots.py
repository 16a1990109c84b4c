"""From the plan of a run to a figure: what learns in which epoch, how fast, and what an epoch costs.

E epochs, P parts of the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mtl.reports.plots import NEUTRAL, Figure, _figure

# slow to fast: violet, blue, green, amber; each step is lighter than the one before, so the order is seen without hue
SCALE = [[0, "#453781"], [0.38, "#3a6ea8"], [0.62, "#6cc5ab"], [1, "#f6d55c"]]
FROZEN = "rgba(127,135,149,.14)"
BARS = {"trainable": "#0072b2", "cost": NEUTRAL}
LONGEST_NAME, MOST_ROWS, MOST_EPOCHS = 16, 20, 120
# what a number in a cell and the names beside the map take; a narrower plot leaves the numbers out
CELL_PIXELS, NAME_PIXELS = 35, 122
FRAME = "rgba(127,135,149,.7)"


def plan_map(plan: Mapping[str, Any]) -> Figure:
    """Draw the learning rates as a map, epochs from left to right and the model from the bottom up, and bars below it.

    The colour is the logarithm of the exact rate in the middle of the epoch; a part that is frozen is grey. The bars
    are the share of the weights that learn, and the work of the epoch as a share of one in which everything learns.

    Args:
        plan: `mtl.training.plan.RatePlan.as_dict()`, as it is saved with a run.
    """
    epochs, parts = plan.get("epochs", []), [part["name"] for part in plan.get("components", [])]
    if not epochs or not parts:
        return _figure([], "epoch", "")
    changes = [now["epoch"] for before, now in pairwise(epochs) if before["phase"] != now["phase"]]
    every = -(-len(epochs) // MOST_EPOCHS)
    epochs = epochs[::every]
    numbers = [epoch["epoch"] for epoch in epochs]
    rates = [[epoch["middle_rates"].get(part, 0.0) for epoch in epochs] for part in parts]
    hovers = [[_hover(part, epoch) for epoch in epochs] for part in parts]
    shared = {"x": numbers, "y": _labels(parts), "customdata": hovers, "hovertemplate": "%{customdata}<extra></extra>"}
    total = sum(part["parameters"] for part in plan["components"])
    traces = [_frozen(rates, shared), _learning(rates, shared), *_bars(epochs, total)]
    figure = _laid_out(traces, numbers, changes)
    if every > 1:
        figure["layout"]["xaxis"]["title"]["text"] = f"epoch, one in {every} is drawn"
    figure["layout"]["coloraxis"] = _scale(rates)
    figure["layout"]["meta"] = {"room": CELL_PIXELS * len(numbers) + NAME_PIXELS}
    return figure


def _frozen(rates: Sequence[Sequence[float]], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the cells that do not learn."""
    return {
        **shared,
        "type": "heatmap",
        "z": [[None if rate > 0 else 0 for rate in row] for row in rates],
        "colorscale": [[0, FROZEN], [1, FROZEN]],
        "showscale": False,
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
    }


def _learning(rates: Sequence[Sequence[float]], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the cells that learn, and their rates where there is room for them."""
    trace = {
        **shared,
        "type": "heatmap",
        "z": [[round(math.log10(rate), 4) if rate > 0 else None for rate in row] for row in rates],
        "text": [[short_rate(rate) if rate > 0 else "" for rate in row] for row in rates],
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
    }
    return trace | ({"texttemplate": "%{text}", "textfont": {"size": 9}} if len(rates) <= MOST_ROWS else {})


def _scale(rates: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Lay out the scale above the map, a tick for each power of ten."""
    known = [math.log10(rate) for row in rates for rate in row if rate > 0]
    low, high = (min(known), max(known)) if known else (-6.0, -2.0)
    ticks = [float(power) for power in range(math.ceil(low - 0.05), math.floor(high + 0.05) + 1)] or [round(low, 2)]
    return {
        "colorscale": SCALE,
        "cmin": low if low < high else low - 1,
        "cmax": high,
        "showscale": bool(known),
        "colorbar": {
            "orientation": "h",
            "thickness": 8,
            "outlinewidth": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "ypad": 0,
            "title": {"text": "learning rate in the middle of the epoch", "side": "top", "font": {"size": 11}},
            "tickfont": {"size": 10},
            "tickvals": ticks,
            "ticktext": [short_rate(10**tick) for tick in ticks],
        },
    }


def _bars(epochs: Sequence[Mapping[str, Any]], total: int) -> list[dict[str, Any]]:
    """Draw what share of the weights learns, and what an epoch costs."""
    values = {
        "trainable": [epoch["trainable"] / total for epoch in epochs],
        "cost": [epoch["cost"] for epoch in epochs],
    }
    hovers = {
        "trainable": [f"{epoch['trainable'] / 1e6:.2f} M of {total / 1e6:.2f} M weights learn" for epoch in epochs],
        "cost": [f"{epoch['cost']:.0%} of the work of an epoch in which all learns" for epoch in epochs],
    }
    return [
        {
            "type": "bar",
            "x": [epoch["epoch"] for epoch in epochs],
            "y": [round(value, 4) for value in values[name]],
            "xaxis": "x",
            "yaxis": axis,
            "marker": {"color": colour},
            "customdata": hovers[name],
            "hovertemplate": "epoch %{x}<br>%{customdata}<extra></extra>",
            "showlegend": False,
        }
        for (name, colour), axis in zip(BARS.items(), ("y2", "y3"), strict=True)
    ]


def _laid_out(traces: list[dict[str, Any]], numbers: Sequence[int], changes: Sequence[int]) -> Figure:
    """Put the map above the bars, and a line where a phase begins."""
    figure = _figure(traces, "epoch", "", {"type": "category", "automargin": True, "showgrid": False})
    layout = figure["layout"]
    axis = {"gridcolor": "rgba(127,135,149,.22)", "zeroline": False, "linecolor": "rgba(127,135,149,.4)"}
    bar = {**axis, "range": [0, 1.05], "tickvals": [0, 1], "ticktext": ["0", "100 %"], "tickfont": {"size": 10}}
    layout["xaxis"] |= {
        "dtick": max(1, -(-numbers[-1] // 12)),
        "tick0": numbers[0],
        "range": [numbers[0] - 0.5, numbers[-1] + 0.5],
        "showgrid": False,
        "anchor": "y3",
    }
    layout["yaxis"] |= {"domain": [0.36, 1]}
    layout["yaxis2"] = {**bar, "domain": [0.19, 0.31]}
    layout["yaxis3"] = {**bar, "domain": [0, 0.12]}
    layout["bargap"] = 0.25
    layout["margin"] = {"l": 60, "r": 14, "t": 62, "b": 44}
    layout["annotations"] = [
        _caption("weights that learn", 0.31),
        _caption("work of an epoch", 0.12),
    ]
    layout["shapes"] = [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": number - 0.5,
            "x1": number - 0.5,
            "y0": 0,
            "y1": 1,
            "line": {"color": FRAME, "width": 1.5, "dash": "dot"},
        }
        for number in changes
    ]
    return figure


def _caption(text: str, height: float) -> dict[str, Any]:
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": height,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
    }


def _hover(part: str, epoch: Mapping[str, Any]) -> str:
    """Say what happens to a part in an epoch, as the small HTML that Plotly reads."""
    where = f"<b>{part}</b>, epoch {epoch['epoch']}, phase {epoch['phase']}"
    if part not in epoch["middle_rates"]:
        return f"{where}<br>frozen: rate 0"
    steps = f"steps {epoch['first_step']} to {epoch['last_step']}"
    named = [f"{side} {short_rate(epoch[f'{side}_rates'][part], 4)}" for side in ("first", "middle", "last")]
    return f"{where}<br>{steps}<br>rate: {', '.join(named)}"


def short_rate(rate: float, digits: int = 2) -> str:
    """Write a rate in a few letters: `5e-5`, `4.5e-5`, `0`."""
    if rate == 0:
        return "0"
    mantissa, exponent = f"{rate:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"


def _labels(parts: Sequence[str]) -> list[str]:
    """Shorten the names so that a phone has room for the map; all stay different."""
    found: list[str] = []
    for part in parts:
        label, number = _cut(part), 1
        while label in found:
            number += 1
            label = f"{_cut(part, LONGEST_NAME - 3)} {number}"
        found.append(label)
    return found


def _cut(text: str, most: int = LONGEST_NAME) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
