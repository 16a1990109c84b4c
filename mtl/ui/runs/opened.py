"""The run that is open on the Runs tab: what it is, what can be done with it, its report, curves and configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.errors import UserError
from mtl.runs.store import TITLE_CHARACTERS, Run
from mtl.runs.summary import summarise
from mtl.ui import html
from mtl.ui.context import AppContext
from mtl.ui.runs import links
from mtl.ui.runs.cards import head_html
from mtl.ui.train import figures, report, result, sharing
from mtl.ui.train.status import last_epoch_html

NOTHING = html.empty("No run is open", "Choose one from the list.")
Updates = dict[Any, Any]


@dataclass(frozen=True)
class Opened:
    """The components.

    Attributes:
        head: What the run is.
        box: Everything below.
        name: What the person calls it.
        naming: The row around it.
        actions: What can be done with it -> its button.
        links: By which others may read it.
        comparison: Whether sharing pays, if the run heads a comparison.
        report: What its test rows say.
        curves: How it was trained.
        last: The scores of its last epoch.
        config: Its configuration.
        files: Its files, when they are asked for.
        seen: State: what the page shows of it.
    """

    head: gr.HTML
    box: gr.Column
    name: gr.Textbox
    naming: gr.Row
    actions: dict[str, gr.Button]
    links: links.LinkBox
    comparison: gr.HTML
    report: report.ReportSection
    curves: figures.Curves
    last: gr.HTML
    config: gr.Code
    files: gr.File
    seen: gr.State

    @property
    def outputs(self) -> list[Any]:
        """What opening a run changes."""
        own = [self.box, self.name, self.naming, self.comparison, self.config, self.files]
        parts = [*self.actions.values(), *self.links.outputs, *self.report.outputs]
        return [*own, *parts, *self.followed]

    @property
    def followed(self) -> list[Any]:
        """What changes while it goes on."""
        return [self.head, self.last, self.seen, *self.curves.outputs]


def build() -> Opened:
    """Lay it out, with nothing in it."""
    head = gr.HTML(NOTHING, elem_id="run-head")
    with gr.Column(visible=False, elem_id="run-box") as box:
        name, naming, actions, shared, files = _build_actions()
        with gr.Tabs(elem_id="run-parts"):
            with gr.Tab("Report", id="run-report"):
                comparison = gr.HTML(elem_id="run-comparison", visible=False)
                scores = report.build(report.build_overview("run-report-"), "run-report-")
            with gr.Tab("Curves", id="run-curves"):
                main = figures.build_main("run-")
                last = gr.HTML(elem_id="run-last-epoch")
                curves = figures.build_more(main, "run-")
            with gr.Tab("Configuration", id="run-config"):
                config = gr.Code(
                    language="yaml", label="config.yaml", interactive=False, elem_id="run-yaml",
                    buttons=["copy", "download"], wrap_lines=True, max_lines=40,
                )  # fmt: skip
    seen = gr.State({})
    return Opened(head, box, name, naming, actions, shared, comparison, scores, curves, last, config, files, seen)


def _build_actions() -> tuple[gr.Textbox, gr.Row, dict[str, gr.Button], links.LinkBox, gr.File]:
    """Lay out the name, the buttons and the links."""
    actions: dict[str, gr.Button] = {}
    with gr.Row(elem_classes="compact"):
        for action, label, id_ in (
            ("use", "Answer with it", "run-use"),
            ("start_from", "Start from it", "run-start-from"),
            ("watch", "Show it live", "run-watch"),
            ("resume", "Resume", "run-resume"),
            ("prepare", "Download", "run-prepare-download"),
        ):
            actions[action] = gr.Button(label, elem_id=id_, size="sm", min_width=95)
        share = links.build_share()
        actions["delete"] = gr.Button("Delete", elem_id="delete", size="sm", min_width=90, variant="secondary")
        # the harmless answer lies where the pointer is that has just pressed Delete
        actions["keep"] = gr.Button("Keep it", elem_id="keep", size="sm", min_width=90, visible=False)
        actions["really"] = gr.Button(
            "Really delete", variant="stop", elem_id="really-delete", size="sm", min_width=110, visible=False
        )
    with gr.Row(elem_classes="compact run-naming") as naming:
        name = gr.Textbox(
            label="Name", placeholder="A name of your own", max_lines=1, max_length=TITLE_CHARACTERS, scale=4,
            interactive=True, elem_id="run-name", min_width=200,
        )  # fmt: skip
        actions["rename"] = gr.Button("Save the name", elem_id="rename", size="sm", scale=1, min_width=120)
    shared = links.build_box(share)
    return name, naming, actions, shared, result.build_files("run-")


def show(opened: Opened, context: AppContext, name: str, token: str, seen: dict[str, Any], choice: str) -> Updates:
    """Fill it with a run; without one, empty it.

    Args:
        opened: The components.
        context: The server's.
        name: Of the run.
        token: What the visitor knows.
        seen: What the page shows so far.
        choice: Which of the other figures is looked at.
    """
    if not name:
        return closed(opened)
    run = context.open(name, token)
    found = summarise(run)
    events = context.history(run).events
    own = context.is_own(run, token)
    drawn, now = figures.fresh(opened.curves, events, name, {}, opened=True, kind=choice)
    return {
        opened.head: head_html(found, shared=name in context.shared(token)),
        opened.box: gr.update(visible=True),
        opened.name: found.title,
        opened.naming: gr.update(visible=own),
        opened.seen: now | {"run": name},
        opened.comparison: _comparison(context, run),
        opened.last: last_epoch_html(events),
        opened.config: _config(run),
        opened.files: gr.update(value=None, visible=False),
        **_offered(opened, run, own),
        **links.offered(opened.links, run, own, again=seen.get("run") == name),
        **report.show(opened.report, run),
        **drawn,
    }


def follow(opened: Opened, context: AppContext, name: str, token: str, seen: dict[str, Any], choice: str) -> Any:
    """Draw what is new of the run that is open, if it still goes on; arguments as for `show`."""
    if not name or seen.get("run") != name:
        return gr.skip()
    run = context.open(name, token)
    events = context.history(run).events
    drawn, now = figures.fresh(opened.curves, events, name, seen, opened="more" in seen, kind=choice)
    if not drawn:
        return gr.skip()
    return {
        opened.head: head_html(summarise(run), shared=name in context.shared(token)),
        opened.last: last_epoch_html(events),
        opened.seen: now | {"run": name},
        **drawn,
    }


def _comparison(context: AppContext, run: Run) -> Any:
    found = sharing.outcome(context, run)
    return gr.update(value=sharing.comparison_html(found), visible=found is not None)


def closed(opened: Opened) -> Updates:
    """Show that no run is open."""
    return {opened.head: NOTHING, opened.box: gr.update(visible=False), opened.seen: {}}


def _offered(opened: Opened, run: Run, own: bool) -> Updates:
    """Offer what this visitor can do with this run as it stands."""
    over = run.status.is_final
    visible = {
        "rename": own,
        "use": run.has_checkpoint,
        "start_from": run.has_checkpoint,
        "watch": not over and own,
        "resume": run.can_go_on and own,
        "prepare": over,
        "delete": over and own,
        "keep": False,
        "really": False,
    }
    return {button: gr.update(visible=visible[action]) for action, button in opened.actions.items()}


def asking(opened: Opened, ask: bool) -> Updates:
    """Show the question whether to delete, or take it back."""
    buttons = opened.actions
    return {
        buttons["delete"]: gr.update(visible=not ask),
        buttons["keep"]: gr.update(visible=ask),
        buttons["really"]: gr.update(visible=ask),
    }


def _config(run: Run) -> str:
    try:
        return (run.path / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UserError, ValueError):
        return ""
