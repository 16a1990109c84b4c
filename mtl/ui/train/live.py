"""Section 3 of the Train tab: Start, Stop, and the run as it goes on."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.config import RunConfig
from mtl.errors import CheckpointError, DataError, UserError
from mtl.reports.plots import epochs, loss_curves, score_curves
from mtl.runs.progress import duration, progress
from mtl.runs.store import Run, Status
from mtl.settings import settings
from mtl.ui import html
from mtl.ui.context import AppContext, check_allowed, guarded
from mtl.ui.live_plot import live_plot
from mtl.ui.train.checks import near_groups
from mtl.ui.train.data import DataSection
from mtl.ui.train.plan import PlanSection, form_inputs, form_values
from mtl.ui.uploads import read_data

EMPTY = html.empty(
    "Nothing is training", "Choose a file on the left, or use the sample, then press Start. The curves appear here."
)
POLL_SECONDS = 2 if settings().public else 1


@dataclass(frozen=True)
class LiveSection:
    """The components other sections need.

    Attributes:
        run: State: the name of the run that is shown.
        token: State: the visitor's secret.
        finished: State: the name of a run whose end was seen; its change refreshes pickers and results.
    """

    run: gr.State
    token: gr.State
    finished: gr.State


def build_buttons() -> tuple[gr.Button, gr.Button]:
    """Lay out Start and Stop under the form."""
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Start", variant="primary", elem_id="start", scale=3)
        stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1, interactive=False)
    return start, stop


def build(
    context: AppContext, blocks: gr.Blocks, data: DataSection, plan: PlanSection, buttons: tuple[gr.Button, gr.Button]
) -> LiveSection:
    """Lay out the live view and wire starting, polling, stopping and finding a run again."""
    start, stop = buttons
    run, seen, token, finished = gr.State(""), gr.State(""), gr.State(""), gr.State("")
    remembered = gr.BrowserState({"run": "", "token": ""}, storage_key="mtl-run", secret="mtl-browser-state")
    timer = gr.Timer(POLL_SECONDS, active=False)
    gr.HTML('<h2 class="step"><span>3</span> Live</h2>')
    status = gr.HTML(EMPTY, elem_id="run-status")
    with gr.Column(visible=False, elem_id="curves") as curves:
        loss = live_plot("Loss of each task over the steps", elem_id="loss-plot")
        scores = live_plot("Macro F1 of each task over the epochs", elem_id="score-plot")
        last = gr.HTML(elem_id="last-epoch")
    view = [status, curves, loss, scores, last, start, stop, timer, seen, finished]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}

    def start_from_form(values: dict[Any, Any]) -> tuple[Any, ...]:
        config = form_values(plan, data, values)
        return _started(context, config, values[data.files], values[run], values[token])

    started = start.click(
        guarded(start_from_form),
        form_inputs(plan, data) | {run, token},
        [run, token, remembered, start, stop, timer, seen],
        api_visibility="private",
        show_progress="minimal",
    )
    poll = guarded(lambda name, secret, version: _poll(context, name, secret, version))
    started.success(poll, [run, token, seen], view, **private)
    timer.tick(poll, [run, token, seen], view, **private)
    stop.click(guarded(lambda name, secret: _stopped(context, name, secret)), [run, token], stop, **private)
    attach = guarded(lambda kept: _attach(context, kept))
    attached = blocks.load(attach, remembered, [run, token, remembered, timer, seen], **private)
    attached.then(poll, [run, token, seen], view, **private)
    return LiveSection(run, token, finished)


def start(context: AppContext, config: RunConfig, files: Sequence[Sequence[str]], token: str = "") -> tuple[Run, str]:
    """Create a run and queue it.

    Args:
        context: The server's.
        config: As the person gave it.
        files: Path of each CSV file, and what the person calls it.
        token: The visitor's secret; on a shared page one is made if it is empty.

    Returns:
        The run and the secret that it now belongs to.

    Raises:
        UserError: The file or the configuration cannot be used.
    """
    if not files:
        raise DataError("Choose a CSV file first, or use the sample.")
    if settings().public and not token:
        token = secrets.token_urlsafe(32)
    table = read_data(files, check_allowed(config).data)
    names = [name for _, name in files]
    run = context.store.create(config, table, near=near_groups(files, config), files=names, token=token)
    context.queue.submit(run)
    return run, token


def _started(
    context: AppContext, config: RunConfig, files: list[list[str]], current: str, token: str
) -> tuple[Any, ...]:
    shown = _find(context, current, token)
    if shown and not shown.status.is_final:
        raise CheckpointError("Your run is still going on. Stop it first, or wait for its end.")
    run, token = start(context, config, files, token)
    kept = {"run": run.name, "token": token}
    busy = gr.update(value="Training…", interactive=False)
    return run.name, token, kept, busy, gr.update(interactive=True), gr.Timer(active=True), ""


def _find(context: AppContext, name: str, token: str) -> Run | None:
    """Return a visitor's run, or None if there is no such run any more."""
    try:
        return context.open(name, token)
    except UserError:
        return None


