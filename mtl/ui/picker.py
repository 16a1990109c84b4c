"""The checkpoint picker in the header: which run answers on the inference tabs, and how good it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.config import task_specs
from mtl.errors import UserError
from mtl.runs.store import STARTER, Run
from mtl.ui import html
from mtl.ui.context import AppContext, guarded


@dataclass(frozen=True)
class Picker:
    """The picker's components.

    Attributes:
        checkpoint: The name of the chosen run.
        scores: Its scores.
    """

    checkpoint: gr.Dropdown
    scores: gr.HTML


def build(context: AppContext) -> Picker:
    """Lay out the picker; `wire` gives it life once the Train tab exists."""
    choices = _choices(context.checkpoints())
    checkpoint = gr.Dropdown(
        choices,
        value=choices[0][1] if choices else None,
        label="Checkpoint that answers",
        interactive=True,
        allow_custom_value=True,  # a choice of another session must not be an error; `open` checks it
        elem_id="checkpoint",
    )
    scores = gr.HTML(elem_id="checkpoint-scores")
    return Picker(checkpoint, scores)


def wire(context: AppContext, picker: Picker, finished: gr.State, token: gr.State, blocks: gr.Blocks) -> None:
    """Refresh the picker when the page opens, when it gets the focus, and when a run ends."""
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    show = guarded(lambda name, secret: scores_html(context, name, secret))
    choose = guarded(lambda done, current, secret: _refresh(context, done, current, secret))
    finished.change(choose, [finished, picker.checkpoint, token], picker.checkpoint, **private)
    # the token is known only after the browser has handed over what it remembers
    gr.on([blocks.load, token.change], choose, [finished, picker.checkpoint, token], picker.checkpoint, **private)
    picker.checkpoint.focus(
        guarded(lambda current, secret: gr.update(choices=_choices(context.checkpoints(secret)))),
        [picker.checkpoint, token], picker.checkpoint, **private,
    )  # fmt: skip
    gr.on([picker.checkpoint.change, blocks.load], show, [picker.checkpoint, token], picker.scores, **private)


def _refresh(context: AppContext, finished: str, current: str | None, token: str) -> Any:
    """Offer the checkpoints there are now; a run that has just ended is chosen, else what was, else the newest."""
    choices = _choices(context.checkpoints(token))
    names = [name for _, name in choices]
    chosen = next((name for name in (finished, current) if name in names), names[0] if names else None)
    return gr.update(choices=choices, value=chosen)


def _choices(runs: Sequence[Run]) -> list[tuple[str, str]]:
    return [(label(run), run.name) for run in runs]


def label(run: Run) -> str:
    """Say which run it is: its tasks and when it was made."""
    tasks = ", ".join(run.config.tasks)
    tasks = tasks if len(tasks) <= 40 else tasks[:39] + "…"
    if run.name == STARTER:
        return f"starter (shipped): {tasks}"
    try:
        made = time.strftime("%d %b %H:%M", time.strptime(run.name[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        made = run.name
    return f"{made}: {tasks}" + ("" if run.status.state == "done" else f" ({run.status.state})")


def scores_html(context: AppContext, name: str | None, token: str) -> str:
    """Draw the test scores of a checkpoint, or say that there are none."""
    if not name:
        return html.empty("No checkpoint", "Train one on the Train tab.")
    try:
        run = context.open(name, token)
    except UserError as error:
        return html.notes([str(error)], "problem")
    report = run.report()
    if report and report["test"]:
        return html.chips([(f"{task}: test accuracy", f"{s['accuracy']:.3f}") for task, s in report["test"].items()])
    names = ", ".join(task.name for task in task_specs(run.config))
    return html.chips([(names, "no test score")])
