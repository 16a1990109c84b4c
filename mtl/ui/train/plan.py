"""Section 2 of the Train tab: the configuration of the run, and what it would train, live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from mtl.config import (
    DEFAULT_ENCODER,
    HEAD_HELP,
    OPTIMIZER_HELP,
    POOLING_HELP,
    PRESET_HELP,
    PRESETS,
    SCHEDULE_HELP,
    SELECTION_HELP,
    Preset,
    RunConfig,
)
from mtl.config_text import from_dict
from mtl.errors import UserError
from mtl.ui import html
from mtl.ui.context import check_allowed, guarded
from mtl.ui.train.data import DataSection, data_values, nested_sections
from mtl.ui.train.preview import preview_html

FREEZE_GROUPS = ["everything", "encoder", "embeddings"]
MINILM_LAYERS = [f"layer.{number}" for number in range(6)]
HEAD_COLUMNS = ["task", "loss weight", "head", "learning rate"]
# What a preset decides, in the order of the form.
# A number field cannot be empty in a browser: where 0 is no possible value, it stands for "left to the app" or "off".
ZERO_IS_AUTO = {
    "training.head_learning_rate",
    "encoder.projection",
    "encoder.max_length",
    "data.split.near_duplicates",
}
PRESET_FIELDS = (
    "epochs", "batch_size", "freeze", "embeddings_learning_rate", "encoder_learning_rate", "head_learning_rate",
    "projection_learning_rate", "patience", "warmup",
)  # fmt: skip


@dataclass
class PlanSection:
    """The form.

    Attributes:
        fields: Path in the configuration, such as `training.epochs` -> component.
        heads: One row per task: loss weight, shape and rate.
        summary: What it would train.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    heads: gr.Dataframe | None = None
    summary: gr.HTML | None = None


def build(data: DataSection, looks: gr.State) -> PlanSection:
    """Lay out the form and keep its summary up to date.

    Args:
        data: The section above.
        looks: Changes when more is known of the data than before.
    """
    section = PlanSection()
    fields = section.fields
    gr.HTML('<h2 class="step"><span>2</span> Plan</h2>')
    preset = gr.Radio(
        [(name.capitalize(), name) for name in PRESETS],
        value="balanced",
        label="Preset",
        info=PRESET_HELP["balanced"],
        elem_id="preset",
    )
    fields["training.preset"] = preset
    fields["training.freeze"] = gr.Dropdown(
        [*FREEZE_GROUPS, *MINILM_LAYERS],
        value=list(PRESETS["balanced"]["freeze"]),
        multiselect=True,
        allow_custom_value=True,
        interactive=True,
        label="Freeze",
        info="These parts stay exactly as they are. Empty: everything learns.",
        elem_id="freeze",
    )
    with gr.Row(elem_classes="compact"):
        _rate(fields, "embeddings", "Rate: embeddings")
        _rate(fields, "encoder", "Rate: layers")
        _rate(fields, "head", "Rate: heads", info="0: 1e-2 or 1e-3")
    with gr.Row(elem_classes="compact"):
        fields["training.epochs"] = gr.Number(
            0, label="Epochs", info="0: 100 steps or more", minimum=0, maximum=1000, precision=0, min_width=110
        )
        fields["training.batch_size"] = gr.Number(
            32, label="Batch size", info="rows of a step", minimum=1, maximum=1024, precision=0, min_width=110
        )
        fields["training.seed"] = gr.Number(
            0, label="Seed", info="same seed, same bits", minimum=0, precision=0, min_width=110
        )
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        _advanced(section)
    section.summary = gr.HTML(elem_id="plan-summary")
    _wire(section, data, preset, looks)
    return section


def _rate(fields: dict[str, Any], name: str, label: str, info: str = "peak learning rate") -> None:
    path = f"training.{name}_learning_rate"
    value = PRESETS["balanced"].get(f"{name}_learning_rate", 0)
    fields[path] = gr.Number(value, label=label, info=info, minimum=0, maximum=1, min_width=110)


