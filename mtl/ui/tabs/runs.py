"""The Runs tab: every run of this visitor, the newest first, and one of them open beside the list."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mtl.errors import CheckpointError
from mtl.runs.summary import Summary, summarise
from mtl.ui import picker
from mtl.ui.context import AppContext, guarded
from mtl.ui.page import Page
from mtl.ui.runs import opened
from mtl.ui.runs.cards import card
from mtl.ui.runs.opened import Opened, Updates
from mtl.ui.train import figures, report, result
from mtl.ui.train.live import POLL_SECONDS, PRIVATE, LiveSection
from mtl.ui.train.plan import start_choices
from mtl.ui.train.starting import delete

LIST_SECONDS = 4 * POLL_SECONDS
# on a phone the run opens below the list
TO_THE_RUN = """() => { if (window.innerWidth < 900) setTimeout(() =>
  document.querySelector('#run-head')?.scrollIntoView({behavior: 'smooth', block: 'start'}), 400); }"""


def build(page: Page, live: LiveSection, tab: gr.Tab, tabs: gr.Tabs) -> None:
    """Lay out the tab.

    Args:
        page: The page around it.
        live: The live view of the Train tab, which can show any run.
        tab: This tab; the list is read again when it is selected.
        tabs: All of them.
    """
    shown, look, listed = gr.State(""), gr.State(""), gr.State("")
    timer = gr.Timer(LIST_SECONDS, active=False)
    with gr.Row(elem_id="runs"):
        with gr.Column(scale=2, min_width=300, elem_classes="card sticky"):
            chosen = gr.Radio([], label="Runs", elem_id="run-list", interactive=True, container=False)
        with gr.Column(scale=4, min_width=320, elem_classes="card"):
            run = opened.build()
    context, token = page.context, page.token
    outputs = [chosen, shown, look, listed, timer]

    def refresh(name: str, secret: str, before: str) -> Updates:
        found = [summarise(one) for one in context.runs(secret)]
        return dict(zip(outputs, _listed(found, name, before), strict=True))

    again: dict[str, Any] = {"fn": guarded(refresh), "inputs": [shown, token, listed], "outputs": outputs} | PRIVATE
    gr.on(
        [page.blocks.load, token.change, tab.select, timer.tick]
        + [state.change for state in (live.finished, live.run, live.changed)],
        **again,
    )
    picked = chosen.input(
        guarded(lambda name, secret: _picked(context, name, secret)), [chosen, token], [shown, look], **PRIVATE
    )
    picked.failure(**again)
    chosen.input(None, js=TO_THE_RUN, **PRIVATE)
    look.change(
        guarded(lambda name, secret, kind: opened.show(run, context, name, secret, kind)),
        [shown, token, run.curves.choice],
        run.outputs,
        **PRIVATE,
    )
    figures.wire(run.curves, context, shown, token)
    report.wire(run.report, context, shown, token)
    result.wire_download(context, run.actions["prepare"], run.files, shown, token)
    _wire_changes(context, run, live, shown)
    _wire_uses(context, run, live, shown, page, tabs)


def _listed(found: list[Summary], shown: str, before: str) -> tuple[Any, ...]:
    """List the runs; close the one that is open if it is gone, and open it anew if its state is another one.

    Returns:
        Updates of the list, of the run that is open and of how it stood, of what is listed, and of the timer.
    """
    choices = [(card(one), one.name) for one in found]
    states = {one.name: one.status.state for one in found}
    open_one = shown if shown in states else ""
    going = any(not one.status.is_final for one in found)
    now = repr((choices, open_one))
    drawn = gr.skip() if now == before else gr.update(choices=choices, value=open_one or None)
    return drawn, open_one, _look(open_one, states.get(open_one)), now, gr.Timer(active=going)


def _look(name: str, state: str | None) -> str:
    return f"{name}:{state}" if name else ""


def _picked(context: AppContext, name: str | None, token: str) -> tuple[str, str]:
    run = context.open(name or "", token)
    return run.name, _look(run.name, run.status.state)


def _wire_changes(context: AppContext, run: Opened, live: LiveSection, shown: gr.State) -> None:
    """Let a run be renamed and deleted; whatever shows runs looks again then."""
    buttons = run.actions

    def rename(name: str, secret: str, title: str, count: int) -> Updates:
        one = context.open(name, secret)
        one.set_title(title)
        return {run.head: opened.head_html(summarise(one)), run.name: one.title, live.changed: count + 1}

    def really(name: str, secret: str, count: int) -> Updates:
        delete(context, name, secret)
        return {live.changed: count + 1}

    gr.on(
        [buttons["rename"].click, run.name.submit],
        guarded(rename),
        [shown, live.token, run.name, live.changed],
        [run.head, run.name, live.changed],
        **PRIVATE,
    )
    asked = [buttons[name] for name in ("delete", "keep", "really")]
    buttons["delete"].click(lambda: opened.asking(run, True), None, asked, **PRIVATE)
    buttons["keep"].click(lambda: opened.asking(run, False), None, asked, **PRIVATE)
    deleted = buttons["really"].click(guarded(really), [shown, live.token, live.changed], [live.changed], **PRIVATE)
    deleted.failure(lambda count: count + 1, live.changed, live.changed, **PRIVATE)  # it may be gone already


def _wire_uses(context: AppContext, run: Opened, live: LiveSection, shown: gr.State, page: Page, tabs: gr.Tabs) -> None:
    """Let a run answer on the other tabs, be learnt on from, or be shown live."""
    known = [shown, live.token]

    def use(name: str, secret: str) -> Any:
        _with_checkpoint(context, name, secret)
        gr.Success("It answers on the other tabs now.")
        return gr.update(choices=picker.choices(context.checkpoints(secret)), value=name)

    def start_from(name: str, secret: str) -> tuple[Any, Any]:
        _with_checkpoint(context, name, secret)
        return gr.update(choices=start_choices(context, secret), value=name), gr.Tabs(selected="train")

    def watch(name: str, secret: str) -> tuple[Any, ...]:
        return context.open(name, secret).name, {}, gr.Timer(active=True), gr.Tabs(selected="train")

    run.actions["use"].click(guarded(use), known, page.checkpoint, **PRIVATE)
    run.actions["watch"].click(guarded(watch), known, [live.run, live.seen, live.timer, tabs], **PRIVATE)
    if live.start_from is not None:
        run.actions["start_from"].click(guarded(start_from), known, [live.start_from, tabs], **PRIVATE)


def _with_checkpoint(context: AppContext, name: str, token: str) -> None:
    if not context.open(name, token).has_checkpoint:
        raise CheckpointError("This run has no checkpoint yet.")
