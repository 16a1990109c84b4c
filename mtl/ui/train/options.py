"""The groups of settings that few people need to change: laid out here, each beside what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from mtl.choices import (
    DEFAULT_ENCODER,
    OPTIMIZER_HELP,
    PHASE_PATIENCE_HELP,
    POOLING_HELP,
    ROW_SAMPLING_HELP,
    SAMPLING_HELP,
    SCHEDULE_HELP,
    SELECTION_HELP,
)
from mtl.ui.train.values import CONFLICT, CONFLICT_STEPS, NEVER, SOME
from mtl.ui.train.widgets import choice, heading, number, reveal

Fields = dict[str, Any]
ALL_TASKS, NO_COLUMN = "all tasks, averaged", "none"
PRECISION_HELP = {
    "auto": "the fastest this processor does accurately enough",
    "float32": "exact, and the same bits on every machine of a kind",
    "bfloat16": "half the memory, less exact",
}
ATTENTION_HELP = {
    "auto": "the fastest this processor does",
    "eager": "written out in single operations",
    "sdpa": "torch's own fused attention",
}
DEVICE_HELP = {
    "auto": "CUDA, else MPS, else CPU",
    "cpu": "the processor",
    "cuda": "an NVIDIA card",
    "mps": "Apple's graphics processor",
}


def sampling(defaults: Mapping[str, Any]) -> Fields:
    """Lay out which rows make a batch, and in which order they come."""
    heading("Sampling", "Which rows make a batch, and how often each comes.")
    options = "training.sampling_options"
    fields: Fields = {}
    with gr.Row(elem_classes="fields"):
        tasks = choice("Batches", SAMPLING_HELP, defaults["training.sampling"], elem_id="sampling")
        fields["training.sampling"] = tasks
        rows = choice("Rows", ROW_SAMPLING_HELP, defaults["training.row_sampling"], elem_id="row-sampling")
        fields["training.row_sampling"] = rows
    with gr.Row(elem_classes="fields"):
        path = f"{options}.temperature"
        fields[path] = number(
            defaults[path],
            "Sampling temperature",
            "1: in proportion; large: equally often",
            least=1,
            most=100,
            visible=False,
        )
        path = f"{options}.final_exponent"
        fields[path] = number(
            defaults[path], "Last exponent", "1: in proportion; 0: equally often", most=1, step=0.1, visible=False
        )
        path = f"{options}.balance_task"
        fields[path] = gr.Dropdown(
            [(ALL_TASKS, "")], value="", label="Whose classes", info="come equally often", visible=False,
            allow_custom_value=True, interactive=True, min_width=150,
        )  # fmt: skip
        fields["data.weight_column"] = gr.Dropdown(
            [(NO_COLUMN, "")], value="", label="Weight column", info="numbers from 0; empty cells count 1",
            visible=False, allow_custom_value=True, interactive=True, min_width=150, elem_id="weight-column",
        )  # fmt: skip
    reveal(
        tasks,
        {"temperature": [fields[f"{options}.temperature"]], "annealed": [fields[f"{options}.final_exponent"]]},
    )
    reveal(
        rows,
        {"class_balance": [fields[f"{options}.balance_task"]], "weight_column": [fields["data.weight_column"]]},
    )
    return fields | _curriculum(defaults)


def _curriculum(defaults: Mapping[str, Any]) -> Fields:
    path = "training.curriculum"
    fields: Fields = {
        path: gr.Checkbox(
            defaults[path], label="Easiest rows first", interactive=True, elem_id="curriculum",
            info="by the loss of a simple model on the encoder as it is (Bengio 2009)",
        )
    }  # fmt: skip
    with gr.Row(elem_classes="fields"):
        start, epochs = f"{path}.start", f"{path}.epochs"
        fields[start] = number(
            defaults[start], "First share", "of the rows in epoch 1", least=0.01, most=1, step=0.1, visible=False
        )
        fields[epochs] = number(
            defaults[epochs], "Until all come", "epochs", least=1, most=1000, whole=True, visible=False
        )
    reveal(fields[path], {True: [fields[start], fields[epochs]]})
    return fields


def learning(defaults: Mapping[str, Any]) -> Fields:
    """Lay out the schedule and the optimizer."""
    heading("Schedule and optimizer")
    fields: Fields = {}
    with gr.Row(elem_classes="fields"):
        fields["training.schedule"] = choice("Schedule", SCHEDULE_HELP, defaults["training.schedule"])
        fields["training.optimizer"] = choice("Optimizer", OPTIMIZER_HELP, defaults["training.optimizer"])
    with gr.Row(elem_classes="fields"):
        for name, label, info, most in (
            ("warmup", "Warm-up", "share of the steps", 0.99),
            ("weight_decay", "Weight decay", "not on biases, norms", 1),
            ("clip", "Clip", "gradient norm; 0: off", None),
        ):
            path = f"training.{name}"
            fields[path] = number(defaults[path], label, info, most=most, step=0.01)
    with gr.Row(elem_classes="fields"):
        path = "training.projection_learning_rate"
        fields[path] = number(defaults[path], "Rate: new parts", "attention pooling, projection, LayerNorm", most=1)
        path = "training.stay_close"
        fields[path] = number(defaults[path], "Stay close", "holds embeddings near the start; 0: off", most=1000)
    return fields


def choosing(defaults: Mapping[str, Any]) -> Fields:
    """Lay out which epoch is kept, and when the run stops early."""
    heading("Which epoch is kept")
    fields: Fields = {
        "training.select_by": choice("Best checkpoint", SELECTION_HELP, defaults["training.select_by"]),
    }
    with gr.Row(elem_classes="fields"):
        path = "training.patience"
        fields[path] = number(defaults[path], "Patience", "epochs without gain", least=1, most=1000, whole=True)
        path = "training.patience_in_phases"
        fields[path] = choice("Patience in phases", PHASE_PATIENCE_HELP, defaults[path])
    return fields


def conflict(defaults: Mapping[str, Any]) -> Fields:
    """Lay out how often the tasks' gradients are compared."""
    fields: Fields = {}
    with gr.Row(elem_classes="fields"):
        fields[CONFLICT] = gr.Radio(
            [("auto", "auto"), ("never", NEVER), ("every …", SOME)], value=defaults[CONFLICT], min_width=220,
            label="Look at gradient conflict", info="auto: as often as fits into 5 % of the time", interactive=True,
            elem_classes="choice",
        )  # fmt: skip
        fields[CONFLICT_STEPS] = number(
            defaults[CONFLICT_STEPS], "Steps", "between two looks", least=1, whole=True, visible=False
        )
    reveal(fields[CONFLICT], {SOME: [fields[CONFLICT_STEPS]]})
    return fields