def _advanced(section: PlanSection) -> None:
    fields = section.fields
    gr.HTML("<h3>Encoder</h3>")
    fields["encoder.name"] = gr.Textbox(
        DEFAULT_ENCODER, label="Encoder", info="bundled; or another Hub id, or a local folder", max_lines=1
    )
    fields["encoder.pooling"] = _choice("Pooling", POOLING_HELP, "mean")
    with gr.Row(elem_classes="compact"):
        fields["encoder.projection"] = gr.Number(
            0, label="Projection", info="width; 0: none", minimum=0, maximum=4096, precision=0, min_width=110
        )
        fields["encoder.max_length"] = gr.Number(
            0,
            label="Longest text",
            info="tokens; 0: the encoder's own",
            minimum=0,
            maximum=8192,
            precision=0,
            min_width=110,
        )
        with gr.Column(min_width=130):
            fields["encoder.layer_norm"] = gr.Checkbox(False, label="LayerNorm")
            fields["encoder.normalize"] = gr.Checkbox(True, label="L2-normalise")
    gr.HTML("<h3>Heads</h3>")
    section.heads = gr.Dataframe(
        headers=HEAD_COLUMNS,
        datatype=["str", "number", "str", "number"],
        type="array",
        static_columns=[0],
        column_count=len(HEAD_COLUMNS),
        row_count=1,
        interactive=True,
        show_label=False,
        elem_id="heads",
        visible=False,
    )
    shapes = "; ".join(f"{name}: {text}" for name, text in HEAD_HELP.items())
    gr.HTML(f'<p class="hint">Head: {html.escape(shapes)}. A rate of 0 is the one above.</p>')
    gr.HTML("<h3>Learning</h3>")
    with gr.Row(elem_classes="compact"):
        fields["training.optimizer"] = _choice("Optimizer", OPTIMIZER_HELP, "adamw")
        fields["training.schedule"] = _choice("Schedule", SCHEDULE_HELP, "linear")
    with gr.Row(elem_classes="compact"):
        for name, label, value, info in (
            ("warmup", "Warm-up", 0.1, "fraction of the steps"),
            ("weight_decay", "Weight decay", 0.01, "not on biases, norms"),
            ("clip", "Clip", 1.0, "gradient norm; 0: off"),
            ("projection_learning_rate", "Rate: new parts", 1e-3, "pooling, projection"),
        ):
            fields[f"training.{name}"] = gr.Number(value, label=label, info=info, minimum=0, min_width=110)
    with gr.Row(elem_classes="compact"):
        fields["training.select_by"] = _choice("Best checkpoint", SELECTION_HELP, "mean_score")
        fields["training.patience"] = gr.Number(
            3, label="Patience", info="epochs without gain", minimum=1, maximum=1000, precision=0, min_width=110
        )
    gr.HTML("<h3>Split</h3>")
    with gr.Row(elem_classes="compact"):
        for name, value in (("train", 0.70), ("validation", 0.15), ("test", 0.15)):
            fields[f"data.split.{name}"] = gr.Number(
                value, label=name.capitalize(), minimum=0, maximum=1, step=0.05, min_width=90
            )
        fields["data.split.seed"] = gr.Number(0, label="Split seed", minimum=0, precision=0, min_width=90)
    fields["data.split.near_duplicates"] = gr.Number(
        0, label="Near duplicates", info="texts of this cosine, 0.95 say, stay on one side; 0: only equal texts",
        minimum=0, maximum=1, step=0.01,
    )  # fmt: skip


def _choice(label: str, helps: Mapping[Any, str], value: str) -> gr.Dropdown:
    """Offer names, and say under the label what the chosen one means."""
    choice = gr.Dropdown(list(helps), value=value, label=label, info=helps[value], interactive=True, min_width=150)
    choice.change(
        lambda name: gr.update(info=helps.get(name, "")), choice, choice, api_visibility="private",
        show_progress="hidden", concurrency_limit=None,
    )  # fmt: skip
    return choice


