"""Section 3 of the Train tab: Start, Stop, and the run as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.config import RunConfig
from mtl.errors import CheckpointError, UserError
from mtl.runs import comparing
from mtl.runs.owners import Visitor, login_secret, new_token, reads, valid_keys
from mtl.runs.progress import duration
from mtl.runs.store import Run
from mtl.settings import settings
from mtl.ui import html
from mtl.ui.context import AppContext, guarded
from mtl.ui.events import LATEST, PRIVATE
from mtl.ui.train import figures, sharing
from mtl.ui.train.data import DataSection
from mtl.ui.train.plan import PlanSection, form_inputs, form_values
from mtl.ui.train.starting import compare, resume, start, stop
from mtl.ui.train.status import last_epoch_html, status_html

EMPTY = html.empty(
    "Nothing is training", "Choose a file on the left, or use the sample, then press Start. The curves appear here."
)
POLL_SECONDS = 2 if settings().public else 1
Updates = dict[Any, Any]


@dataclass(frozen=True)
class Buttons:
    """What begins and ends a run."""

    start: gr.Button
    stop: gr.Button
    sharing: sharing.SharingButton


@dataclass(frozen=True)
class LiveSection:
    """The components other sections need.

    Attributes:
        run: State: the name of the run that is shown.
        token: State: what the visitor knows, as `mtl.runs.owners.Visitor` writes it.
        linked: State: the name of the run whose link the page was opened with.
        finished: State: the name of a run whose end was seen; its change refreshes pickers and results.
        seen: State: what the page shows of the run; emptied, everything is drawn anew.
        timer: Polls while it is active.
        changed: State: counts runs that were renamed or deleted; its change is a reason to look again.
        start_from: Which run is learnt on from, in the form above; None if the form has no such field.
    """

    run: gr.State
    token: gr.State
    linked: gr.State
    finished: gr.State
    seen: gr.State
    timer: gr.Timer
    changed: gr.State
    start_from: Any = None


@dataclass(frozen=True)
class _View:
    """Everything that a look at the run may change."""

    section: LiveSection
    status: gr.HTML
    box: gr.Column
    curves: figures.Curves
    last: gr.HTML
    buttons: Buttons
    resume: gr.Button

    @property
    def outputs(self) -> list[Any]:
        section = self.section
        buttons = [self.buttons.start, self.buttons.stop, self.resume]
        own = [self.status, self.box, self.last, *buttons]
        return [*own, section.timer, section.seen, section.finished, *self.curves.outputs]


def build_buttons(data: DataSection) -> Buttons:
    """Lay out Start and Stop under the form, and the comparison below them."""
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Start", variant="primary", elem_id="start", scale=3)
        stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1, interactive=False)
    return Buttons(start, stop, sharing.build_button(data))


def build(
    context: AppContext, blocks: gr.Blocks, data: DataSection, plan: PlanSection, buttons: Buttons
) -> LiveSection:
    """Lay out the live view and wire starting, polling, stopping and finding a run again."""
    remembered = gr.BrowserState({"run": "", "token": ""}, storage_key="mtl-run", secret="mtl-browser-state")
    # apart from the token: Start in a window that was opened earlier must not undo what a link has added
    keys = gr.BrowserState([], storage_key="mtl-links", secret="mtl-browser-state")
    section = LiveSection(
        run=gr.State(""),
        token=gr.State(""),
        linked=gr.State(""),
        finished=gr.State(""),
        seen=gr.State({}),
        timer=gr.Timer(POLL_SECONDS, active=False),
        changed=gr.State(0),
        start_from=plan.fields.get("training.start_from"),
    )
    gr.HTML('<h2 class="step"><span>3</span> Live</h2>')
    status = gr.HTML(EMPTY, elem_id="run-status")
    again = gr.Button("Resume where it was", elem_id="resume", size="sm", visible=False)
    with gr.Column(visible=False, elem_id="curves") as box:
        main = figures.build_main()
        last = gr.HTML(elem_id="last-epoch")
        curves = figures.build_more(main)
    view = _View(section, status, box, curves, last, buttons, again)
    figures.wire(curves, context, section.run, section.token)
    poll = _wire_poll(context, view)
    _wire_start(context, view, data, plan, remembered, poll)

    def attach(kept: Any, known: Any, request: gr.Request, person: gr.OAuthProfile | None) -> tuple[Any, ...]:
        login = login_secret(context.store.root, str(person["sub"])) if person else ""
        return _attach(context, kept, known, request.query_params, login)

    attached = blocks.load(
        guarded(attach),
        [remembered, keys],
        [section.run, section.token, remembered, section.timer, section.seen, keys, section.linked],
        **PRIVATE,
    )
    attached.then(**poll)
    return section


def _wire_poll(context: AppContext, view: _View) -> dict[str, Any]:
    """Look at the run with every tick; return the look for other occasions."""
    section, curves = view.section, view.curves

    def poll(name: str, secret: str, seen: Any, opened: bool, kind: str) -> Any:
        return _poll(context, view, name, secret, seen, opened=opened is True, kind=str(kind))

    inputs = [section.run, section.token, section.seen, curves.opened, curves.choice]
    look: dict[str, Any] = {"fn": guarded(poll), "inputs": inputs, "outputs": view.outputs} | PRIVATE
    gr.on([section.timer.tick, section.changed.change], **look | LATEST)
    view.buttons.stop.click(
        guarded(lambda name, secret: _stopped(context, name, secret)),
        [section.run, section.token],
        view.buttons.stop,
        **PRIVATE,
    )
    return look


def _wire_start(
    context: AppContext,
    view: _View,
    data: DataSection,
    plan: PlanSection,
    remembered: gr.BrowserState,
    poll: dict[str, Any],
) -> None:
    """Let both buttons begin what they say, with the form's values."""
    section, buttons = view.section, view.buttons

    def beginning(begin: Callable[[Mapping[Any, Any], RunConfig, str], tuple[Run, str]]) -> Callable[..., Any]:
        def pressed(values: dict[Any, Any], request: gr.Request) -> tuple[Any, ...]:
            _check_free(context, values[section.run], values[section.token])
            return _shown(*begin(values, form_values(plan, data, values), context.address(request)))

        return guarded(pressed)

    def single(values: Mapping[Any, Any], config: RunConfig, address: str) -> tuple[Run, str]:
        return start(context, config, values[data.files], values[section.token], address)

    def compared(values: Mapping[Any, Any], config: RunConfig, address: str) -> tuple[Run, str]:
        seeds = values[buttons.sharing.seeds]
        return compare(context, config, values[data.files], seeds, values[section.token], address)

    def resumed(name: str, secret: str) -> tuple[Any, ...]:
        return _shown(resume(context, name, secret), secret)

    inputs: set[Any] = form_inputs(plan, data) | {section.run, section.token, buttons.sharing.seeds}
    outputs = [section.run, section.token, remembered, buttons.start, buttons.stop, section.timer, section.seen]
    for button, begin in ((buttons.start, single), (buttons.sharing.go, compared)):
        started = button.click(beginning(begin), inputs, outputs, api_visibility="private", show_progress="minimal")
        started.success(**poll)
    again = view.resume.click(guarded(resumed), [section.run, section.token], outputs, **PRIVATE)
    again.success(**poll)


