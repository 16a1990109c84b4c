"""The figures of how a run was trained, behind one choice: only the one that is looked at is drawn and sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.reports.plan_plots import plan_map
from mtl.reports.plots import Figure, History, epochs, loss_curves, score_curves, steps, task_names
from mtl.reports.training_plots import conflict_map, embedding_curves, looks, rate_curves, share_curves, weight_curves
from mtl.ui import html
from mtl.ui.context import AppContext, guarded
from mtl.ui.events import LATEST
from mtl.ui.live_plot import live_plot

Updates = dict[Any, Any]


@dataclass(frozen=True)
class Kind:
    """One figure that can be chosen.

    Attributes:
        label: Of the choice.
        about: What is to be seen in it.
        nothing: Why there is nothing to be seen, where that is so.
        draw: Draws it.
        size: Counts what it is made of; 0: there is nothing.
    """

    label: str
    about: str
    nothing: str
    draw: Callable[[History], Figure]
    size: Callable[[History], int]


def _plan(events: History) -> dict[str, Any]:
    begin = next((event for event in events if event["event"] == "RunBegin"), {})
    return begin.get("plan") or {}


KINDS: dict[str, Kind] = {
    "weights": Kind(
        "Weights",
        "The factor of each task's loss in the step. Fixed weights are straight lines.",
        "There is one task, so there is nothing to weigh.",
        weight_curves,
        lambda events: len(steps(events)) if len(task_names(events)) > 1 else 0,
    ),
    "conflict": Kind(
        "Conflict",
        "Whether the tasks pull a layer the same way (1, blue) or against each other (-1, orange).",
        "Not looked at so far. It needs two tasks and a part of the encoder that learns; in a short run it would cost "
        "too much, unless training.conflict_every says how often.",
        conflict_map,
        lambda events: len(looks(events)),
    ),
    "shares": Kind(
        "Shares",
        "Each task's part of the gradient in the shared encoder. One near 100 % leaves the others no say.",
        "Not looked at so far; it is measured together with the conflict.",
        share_curves,
        lambda events: len(looks(events)),
    ),
    "rates": Kind(
        "Rates",
        "The learning rate of each part; a part that is frozen has no line there.",
        "No step was taken yet, or nothing learns.",
        rate_curves,
        lambda events: len(steps(events)),
    ),
    "embedding": Kind(
        "Embedding",
        "How far fixed texts have moved from where they began (0: not at all), and how alike random texts are.",
        "Looked at when an epoch ends, if a part of the encoder learns.",
        embedding_curves,
        lambda events: sum(bool(event.get("embedding")) for event in epochs(events)),
    ),
    "plan": Kind(
        "Plan",
        "The learning rate of each part in each epoch, as planned before the first step; 0 is frozen.",
        "This run did not keep its plan, or has not begun.",
        lambda events: plan_map(_plan(events)),
        lambda events: len(_plan(events).get("epochs", [])),
    ),
}
FIRST = "weights"


@dataclass(frozen=True)
class Curves:
    """The plots of one run.

    Attributes:
        loss: Loss over the steps.
        scores: Main scores over the epochs.
        fold: Holds the rest.
        opened: State: whether it is open.
        choice: Which of `KINDS` is shown.
        about: What is to be seen.
        plots: One plot for each of `KINDS`; all but the chosen one are not on the page.
    """

    loss: gr.HTML
    scores: gr.HTML
    fold: gr.Accordion
    opened: gr.State
    choice: gr.Radio
    about: gr.HTML
    plots: dict[str, gr.HTML]

    @property
    def outputs(self) -> list[Any]:
        """Everything that `fresh` may change."""
        return [self.loss, self.scores, self.about, *self.plots.values()]


def build_main(prefix: str = "") -> tuple[gr.HTML, gr.HTML]:
    """Lay out the two plots that are always there."""
    loss = live_plot("Loss of each task over the steps", elem_id=f"{prefix}loss-plot")
    scores = live_plot("Main score of each task over the epochs", elem_id=f"{prefix}score-plot")
    return loss, scores


def build_more(main: tuple[gr.HTML, gr.HTML], prefix: str = "") -> Curves:
    """Lay out the fold with the other figures."""
    opened = gr.State(False)
    with gr.Accordion("More curves", open=False, elem_id=f"{prefix}more-curves") as fold:
        choice = gr.Radio(
            [(kind.label, name) for name, kind in KINDS.items()],
            value=FIRST,
            label="What to look at",
            elem_id=f"{prefix}more-choice",
            elem_classes="choice",
            container=False,
        )
        about = gr.HTML(elem_id=f"{prefix}more-about")
        plots = {
            name: live_plot(kind.label, elem_id=f"{prefix}{name}-plot", visible=False, height=340)
            for name, kind in KINDS.items()
        }
    return Curves(*main, fold, opened, choice, about, plots)


def wire(curves: Curves, context: AppContext, run: gr.State, token: gr.State) -> None:
    """Draw a figure when it is chosen or the fold is opened."""

    def show(name: str, secret: str, kind: str) -> Updates:
        events = context.history(context.open(name, secret)).events if name else []
        return chosen(curves, events, kind) | {curves.opened: True}

    gr.on(
        [curves.choice.input, curves.fold.expand],
        guarded(show),
        [run, token, curves.choice],
        [*curves.outputs, curves.opened],
        **LATEST,
    )
    curves.fold.collapse(lambda: False, None, curves.opened, **LATEST)


def chosen(curves: Curves, events: History, name: str) -> Updates:
    """Draw one of the figures and take the others off the page."""
    name = name if str(name) in KINDS else FIRST
    kind = KINDS[name]
    there = bool(kind.size(events))
    words = kind.about if there else kind.nothing
    return {
        curves.about: f'<p class="hint">{html.escape(words)}</p>',
        **{plot: gr.update(visible=False) for key, plot in curves.plots.items() if key != name or not there},
        **({curves.plots[name]: gr.update(visible=True, value=kind.draw(events))} if there else {}),
    }


def fresh(
    curves: Curves, events: History, run: str, seen: dict[str, Any], *, opened: bool, kind: str
) -> tuple[Updates, dict[str, Any]]:
    """Draw what has changed since the last look.

    Args:
        curves: The plots.
        events: Of the run.
        run: Its name.
        seen: What the page shows, as this function returned it the last time.
        opened: Whether the fold is open.
        kind: The figure that is chosen in it.

    Returns:
        The updates, and what the page shows then.
    """
    ends = len(epochs(events))
    now = {"loss": f"{run}:{len(steps(events))}:{ends}", "scores": f"{run}:{ends}"}
    changed: Updates = {}
    if now["loss"] != seen.get("loss"):
        changed[curves.loss] = loss_curves(events)
    if now["scores"] != seen.get("scores"):
        changed[curves.scores] = score_curves(events)
    if opened and kind in KINDS:
        now["more"] = f"{run}:{kind}:{KINDS[kind].size(events)}"
        if now["more"] != seen.get("more"):
            changed |= chosen(curves, events, kind)
    return changed, now