def _wire(section: PlanSection, data: DataSection, preset: gr.Radio, looks: gr.State) -> None:
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    filled = [section.fields[f"training.{name}"] for name in PRESET_FIELDS]
    preset.input(guarded(_preset_values), preset, [preset, *filled], **private)
    assert section.heads is not None and section.summary is not None
    data.task_columns.change(
        guarded(_head_rows), [data.task_columns, section.heads], [section.heads, section.fields["training.freeze"]],
        **private,
    )  # fmt: skip
    inputs = form_inputs(section, data)

    def preview(values: dict[gr.components.Component, Any]) -> str:
        if not values[data.text_column]:  # new files: the widgets are being filled
            return ""
        try:
            return preview_html(check_allowed(form_values(section, data, values)), values[data.files])
        except UserError as error:  # on the way to a legal form; Start says it as a toast
            return html.notes([str(error)], "problem")

    # an encoder's name is looked up when it is complete, not letter by letter
    name = section.fields["encoder.name"]
    others = [component for component in section.fields.values() if component is not name]
    changes = [component.change for component in [*others, *data.inputs, looks]]
    changes += [name.blur, name.submit]
    gr.on(
        [*changes, section.heads.input],
        guarded(preview),
        inputs,
        section.summary,
        trigger_mode="always_last",
        **private,
    )


def _preset_values(preset: Preset) -> list[Any]:
    values = PRESETS[preset]
    updates: list[Any] = [gr.update(info=PRESET_HELP[preset])]
    for name in PRESET_FIELDS:
        value = values.get(name, 0)
        updates.append(gr.update(value=list(value) if name == "freeze" else 0 if value == "auto" else value))
    return updates


def _head_rows(tasks: list[str] | None, rows: list[list[Any]] | None) -> tuple[Any, Any]:
    """Keep a row for each chosen task, and offer its head for freezing."""
    kept = {str(row[0]): row for row in rows or [] if row and row[0]}
    chosen = tasks or []
    table = [kept.get(task, [task, 1.0, "linear", 0.0]) for task in chosen]
    choices = [*FREEZE_GROUPS, *MINILM_LAYERS, *(f"head.{task}" for task in chosen)]
    return gr.update(value=table, visible=bool(chosen)), gr.update(choices=choices)


def form_inputs(section: PlanSection, data: DataSection) -> set[gr.components.Component]:
    """List what a handler needs to build the configuration."""
    assert section.heads is not None
    return {*section.fields.values(), section.heads, *data.inputs}


def form_values(section: PlanSection, data: DataSection, values: Mapping[gr.components.Component, Any]) -> RunConfig:
    """Build the configuration from the form; a 0 that cannot be meant is left to the preset.

    Raises:
        ConfigError: A value is out of range.
    """
    given: dict[str, Any] = {}
    for path, component in section.fields.items():
        value = values[component]
        if path == "training.freeze":
            value = value or []
        elif path == "training.epochs":
            value = value or "auto"
        elif path == "training.clip":
            value = value or None
        elif value is None or (path in ZERO_IS_AUTO and value == 0):
            continue
        given[path] = value
    nested, from_data = nested_sections(given), data_values(data, values)
    split = nested["data"]["split"] | from_data["data"].pop("split")
    nested["data"] = from_data["data"] | {"split": split}
    tasks = list(values[data.task_columns] or [])
    assert section.heads is not None
    nested["tasks"] = {
        str(name): {"loss_weight": 1.0 if weight in (None, "") else weight, "head": head or "linear"}
        | ({"learning_rate": rate} if rate else {})
        | from_data["tasks"].get(name, {})
        for name, weight, head, rate in values[section.heads] or []
        if name in tasks
    }
    return from_dict(nested)