def stop(context: AppContext, name: str, token: str) -> None:
    """Stop a visitor's run.

    Raises:
        CheckpointError: There is no such run, or it is another visitor's.
    """
    context.queue.stop(context.open(name, token))


def _stopped(context: AppContext, name: str, token: str) -> Any:
    stop(context, name, token)
    return gr.update(value="Stopping…", interactive=False)


def _attach(context: AppContext, kept: Any) -> tuple[Any, ...]:
    """Find the visitor's run again: the one their browser remembers, else, on a page of one's own, the active one."""
    kept = kept if isinstance(kept, dict) else {}
    name, token = str(kept.get("run") or ""), str(kept.get("token") or "")
    if settings().public and not token:
        token = secrets.token_urlsafe(32)  # now and not at Start, so that two windows of one visitor share it
    found = _find(context, name, token)
    if (found is None or found.status.is_final) and not settings().public:
        found = next(iter(context.queue.active()), found)
    name = found.name if found else ""
    return name, token, {"run": name, "token": token}, gr.Timer(active=bool(name)), ""


def _poll(context: AppContext, name: str, token: str, seen: str) -> tuple[Any, ...]:
    """Draw the run if anything changed since the last look; `seen` is the version that the page shows."""
    if not name:
        return (*[gr.skip()] * 7, gr.Timer(active=False), "", gr.skip())
    run = _find(context, name, token)
    if run is None:  # deleted meanwhile, or on another machine
        nothing = [gr.skip()] * 3
        buttons = _start_button(), _stop_button(False)
        return EMPTY, gr.update(visible=False), *nothing, *buttons, gr.Timer(active=False), "", ""
    status = run.status  # before the journal: a final status means that the journal is complete
    history = context.history(run)
    ahead = context.queue.position(run)
    version = f"{name}:{status.state}:{status.phase}:{len(history.events)}:{ahead}:{run.stop_requested}"
    if version == seen:
        return tuple([gr.skip()] * 10)
    going = not status.is_final
    return (
        status_html(run, status, history.events, history.timings, ahead),
        gr.update(visible=bool(history.events)),
        loss_curves(history.events),
        score_curves(history.events),
        _last_epoch(history.events),
        gr.update(value="Training…", interactive=False) if going else _start_button(),
        _stop_button(going, run.stop_requested),
        gr.Timer(active=going),
        version,
        gr.skip() if going else name,
    )


def _start_button() -> Any:
    return gr.update(value="Start", interactive=True)


def _stop_button(going: bool, asked: bool = False) -> Any:
    return gr.update(value="Stopping…" if going and asked else "Stop", interactive=going and not asked)


def status_html(
    run: Run, status: Status, events: list[dict[str, Any]], timings: list[dict[str, Any]], ahead: int
) -> str:
    """Draw where a run stands: a headline, a progress bar, the time left, and what one should know."""
    now = progress(status, events, timings, ahead)
    left = f" · {duration(now.seconds_left)} left" if now.seconds_left is not None else ""
    begin = next((event for event in events if event["event"] == "RunBegin"), None)
    warnings = list(begin["warnings"]) if begin else []
    facts = []
    if begin:
        numerics = begin["numerics"]
        facts = [
            ("learning", f"{begin['trainable'] / 1e6:.2f} M of {begin['parameters'] / 1e6:.2f} M"),
            ("computed", f"{numerics['device']}, {numerics['precision']}"),
        ]
    return (
        f'<div class="status {status.state}" role="status" aria-live="polite">'
        f'<div class="headline"><span class="dot"></span><b>{html.escape(now.headline)}</b>'
        f"<span>{html.escape(now.detail)}{html.escape(left)}</span></div>"
        f"{html.bar(now.fraction or 0.0, 'progress of the run')}"
        f"{html.chips([('run', run.name), *facts])}{html.notes(warnings, 'problem')}</div>"
    )


def _last_epoch(events: list[dict[str, Any]]) -> str:
    """Draw the last epoch's scores beside the best one's epoch."""
    ends = epochs(events)
    if not ends:
        return ""
    last = ends[-1]
    best = max((event["epoch"] for event in ends if event["improved"]), default=None)
    side = last["validation"] or last["train"]
    rows = [
        (task, f"{side['losses'][task]:.3f}", f"{score['accuracy']:.3f}", f"{score['macro_f1']:.3f}")
        for task, score in side["scores"].items()
    ]
    what = "validation" if last["validation"] else "training"
    caption = f"Epoch {last['epoch']}, {what}; the best so far is epoch {best}"
    return html.table(["task", "loss", "accuracy", "macro F1"], rows, caption=caption)