def encoder(defaults: Mapping[str, Any]) -> Fields:
    """Lay out the shared encoder."""
    heading("Encoder", "A run that starts from a checkpoint keeps the encoder of that one.")
    fields: Fields = {
        "encoder.name": gr.Textbox(
            DEFAULT_ENCODER, label="Encoder", info="bundled; or another Hub id, or a local folder", max_lines=1,
            interactive=True,
        )
    }  # fmt: skip
    with gr.Row(elem_classes="fields"):
        fields["encoder.pooling"] = choice("Pooling", POOLING_HELP, defaults["encoder.pooling"])
        fields["encoder.projection"] = number(
            defaults["encoder.projection"], "Projection", "width; 0: none", most=4096, whole=True
        )
        fields["encoder.max_length"] = number(
            defaults["encoder.max_length"], "Longest text", "tokens; 0: its own", most=8192, whole=True
        )
    with gr.Row(elem_classes="fields"):
        fields["encoder.layer_norm"] = gr.Checkbox(
            False, label="LayerNorm", info="normalises mean and variance", interactive=True, min_width=150
        )
        fields["encoder.normalize"] = gr.Checkbox(
            True, label="L2-normalise", info="every embedding has length 1", interactive=True, min_width=150
        )
    return fields


def split(defaults: Mapping[str, Any]) -> Fields:
    """Lay out how the rows are divided."""
    heading("Split", "The same text never lies on two sides.")
    fields: Fields = {}
    with gr.Row(elem_classes=["fields", "four"]):
        for name in ("train", "validation", "test"):
            path = f"data.split.{name}"
            fields[path] = gr.Number(
                defaults[path], label=name.capitalize(), minimum=0, maximum=1, step=0.05, min_width=90, interactive=True
            )
        fields["data.split.seed"] = gr.Number(
            defaults["data.split.seed"], label="Split seed", minimum=0, precision=0, min_width=90, interactive=True
        )
    path = "data.split.near_duplicates"
    fields[path] = number(
        defaults[path], "Near duplicates", "texts of this cosine, 0.95 say, stay on one side; 0: only equal texts",
        most=1, step=0.01,
    )  # fmt: skip
    return fields


def machine(defaults: Mapping[str, Any]) -> Fields:
    """Lay out what is computed with."""
    heading("Machine")
    helps = {"precision": PRECISION_HELP, "attention": ATTENTION_HELP, "device": DEVICE_HELP}
    with gr.Row(elem_classes="fields"):
        return {
            f"training.{name}": choice(name.capitalize(), about, defaults[f"training.{name}"])
            for name, about in helps.items()
        }
