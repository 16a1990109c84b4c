"""The preflight: a few steps of the run before it starts, on request, and what they say of the whole."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.config import RunConfig
from mtl.runs.limits import check_encoder
from mtl.runs.preflight import run_preflight
from mtl.runs.progress import duration
from mtl.runs.store import RunStore
from mtl.ui import html
from mtl.ui.context import AppContext, guarded
from mtl.ui.train.checks import near_groups
from mtl.ui.train.data import DataSection
from mtl.ui.train.plan import PlanSection, form_inputs, form_values
from mtl.ui.uploads import read_data

TIMEOUT_SECONDS = 180
WAITING = '<p class="hint" role="status">Taking a few steps in a process of its own: ten to thirty seconds …</p>'


def build() -> tuple[gr.Button, gr.HTML]:
    """Lay out the button and its answer beside Start."""
    go = gr.Button("Preflight: try a few steps first", elem_id="preflight", size="sm")
    return go, gr.HTML(elem_id="preflight-answer")


def wire(
    context: AppContext, data: DataSection, plan: PlanSection, tried: tuple[gr.Button, gr.HTML], token: gr.State
) -> None:
    """Let the button measure; the visitor's secret opens the run that is learnt on from."""
    go, answer = tried
    private: dict[str, Any] = {"api_visibility": "private"}

    def measure(values: Mapping[Any, Any]) -> str:
        busy = any(run.status.state == "running" for run in context.queue.active())
        config = form_values(plan, data, values)
        check_encoder(config)
        return preflight_html(_measured(context, config, values[data.files], values[token]), busy=busy)

    asked = go.click(lambda: WAITING, None, answer, show_progress="hidden", **private)
    measured = asked.then(
        guarded(measure), form_inputs(plan, data) | {token}, answer, concurrency_limit=1, show_progress="minimal",
        **private,
    )  # fmt: skip
    measured.failure(lambda: "", None, answer, show_progress="hidden", **private)


def _measured(context: AppContext, config: RunConfig, files: list[list[str]], token: str) -> dict[str, Any]:
    """Make the run in a folder that is thrown away, and measure it there.

    Raises:
        UserError: The file or the configuration cannot be used, or the run does not fit this machine.
    """
    if config.training.start_from:  # by its folder, since the run is made in another place
        source = context.open(config.training.start_from, token).path.resolve()
        training = config.training.model_copy(update={"start_from": str(source)})
        config = config.model_copy(update={"training": training})
    table = read_data(files, config.data)
    with tempfile.TemporaryDirectory(prefix="mtl-preflight-") as folder:
        run = RunStore(Path(folder)).create(config, table, near=near_groups(files, config))
        return run_preflight(run, timeout_seconds=TIMEOUT_SECONDS)


def preflight_html(found: dict[str, Any], *, busy: bool) -> str:
    """Draw what a preflight found."""
    seconds, memory, batch = found["seconds"], found["memory"], found["longest_batch"]
    facts = [
        ("whole run", f"{duration(seconds['run'])}"),
        ("a step", f"{seconds['step']:.2f} s"),
        ("steps", f"{found['steps']:,}"),
        ("memory", f"{memory['peak_bytes'] / 2**30:.1f} GB"),
        ("longest batch", f"{batch['rows']} × {batch['tokens']} tokens"),
        ("learn", f"{found['trainable'] / 1e6:.2f} M of {found['parameters'] / 1e6:.2f} M"),
        ("computes in", f"{found['numerics']['precision']}, {found['numerics']['device']}"),
    ]
    tasks = [
        (task["name"], f"{task['first_loss']:.3f}", f"{task['guessing_loss']:.3f}", f"{task['rows_per_epoch']:,}")
        for task in found["tasks"]
    ]
    warnings = list(found["warnings"])
    if busy:
        warnings.append("Another run is going on, so the times are longer than they will be when it is done.")
    header = ["task", "loss at step 0", "ln(classes)", "rows an epoch"]
    steps = sorted(found["weighting_seconds"].items(), key=lambda item: item[1])
    weightings = html.table(["weighting", "a step"], [(name, f"{value:.2f} s") for name, value in steps])
    return (
        f'<div class="understood">{html.chips(facts)}{html.notes(warnings, "problem")}'
        f"{html.table(header, tasks, caption='Before the first step')}"
        f"{html.details('What a step takes with each weighting', weightings)}</div>"
    )
