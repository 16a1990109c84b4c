"""The settings that most people look at: the preset, what it starts from, what is frozen, rates and length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr

from mtl.choices import PRESET_HELP, PRESETS, Preset
from mtl.reports.plan_plots import short_rate
from mtl.ui.train.planning import MINILM_LAYERS
from mtl.ui.train.widgets import number

START_FROM, FREEZE = "training.start_from", "training.freeze"
FRESH = "nothing: the pretrained encoder and new heads"


def _zero(rate: str, otherwise: str) -> dict[Preset, str]:
    """Say for each preset what a rate of 0 means."""
    return {name: f"0: {short_rate(values[rate]) if rate in values else otherwise}" for name, values in PRESETS.items()}


EMBEDDINGS_INFO = _zero("embeddings_learning_rate", "a step below layer.0")
HEADS_INFO = _zero("head_learning_rate", "1e-2 or 1e-3")


def build(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Lay them out; return path in the configuration -> widget."""
    fields: dict[str, Any] = {
        "training.preset": gr.Radio(
            [(name.capitalize(), name) for name in PRESETS], value="balanced", label="Preset",
            info=PRESET_HELP["balanced"], elem_id="preset",
        ),
        START_FROM: gr.Dropdown(
            [(FRESH, "")], value="", label="Start from", info="a checkpoint whose encoder and heads are learnt on from",
            allow_custom_value=True, interactive=True, elem_id="start-from",
        ),
        FREEZE: gr.Dropdown(
            freeze_choices((), MINILM_LAYERS), value=defaults[FREEZE], multiselect=True, allow_custom_value=True,
            interactive=True, label="Freeze", info="These parts stay exactly as they are. Empty: everything learns.",
            elem_id="freeze",
        ),
    }  # fmt: skip
    with gr.Row(elem_classes=["fields", "four"]):
        for name, label, info in (
            ("embeddings_learning_rate", "Rate: embeddings", EMBEDDINGS_INFO["balanced"]),
            ("encoder_learning_rate", "Rate: layers", "peak, of the top layer"),
            ("head_learning_rate", "Rate: heads", HEADS_INFO["balanced"]),
            ("layer_decay", "Decay", "of the rate, layer by layer"),
        ):
            path = f"training.{name}"
            fields[path] = number(defaults[path], label, info, most=1)
    with gr.Row(elem_classes="fields"):
        for name, label, info, least, most in (
            ("epochs", "Epochs", "0: enough for its tasks", 0, 1000),
            ("batch_size", "Batch size", "rows of a step", 1, 1024),
            ("seed", "Seed", "same seed, same bits", 0, None),
        ):
            path = f"training.{name}"
            fields[path] = number(defaults[path], label, info, least=least, most=most, whole=True)
    return fields


def freeze_choices(tasks: Iterable[str], layers: int) -> list[str]:
    """Name the parts that can be frozen, for the form."""
    bottoms = [f"bottom.{count}" for count in range(1, layers + 1)]
    return [
        "everything", "encoder", "embeddings", *bottoms, *(f"layer.{number}" for number in range(layers)),
        *(f"head.{task}" for task in tasks),
    ]  # fmt: skip


def preset_infos(preset: Preset) -> tuple[Any, Any, Any]:
    """Say what a preset is for, and what a rate of 0 means under it."""
    infos = (PRESET_HELP[preset], EMBEDDINGS_INFO[preset], HEADS_INFO[preset])
    return gr.update(info=infos[0]), gr.update(info=infos[1]), gr.update(info=infos[2])
