"""How the tasks' losses become one step: the methods, what each leaves to be chosen, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from mtl.choices import WEIGHTING_EXTRAS, WEIGHTING_HELP, Weighting
from mtl.config import WeightingOptions
from mtl.errors import ConfigError
from mtl.training.demands import check_installed, cost
from mtl.ui import html
from mtl.ui.context import guarded
from mtl.ui.events import LATEST
from mtl.ui.train import options
from mtl.ui.train.data import DataSection
from mtl.ui.train.widgets import heading, number, reveal

WEIGHTING, CLIP = "training.weighting", "training.clip_per_task"
# option -> label, what it means, its least and its largest value
OPTIONS: dict[str, tuple[str, str, float, float]] = {
    "temperature": ("Temperature", "higher: nearer to equal weights", 0.01, 100),
    "gamma": ("Gamma", "how much a low score counts", 0, 10),
    "smoothing": ("Smoothing", "share of the earlier score that is kept", 0, 0.99),
    "alpha": ("Alpha", "how strongly slow tasks are pulled along", 0, 10),
    "learning_rate": ("Rate of the weights", "they are learned with it", 0, 1),
    "caution": ("Caution", "how far from the mean step", 0, 0.99),
}
# which option belongs to which method, as the descriptions in mtl.config say
USED_BY: dict[str, tuple[Weighting, ...]] = {
    "temperature": ("dwa",),
    "gamma": ("dtp",),
    "smoothing": ("dtp",),
    "alpha": ("gradnorm",),
    "learning_rate": ("gradnorm", "uncertainty"),
    "caution": ("cagrad",),
}


def build(defaults: Mapping[str, Any], data: DataSection, final_weight: gr.Number) -> dict[str, Any]:
    """Lay the group out; return path -> widget.

    Args:
        defaults: What the widgets hold at first.
        data: Knows the tasks.
        final_weight: The last loss weight of a head, which only a ramp looks at.
    """
    heading("Task balancing", "How the tasks' losses become one step.")
    usual = defaults[WEIGHTING]
    with gr.Row(elem_classes="fields"):
        weighting = gr.Dropdown(
            [(label(name), name) for name in WEIGHTING_HELP], value=usual, label="Weighting",
            info=WEIGHTING_HELP[usual], interactive=True, min_width=220, scale=2, elem_id="weighting",
        )  # fmt: skip
        clip = number(defaults[CLIP], "Clip per task", "its own gradient's norm; 0: off")
    about = gr.HTML(about_html(usual, 0, 0), elem_id="weighting-cost")
    fields: dict[str, Any] = {WEIGHTING: weighting, CLIP: clip}
    with gr.Row(elem_classes="fields"):
        for name, (title, info, least, most) in OPTIONS.items():
            path = f"training.weighting_options.{name}"
            fields[path] = number(defaults[path], title, info, least=least, most=most, visible=False)
    shown: dict[str, list[Any]] = {"ramp": [final_weight]}
    for name in WeightingOptions.model_fields:
        for method in USED_BY[name]:
            shown.setdefault(method, []).append(fields[f"training.weighting_options.{name}"])
    reveal(weighting, shown)
    weighting.change(lambda name: gr.update(info=WEIGHTING_HELP.get(name, "")), weighting, weighting, **LATEST)
    gr.on(
        [weighting.change, clip.change, data.task_columns.change],
        guarded(lambda name, norm, tasks: about_html(name, len(tasks or ()), norm)),
        [weighting, clip, data.task_columns],
        about,
        **LATEST,
    )
    return fields | options.conflict(defaults)


def label(weighting: Weighting) -> str:
    """Name a method, and what it lacks here."""
    try:
        check_installed(weighting)
    except ConfigError:
        return f"{weighting} (needs {', '.join(WEIGHTING_EXTRAS[weighting][0])})"
    return weighting


def about_html(weighting: Weighting, tasks: int, clip: float | None) -> str:
    """Say what a step costs with a method, and what is to be installed for it."""
    try:
        check_installed(weighting)
    except ConfigError as error:
        return html.notes([str(error)], "problem")
    passes = cost(weighting, tasks, clip_per_task=bool(clip))
    apart = cost(weighting, 2, clip_per_task=bool(clip)) > 1
    if not apart:
        words = "Cost of a step: one backward pass, as with a single task."
    elif tasks > 1:
        words = f"Cost of a step: {passes:.0f} backward passes, one for each task; the forward pass stays one."
    else:
        words = "Cost of a step: one backward pass for each task; the forward pass stays one."
    return f'<p class="hint">{html.escape(words)}</p>'
