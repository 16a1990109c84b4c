"""The checkpoint picker in the header: which run answers on the inference tabs, and how good it is."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.errors import UserError
from mtl.reports.plots import score_name
from mtl.runs.store import STARTER, Run
from mtl.runs.summary import summarise
from mtl.ui import html
from mtl.ui.context import AppContext, guarded
from mtl.ui.events import LATEST
from mtl.ui.runs.cards import SHARED, title

log = logging.getLogger(__name__)


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
    offered = offers(context, "")
    checkpoint = gr.Dropdown(
        offered,
        value=offered[0][1] if offered else None,
        label="Checkpoint that answers",
        interactive=True,
        allow_custom_value=True,  # a choice of another session must not be an error; `open` checks it
        elem_id="checkpoint",
    )
    scores = gr.HTML(elem_id="checkpoint-scores")
    _build_login()
    return Picker(checkpoint, scores)


def _build_login() -> None:
    """Offer the Hugging Face login where there is one, so that a visitor's runs follow them to another browser."""
    if not os.environ.get("OAUTH_CLIENT_ID"):
        return
    missing = [name for name in ("authlib", "itsdangerous") if importlib.util.find_spec(name) is None]
    if missing:
        log.warning("there is no login without %s: pip install 'gradio[oauth]'", " and ".join(missing))
        return
    gr.LoginButton(size="sm", elem_id="login")


def wire(
    context: AppContext, picker: Picker, blocks: gr.Blocks, *, finished: gr.State, changed: gr.State, token: gr.State
) -> None:
    """Refresh the picker when the page opens, when it gets the focus, and when a run ends, is renamed or deleted."""
    show = guarded(lambda name, secret: scores_html(context, name, secret))
    choose = guarded(lambda done, current, secret: _refresh(context, done, current, secret))
    finished.change(choose, [finished, picker.checkpoint, token], picker.checkpoint, **LATEST)
    # the token is known only after the browser has handed over what it remembers
    gr.on([blocks.load, token.change], choose, [finished, picker.checkpoint, token], picker.checkpoint, **LATEST)
    keep = guarded(lambda current, secret: _refresh(context, "", current, secret))
    changed.change(keep, [picker.checkpoint, token], picker.checkpoint, **LATEST)
    picker.checkpoint.focus(
        guarded(lambda current, secret: gr.update(choices=offers(context, secret))),
        [picker.checkpoint, token], picker.checkpoint, **LATEST,
    )  # fmt: skip
    gr.on([picker.checkpoint.change, blocks.load], show, [picker.checkpoint, token], picker.scores, **LATEST)


def _refresh(context: AppContext, finished: str, current: str | None, token: str) -> Any:
    """Offer the checkpoints there are now; a run that has just ended is chosen, else what was, else the newest."""
    offered = offers(context, token)
    names = [name for _, name in offered]
    chosen = next((name for name in (finished, current) if name in names), names[0] if names else None)
    return gr.update(choices=offered, value=chosen)


def offers(context: AppContext, token: str) -> list[tuple[str, str]]:
    """Offer the checkpoints that a visitor may use, those that are shared with them too."""
    return choices(context.checkpoints(token), context.shared(token))


def choices(runs: Sequence[Run], shared: Container[str] = ()) -> list[tuple[str, str]]:
    """Offer runs: how each is called, and its name."""
    return [(label(run) + (f", {SHARED}" if run.name in shared else ""), run.name) for run in runs]


def label(run: Run) -> str:
    """Say which run it is: what the person calls it or when it was made, and its tasks."""
    found = summarise(run)
    tasks = ", ".join(found.tasks)
    tasks = tasks if len(tasks) <= 40 else tasks[:39] + "…"
    if run.name == STARTER:
        return f"starter (shipped): {tasks}"
    state = found.status.state
    return f"{title(found)}: {tasks}" + ("" if state == "done" else f" ({state})")


def scores_html(context: AppContext, name: str | None, token: str) -> str:
    """Draw the test scores of a checkpoint, or say that there are none."""
    if not name:
        return html.empty("No checkpoint", "Train one on the Train tab.")
    try:
        found = summarise(context.open(name, token))
    except UserError as error:
        return html.notes([str(error)], "problem")
    if found.scores:
        scores = [(f"{task}: test {score_name(m)}", f"{value:.3f}") for task, (m, value) in found.scores.items()]
        untested = [task for task in found.tasks if task not in found.scores]
        return html.chips([*scores, *((task, "no test score") for task in untested)])
    return html.chips([(", ".join(found.tasks), "no test score")])