def _check_free(context: AppContext, current: str, token: str) -> None:
    shown = _find(context, current, token)
    if shown and not shown.status.is_final:
        raise CheckpointError("Your run is still going on. Stop it first, or wait for its end.")


def _shown(run: Run, token: str) -> tuple[Any, ...]:
    kept = {"run": run.name, "token": Visitor.of(token).token}
    busy = gr.update(value="Training…", interactive=False)
    return run.name, token, kept, busy, gr.update(interactive=True), gr.Timer(active=True), {}


def _find(context: AppContext, name: str, token: str) -> Run | None:
    """Return a visitor's run, or None if there is no such run any more."""
    try:
        return context.open(name, token)
    except UserError:
        return None


def _stopped(context: AppContext, name: str, token: str) -> Any:
    stop(context, name, token)
    return gr.update(value="Stopping…", interactive=False)


def _attach(
    context: AppContext, kept: Any, keys: Any = (), link: Mapping[str, str] | None = None, login: str = ""
) -> tuple[Any, ...]:
    """Find the visitor's run again: the one their browser remembers, else, on a page of one's own, the active one.

    Args:
        context: The server's.
        kept: What the browser remembers.
        keys: Of the links that were opened in it.
        link: What the page's address asks for: `run`, and the `key` by which it may be read.
        login: The secret that the visitor's login stands for, if they have logged in.
    """
    kept = kept if isinstance(kept, dict) else {}
    name, token = str(kept.get("run") or ""), str(kept.get("token") or "")
    if settings().public and not token:
        token = new_token()  # now and not at Start, so that two windows of one visitor share it
    keys, linked = _opened(context, Visitor(token, login, valid_keys(keys)), link or {})
    who = str(Visitor(token, login, keys))
    found = _find(context, name, who)
    if not settings().public and (found is None or _is_over(found)):
        found = next(iter(context.queue.active()), found)
    name = found.name if found else ""
    return name, who, {"run": name, "token": token}, gr.Timer(active=bool(name)), {}, list(keys), linked


