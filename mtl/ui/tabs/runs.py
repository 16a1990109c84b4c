"""The Runs tab: every run of this visitor, the newest first, and one of them open beside the list."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mtl.errors import CheckpointError
from mtl.runs.summary import Summary, summarise
from mtl.ui import picker
from mtl.ui.context import AppContext, guarded
from mtl.ui.events import LATEST, PRIVATE
from mtl.ui.page import Page
from mtl.ui.runs import links, opened
from mtl.ui.runs.cards import card
from mtl.ui.runs.opened import Opened, Updates
from mtl.ui.train import figures, report, result, starting
from mtl.ui.train.live import POLL_SECONDS, LiveSection
from mtl.ui.train.plan import start_choices

LIST_SECONDS = 4 * POLL_SECONDS
OUTPUTS = ("chosen", "shown", "look", "listed", "timer")
# on a phone the run opens below the list, and there is nothing to scroll to before it is drawn
TO_THE_RUN = """() => {
  const go = left => document.querySelector('#run-box')?.offsetHeight || !left
    ? document.querySelector('#run-head')?.scrollIntoView({behavior: 'smooth', block: 'start'})
    : setTimeout(go, 200, left - 1);
  if (window.innerWidth < 900) setTimeout(go, 400, 20);
}"""


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

    def refresh(name: str, secret: str, looked: str, before: str) -> Updates:
        found = [summarise(one) for one in context.runs(secret)]
        news = _listed(found, context.shared(secret), name, looked, before)
        return {part: news[key] for part, key in zip(outputs, OUTPUTS, strict=True) if key in news}

    known = [shown, token, look, listed]
    again: dict[str, Any] = {"fn": guarded(refresh), "inputs": known, "outputs": outputs} | LATEST
    gr.on(
        [page.blocks.load, token.change, tab.select, timer.tick]
        + [state.change for state in (live.finished, live.run, live.changed)],
        **again,
    )
    picked = chosen.input(
        guarded(lambda name, secret: _picked(context, name, secret)), [chosen, token], [shown, look], **LATEST
    )
    picked.failure(**again)
    chosen.input(None, js=TO_THE_RUN, **PRIVATE)
    one = [shown, token, run.seen, run.curves.choice]
    look.change(guarded(lambda *values: opened.show(run, context, *values)), one, run.outputs, **PRIVATE)
    timer.tick(guarded(lambda *values: opened.follow(run, context, *values)), one, run.followed, **PRIVATE)
    _wire_link(context, live, [chosen, shown, look, tabs])
    links.wire(run.links, context, [shown, token], PRIVATE)
    figures.wire(run.curves, context, shown, token)
    report.wire(run.report, context, shown, token)
    result.wire_download(context, run.actions["prepare"], run.files, shown, token)
    _wire_changes(context, run, live, shown)
    _wire_uses(context, run, live, shown, page, tabs)


def _listed(found: list[Summary], shared: frozenset[str], shown: str, looked: str, before: str) -> dict[str, Any]:
    """List the runs; close the one that is open if it is gone, and open it anew if its state is another one.

    What a person chose while this was under way must not be undone, so only what is news is said.

    Args:
        found: The runs.
        shared: Names of those that are another visitor's.
        shown: The run that is open.
        looked: How it stood when it was drawn.
        before: What is listed.

    Returns:
        Some of `OUTPUTS` -> its update.
    """
    choices = _choices(found, shared)
    states = {one.name: one.status.state for one in found}
    listed, news = repr(choices), dict[str, Any]()
    if listed != before:
        news |= {"chosen": gr.update(choices=choices), "listed": listed}
    if shown and shown not in states:
        news |= {"chosen": gr.update(choices=choices, value=None), "shown": "", "look": ""}
    elif shown and _look(shown, states[shown]) != looked:
        news |= {"look": _look(shown, states[shown])}
    return news | {"timer": gr.Timer(active=any(not one.status.is_final for one in found))}


def _choices(found: list[Summary], shared: frozenset[str]) -> list[tuple[str, str]]:
    return [(card(one, shared=one.name in shared), one.name) for one in found]


def _look(name: str, state: str) -> str:
    return f"{name}:{state}"


def _picked(context: AppContext, name: str | None, token: str) -> tuple[str, str]:
    run = context.open(name or "", token)
    return run.name, _look(run.name, run.status.state)


def _wire_link(context: AppContext, live: LiveSection, outputs: list[Any]) -> None:
    """Open the run whose link the page was opened with."""

    def opened_with(name: str, secret: str) -> tuple[Any, ...]:
        choices = _choices([summarise(one) for one in context.runs(secret)], context.shared(secret))
        return gr.update(choices=choices, value=name), *_picked(context, name, secret), gr.Tabs(selected="runs")

    followed = live.linked.change(guarded(opened_with), [live.linked, live.token], outputs, **PRIVATE)
    followed.success(None, js=TO_THE_RUN, **PRIVATE)


def _wire_changes(context: AppContext, run: Opened, live: LiveSection, shown: gr.State) -> None:
    """Let a run be renamed and deleted; whatever shows runs looks again then."""
    buttons = run.actions

    def rename(name: str, secret: str, title: str, count: int) -> Updates:
        one = context.open_own(name, secret)
        one.set_title(title)
        return {run.head: opened.head_html(summarise(one)), run.name: one.title, live.changed: count + 1}

    def really(name: str, secret: str, count: int) -> Updates:
        context.delete(name, secret)
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
        return gr.update(choices=picker.offers(context, secret), value=name)

    def start_from(name: str, secret: str) -> tuple[Any, Any]:
        _with_checkpoint(context, name, secret)
        return gr.update(choices=start_choices(context, secret), value=name), gr.Tabs(selected="train")

    def watch(name: str, secret: str) -> tuple[Any, ...]:
        return context.open_own(name, secret).name, {}, gr.Timer(active=True), gr.Tabs(selected="train")

    def resume(name: str, secret: str) -> tuple[Any, ...]:
        return starting.resume(context, name, secret).name, {}, gr.Timer(active=True), gr.Tabs(selected="train")

    run.actions["resume"].click(guarded(resume), known, [live.run, live.seen, live.timer, tabs], **PRIVATE)
    run.actions["use"].click(guarded(use), known, page.checkpoint, **PRIVATE)
    run.actions["watch"].click(guarded(watch), known, [live.run, live.seen, live.timer, tabs], **PRIVATE)
    if live.start_from is not None:
        run.actions["start_from"].click(guarded(start_from), known, [live.start_from, tabs], **PRIVATE)


def _with_checkpoint(context: AppContext, name: str, token: str) -> None:
    if not context.open(name, token).has_checkpoint:
        raise CheckpointError("This run has no checkpoint yet.")