def _opened(context: AppContext, visitor: Visitor, link: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Open the run that a link names; return the keys that the browser is to remember, and the run's name."""
    name, key = link.get("run", ""), link.get("key", "")
    if not name:
        return visitor.keys, ""
    keys = valid_keys([*(known for known in visitor.keys if known != key), key])
    run = _find(context, name, str(Visitor(visitor.token, visitor.login, keys)))
    if run is None:
        gr.Warning("There is no such run, or it is not shared any more. Ask its owner for a new link.")
        return visitor.keys, ""
    return keys if reads(run.path, key) else visitor.keys, run.name


def _is_over(run: Run) -> bool:
    """Say whether nothing more will come of a run, nor of the comparison that it heads."""
    compared = comparing.comparison(run)
    return run.status.is_final and (compared is None or "outcome" in compared)


def _poll(
    context: AppContext, view: _View, name: str, token: str, seen: Any, *, opened: bool, kind: str
) -> Updates | Any:
    """Draw what changed of the run since the last look; `seen` is what the page shows."""
    if not name:
        return {view.section.timer: gr.Timer(active=False), view.section.seen: {}}
    run = _find(context, name, token)
    if run is None:  # deleted meanwhile, or on another machine
        return _gone(view)
    status = run.status  # before the journal: a final status means that the journal is complete
    history = context.history(run)
    ahead = context.queue.position(run)
    wait = context.wait_seconds(run) if ahead else None
    parts = (
        name,
        status.state,
        status.phase,
        status.attempt,
        len(history.events),
        ahead,
        run.stop_requested,
        run.title,
    )
    version = ":".join(map(str, parts)) + (f":{duration(wait)}" if wait is not None else "")
    if version == seen.get("version"):
        return gr.skip()
    going = not status.is_final
    drawn, shown = figures.fresh(view.curves, history.events, name, seen, opened=opened, kind=kind)
    ended: Updates = {} if going else {view.section.finished: name}
    return (
        drawn
        | ended
        | {
            view.status: status_html(run, status, history.events, history.timings, ahead, wait),
            view.box: gr.update(visible=bool(history.events)),
            view.last: last_epoch_html(history.events),
            view.buttons.start: gr.update(value="Training…", interactive=False) if going else _start_button(),
            view.buttons.stop: _stop_button(going, run.stop_requested),
            view.resume: gr.update(visible=run.can_go_on and context.is_own(run, token)),
            view.section.timer: gr.Timer(active=going),
            view.section.seen: shown | {"version": version},
        }
    )


def _gone(view: _View) -> Updates:
    return {
        view.status: EMPTY,
        view.box: gr.update(visible=False),
        view.buttons.start: _start_button(),
        view.buttons.stop: _stop_button(False),
        view.resume: gr.update(visible=False),
        view.section.timer: gr.Timer(active=False),
        view.section.seen: {},
        view.section.finished: "",
    }


def _start_button() -> Any:
    return gr.update(value="Start", interactive=True)


def _stop_button(going: bool, asked: bool = False) -> Any:
    return gr.update(value="Stopping…" if going and asked else "Stop", interactive=going and not asked)
